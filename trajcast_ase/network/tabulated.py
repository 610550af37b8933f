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
        edge_places: dict[int, Places] = {}
        for layer, tables in zip(network.layers, self.layers, strict=True):
            assert isinstance(layer, Interaction)  # noqa: S101  for the type checker
            edge, velocity = tables.edge, tables.velocity
            if edge is not None and edge.n_intervals not in edge_places:
                edge_places[edge.n_intervals] = edge.places(lengths)
            yield LayerWeights(
                layer.edge_weights(network.edge_basis(lengths.to(network.dtype)))
                if edge is None
                else TabulatedWeights(edge, edge_places[edge.n_intervals]),
                layer.velocity_weights(graph.velocity_radial)
                if velocity is None
                else TabulatedWeights(velocity, velocity.places(graph.speeds, species)),
            )


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
    return tuple((p.data_ptr(), p._version) for p in network.parameters())  # noqa: SLF001


def _double(module: Module) -> Module:
    return copy.deepcopy(module).double()
