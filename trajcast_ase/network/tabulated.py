"""A network's weights by edge length and by speed, tabulated while they stay."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network.embedding import SpeedEmbedding
from trajcast_ase.network.interaction import Graph, Interaction, LayerWeights
from trajcast_ase.network.radial import MLP, BesselBasis
from trajcast_ase.network.tables import (
    Function,
    Places,
    Table,
    TabulatedWeights,
    tabulate,
)

LEAST_LENGTH = 0.05
"""Å. Shorter edges are extrapolated; no two atoms come as close."""
TAIL = 5.0
"""Widths of the last Gaussian beyond which a speed has no influence."""
Module = TypeVar("Module", bound=nn.Module)
Weights = Tensor | TabulatedWeights
Version = tuple[tuple[int, int], ...]


class TabulatedNetwork(Protocol):
    """What is tabulated of a network."""

    edge_basis: BesselBasis
    speed: SpeedEmbedding
    layers: nn.ModuleList

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield all parameters."""


@dataclass(frozen=True, slots=True)
class LayerTables:
    """Tables of one layer; None where its weights change too fast for one.

    Attributes
    ----------
    edge : Table or None
        By length, Å.
    velocity : Table or None
        By speed, in the units of the embedding; one group for each element.
    """

    edge: Table | None
    velocity: Table | None


@dataclass(frozen=True, slots=True)
class NetworkTables:
    """Tables of every layer.

    Attributes
    ----------
    layers : tuple of LayerTables
    version : tuple
        Of the parameters that they were made from.
    """

    layers: tuple[LayerTables, ...]
    version: Version

    def are_of(self, network: TabulatedNetwork) -> bool:
        """Return whether the parameters are still those of these tables."""
        return self.version == _version(network)

    def weights(
        self,
        network: TabulatedNetwork,
        vectors: Float[Tensor, "edges 3"],
        species: Int[Tensor, " atoms"],
        graph: Graph,
    ) -> Iterator[LayerWeights]:
        """Yield the weights of each layer, from perceptrons where there is no table."""
        lengths = vectors.double().norm(dim=1)
        of_edges: dict[int, Places] = {}
        of_atoms: dict[int, Places] = {}
        for layer, tables in zip(network.layers, self.layers, strict=True):
            assert isinstance(layer, Interaction)  # noqa: S101  for the type checker
            if tables.edge is None:
                radial = network.edge_basis(lengths.to(network.dtype))
                edge: Weights = layer.edge_weights(radial)
            else:
                edge = _looked_up(tables.edge, of_edges, lengths)
            if tables.velocity is None:
                velocity: Weights = layer.velocity_weights(graph.velocity_radial)
            else:
                velocity = _looked_up(tables.velocity, of_atoms, graph.speeds, species)
            yield LayerWeights(edge, velocity)


def _looked_up(
    table: Table,
    known: dict[int, Places],
    points: Float[Tensor, " values"],
    groups: Int[Tensor, " values"] | None = None,
) -> TabulatedWeights:
    """Return weights at `points`; layers with equal grids share the `known` places."""
    if table.n_intervals not in known:
        known[table.n_intervals] = table.places(points, groups)
    return TabulatedWeights(table, known[table.n_intervals])


@torch.no_grad()
def network_tables(network: TabulatedNetwork) -> NetworkTables:
    """Return the tables of a network with its present parameters."""
    basis, speed = _double(network.edge_basis), _double(network.speed)
    layers = []
    for layer in network.layers:
        assert isinstance(layer, Interaction)  # noqa: S101  for the type checker
        by_length = _composed(_double(layer.edge_mlp), basis)
        by_speed = _by_element(_double(layer.velocity_mlp), speed)
        layers.append(
            LayerTables(
                tabulate([by_length], LEAST_LENGTH, basis.cutoff, network.dtype),
                tabulate(by_speed, 0.0, _end(speed), network.dtype),
            )
        )
    return NetworkTables(tuple(layers), _version(network))


def _composed(mlp: MLP, basis: BesselBasis) -> Function:
    return lambda lengths: mlp(basis(lengths))


def _by_element(mlp: MLP, speed: SpeedEmbedding) -> list[Function]:
    """Return the weights as functions of the speed, one for each element."""
    one_hots = torch.eye(speed.weight.shape[1], dtype=torch.float64)

    def function(one_hot: Tensor) -> Function:
        return lambda speeds: mlp(speed(speeds, one_hot.expand(len(speeds), -1)))

    return [function(one_hot) for one_hot in one_hots]


def _end(speed: SpeedEmbedding) -> float:
    """Return the speed beyond which the embedding is zero."""
    return float(speed.basis.centers[-1]) + TAIL * speed.basis.width


def _version(network: TabulatedNetwork) -> Version:
    """Return what changes with a parameter, unless it is written to by ``.data``."""
    return tuple((p.data_ptr(), p._version) for p in network.parameters())  # noqa: SLF001


def _double(module: Module) -> Module:
    return copy.deepcopy(module).double()
