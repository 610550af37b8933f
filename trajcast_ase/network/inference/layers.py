"""The layers of a network without gradients: tables and folded matrices.

What depends on the parameters alone is computed once: tables of the weights of the
products (float32; in float64 they come from the perceptrons, which are exact), and the
linear maps with all constant factors in them. A kernel of the backend then does a layer
at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network.graph import NetworkInputs
from trajcast_ase.network.inference.matrices import LayerMatrices, folded
from trajcast_ase.network.inference.shape import LayerShape
from trajcast_ase.network.inference.tables import Grid, Places, Table
from trajcast_ase.network.inference.tabulated import (
    LayerTables,
    layer_tables,
    surroundings_table,
)
from trajcast_ase.network.interaction import Graph, Interaction
from trajcast_ase.network.irreps import Irreps
from trajcast_ase.network.weights import SampledLengths, WeightRows

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster

Parameters = dict[str, nn.Parameter | None]
Version = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """What a layer reads besides features, weights and matrices.

    Attributes
    ----------
    offsets : (n_atoms + 1,) int64
        The edges of receiver i are ``offsets[i]`` to ``offsets[i + 1] - 1``.
    senders : (n_edges,) int64
    species : (n_atoms,) int64
    edge_harmonics : (n_edges, (lmax + 1)²)
    velocity_harmonics : (n_atoms, (lmax + 1)²)
    """

    offsets: Int[Tensor, " atoms_and_one"]
    senders: Int[Tensor, " edges"]
    species: Int[Tensor, " atoms"]
    edge_harmonics: Float[Tensor, "edges harmonics"]
    velocity_harmonics: Float[Tensor, "atoms harmonics"]


class RunningLayer(Protocol):
    """One layer with its matrices, as a backend makes it."""

    def __call__(
        self,
        x: Float[Tensor, "atoms dim channels"],
        inputs: LayerInputs,
        edge: WeightRows,
        velocity: WeightRows,
    ) -> Float[Tensor, "atoms dim_out channels"]:
        """Return the features that go out."""


LayerMaker = Callable[[LayerShape, LayerMatrices], RunningLayer]
Locator = Callable[[Grid, Tensor, Tensor | None], Places]
"""Finds values in tables, by groups where there are several: ``Grid.places``."""


@dataclass(frozen=True, slots=True)
class ReadyLayer:
    """One layer, ready to run.

    Attributes
    ----------
    run : RunningLayer
    tables : LayerTables
    """

    run: RunningLayer
    tables: LayerTables


@dataclass(frozen=True, slots=True)
class Layers:
    """All layers, ready to run.

    Attributes
    ----------
    layers : tuple of ReadyLayer
    surroundings : Table or None
        Weights of the sums over the surroundings, one group for each species.
    owners : tuple of dict
        The parameters of each module, by name, as they are now.
    version : tuple
        Of the parameters that the layers were made from.
    locate : callable
        What finds lengths and speeds in the tables.
    """

    layers: tuple[ReadyLayer, ...]
    surroundings: Table | None
    owners: tuple[Parameters, ...]
    version: Version
    locate: Locator

    @property
    def is_current(self) -> bool:
        """Whether the parameters are still those that the layers were made from."""
        return self.version == _version(self.owners)

    @property
    def needs_edge_weights(self) -> bool:
        """Whether the perceptron of any layer has to compute weights of edges."""
        return any(layer.tables.edge is None for layer in self.layers)

    def __call__(
        self, network: Forecaster, inputs: NetworkInputs
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return displacement and velocity in units of their training rms.

        Parameters
        ----------
        network : Forecaster
        inputs : NetworkInputs
        """
        graph = inputs.graph(network)
        x = network.first_features(graph, inputs.around)
        lengths = inputs.vectors.norm(dim=1)
        return network.read_out(self.features(network, x, lengths, graph))

    def features(
        self,
        network: Forecaster,
        x: Float[Tensor, "atoms dim channels"],
        lengths: Float[Tensor, " edges"],
        graph: Graph,
    ) -> Float[Tensor, "atoms dim_out channels"]:
        """Return the features of the last layer, of the irreps that it was made for.

        Parameters
        ----------
        network : Forecaster
        x : (n_atoms, dim, n_channels)
            Features that enter the first layer.
        lengths : (n_edges,) float64, Å
        graph : Graph
        """
        inputs = LayerInputs(
            graph.routes.offsets,
            graph.routes.senders,
            graph.species,
            graph.edge_harmonics,
            graph.velocity_harmonics,
        )
        weights = self._weights(network, lengths, graph)
        for layer, (edge, velocity) in zip(self.layers, weights, strict=True):
            x = layer.run(x, inputs, edge, velocity)
        return x

    def _weights(
        self, network: Forecaster, lengths: Float[Tensor, " edges"], graph: Graph
    ) -> Iterator[tuple[WeightRows, WeightRows]]:
        """Yield the weights of both products of each layer."""
        species = graph.species
        of_edges: dict[Grid, Places] = {}
        of_atoms: dict[Grid, Places] = {}
        exact = (
            SampledLengths.distinct(network.edge_basis, lengths)
            if self.needs_edge_weights
            else None
        )
        for module, layer in zip(network.layers, self.layers, strict=True):
            assert isinstance(module, Interaction)  # noqa: S101  for the type checker
            tables = layer.tables
            if exact is None or tables.edge is not None:
                assert tables.edge is not None  # noqa: S101  for the type checker
                edge = self._looked_up(tables.edge, of_edges, lengths)
            else:
                edge = exact.weights(module.edge_mlp)
            if tables.velocity is None:
                values = module.velocity_mlp(graph.velocity_radial)
                every = torch.arange(len(values), device=values.device)
                velocity = WeightRows(values, every)
            else:
                velocity = self._looked_up(
                    tables.velocity, of_atoms, graph.speeds, species
                )
            yield edge, velocity

    def _looked_up(
        self,
        table: Table,
        known: dict[Grid, Places],
        points: Float[Tensor, " values"],
        groups: Tensor | None = None,
    ) -> WeightRows:
        """Return weights at `points`; layers of equal grids share `known` places."""
        if table.grid not in known:
            known[table.grid] = self.locate(table.grid, points, groups)
        return WeightRows.at(table.values, known[table.grid])


@torch.no_grad()
def ready_layers(
    network: Forecaster,
    outputs: Irreps,
    make: LayerMaker,
    locate: Locator = Grid.places,
) -> Layers:
    """Return the layers of a network with its present parameters.

    Parameters
    ----------
    network : Forecaster
    outputs : Irreps
        Of the last layer, that anyone reads; the others are not computed.
    make : callable
        Gives a layer from its shape and matrices.
    locate : callable
        What finds lengths and speeds in the tables.
    """
    layers: Sequence[Interaction] = list(network.layers)  # type: ignore[arg-type]
    tabulated = network.dtype == torch.float32
    ready = []
    for layer in layers:
        is_last = layer is layers[-1]
        shape = LayerShape(
            layer.residual.irreps,
            outputs if is_last else layer.irreps_out,
            layer.edge_product.rule.lmax,
            layer.n_channels,
            layer.edge_product.rule.parity,
        )
        tables = (
            layer_tables(layer, network.edge_basis, network.speed, network.dtype)
            if tabulated
            else LayerTables(None, None)
        )
        ready.append(ReadyLayer(make(shape, folded(layer, shape)), tables))
    # Every step asks for the version: walking through the modules would take longer.
    every = (module._parameters for module in network.modules())  # noqa: SLF001
    owners = tuple(parameters for parameters in every if parameters)
    around = None
    if tabulated and network.surroundings is not None:
        around = surroundings_table(network.surroundings, network.dtype)
    return Layers(tuple(ready), around, owners, _version(owners), locate)


def _version(owners: tuple[Parameters, ...]) -> Version:
    """Return what changes with a parameter, unless it is written to by ``.data``.

    :meth:`.Forecaster.set_backend` tells users the way out.
    """
    return tuple(
        [
            (parameter.data_ptr(), _edition(parameter))
            if parameter.is_inference()
            else (parameter.data_ptr(), parameter._version)  # noqa: SLF001
            for parameters in owners
            for parameter in parameters.values()
            if parameter is not None
        ]
    )


def _edition(parameter: Tensor) -> int:
    """Return a number that changes when `parameter` is written to.

    Of those made under torch.inference_mode(), which are not counted; this is slower.
    """
    numbers = parameter.detach().contiguous().view(torch.uint8)
    return zlib.crc32(numbers.cpu().numpy().data)
