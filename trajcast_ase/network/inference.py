"""The layers of a network without gradients: tables and folded matrices.

What depends on the parameters alone is computed once: tables of the weights of the
products (float32; in float64 they come from the perceptrons, which are exact), and the
linear maps with all constant factors in them. A compiled kernel then does a layer at a
time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trajcast_ase.network.embedding import SpeedEmbedding
from trajcast_ase.network.interaction import Graph, Interaction, IrrepLinear
from trajcast_ase.network.irreps import Irreps
from trajcast_ase.network.kernels.generate_layer import EVEN, ODD, LayerShape
from trajcast_ase.network.kernels.layer import (
    CompiledLayer,
    LayerInputs,
    LayerMatrices,
)
from trajcast_ase.network.radial import BesselBasis
from trajcast_ase.network.surroundings import Surroundings
from trajcast_ase.network.tables import Grid, Places, Table
from trajcast_ase.network.tabulated import (
    LayerTables,
    layer_tables,
    surroundings_table,
)
from trajcast_ase.network.weights import SampledLengths, WeightRows

Parameters = dict[str, nn.Parameter | None]
Version = tuple[tuple[int, int], ...]


class Network(Protocol):
    """What is read of a network."""

    edge_basis: BesselBasis
    speed: SpeedEmbedding
    surroundings: Surroundings | None
    layers: nn.ModuleList

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""

    def modules(self) -> Iterator[nn.Module]:
        """Yield all modules."""


@dataclass(frozen=True, slots=True)
class InferenceLayer:
    """One layer, ready to run.

    Attributes
    ----------
    compiled : CompiledLayer
    tables : LayerTables
    """

    compiled: CompiledLayer
    tables: LayerTables


@dataclass(frozen=True, slots=True)
class Inference:
    """All layers, ready to run.

    Attributes
    ----------
    layers : tuple of InferenceLayer
    surroundings : Table or None
        Weights of the sums over the surroundings, one group for each species.
    owners : tuple of dict
        The parameters of each module, by name, as they are now.
    version : tuple
        Of the parameters that the layers were made from.
    """

    layers: tuple[InferenceLayer, ...]
    surroundings: Table | None
    owners: tuple[Parameters, ...]
    version: Version

    @property
    def is_current(self) -> bool:
        """Whether the parameters are still those that the layers were made from."""
        return self.version == _version(self.owners)

    @property
    def needs_edge_weights(self) -> bool:
        """Whether the perceptron of any layer has to compute weights of edges."""
        return any(layer.tables.edge is None for layer in self.layers)

    def __call__(
        self,
        network: Network,
        x: Float[Tensor, "atoms dim channels"],
        lengths: Float[Tensor, " edges"],
        graph: Graph,
    ) -> Float[Tensor, "atoms dim_out channels"]:
        """Return the features of the last layer, of the irreps that it was made for.

        Parameters
        ----------
        network : Network
        x : (n_atoms, dim, n_channels)
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
            x = layer.compiled(x, inputs, edge, velocity)
        return x

    def _weights(
        self, network: Network, lengths: Float[Tensor, " edges"], graph: Graph
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
                edge = _looked_up(tables.edge, of_edges, lengths)
            else:
                edge = exact.weights(module.edge_mlp)
            if tables.velocity is None:
                values = module.velocity_mlp(graph.velocity_radial)
                velocity = WeightRows(values, torch.arange(len(values)))
            else:
                velocity = _looked_up(tables.velocity, of_atoms, graph.speeds, species)
            yield edge, velocity


def _looked_up(
    table: Table,
    known: dict[Grid, Places],
    points: Float[Tensor, " values"],
    groups: Tensor | None = None,
) -> WeightRows:
    """Return weights at `points`; layers with equal grids share the `known` places."""
    if table.grid not in known:
        known[table.grid] = table.grid.places(points, groups)
    return WeightRows.at(table.values, known[table.grid])


@torch.no_grad()
def inference(network: Network, outputs: Irreps) -> Inference:
    """Return the layers of a network with its present parameters.

    Parameters
    ----------
    network : Network
    outputs : Irreps
        Of the last layer, that anyone reads; the others are not computed.
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
        compiled = CompiledLayer(shape, folded(layer, shape))
        ready.append(InferenceLayer(compiled, tables))
    # Every step asks for the version: walking through the modules would take longer.
    owners = tuple(module._parameters for module in network.modules())  # noqa: SLF001
    around = None
    if tabulated and network.surroundings is not None:
        around = surroundings_table(network.surroundings, network.dtype)
    return Inference(tuple(ready), around, owners, _version(owners))


def folded(layer: Interaction, shape: LayerShape) -> LayerMatrices:
    r"""Return the matrices of a layer with their constant factors.

    The new features are :math:`(\text{update} + \text{residual}) / \sqrt{2}`.
    """
    weight = layer.residual.weight.view(layer.residual.shape).double()
    _, n_channels, n_species, _ = layer.residual.shape
    kept = [layer.residual.irreps.index(irrep) for irrep in shape.residuals]
    residual = weight[kept].permute(2, 0, 1, 3) / math.sqrt(2 * n_species * n_channels)
    update = torch.cat([m.flatten() for m in _update(layer, shape)])
    contraction = torch.cat([m.flatten() for m in _matrices(layer.contraction)])
    return LayerMatrices(
        *(
            matrix.to(layer.residual.weight.dtype).contiguous()
            for matrix in (contraction, update, residual)
        )
    )


def _update(layer: Interaction, shape: LayerShape) -> Iterator[Tensor]:
    """Yield the matrices of the update that are needed, gated ones with their norm."""
    gated = [irrep for irrep in layer.irreps_out if irrep.l > 0]
    matrices = dict(zip(layer.irreps_out, _matrices(layer.update), strict=True))
    for irrep in shape.updated:
        matrix = matrices[irrep]
        if irrep == EVEN:
            scalars, *gates = torch.split(matrix, shape.n_channels, dim=1)
            gate_of = dict(zip(gated, gates, strict=True))
            own = [scalars] if EVEN in shape.outputs else []
            yield torch.cat([*own, *(gate_of[ir] for ir in shape.gated)], dim=1)
        elif irrep == ODD:
            yield matrix
        else:
            yield matrix / math.sqrt(2.0)


def _matrices(linear: IrrepLinear) -> list[Float[Tensor, "n_in n_out"]]:
    """Return the scaled matrix of each irrep, float64."""
    scaled = (linear.weight.double() * linear.scales.double()).split_with_sizes(
        linear.sizes
    )
    return [m.view(shape) for m, shape in zip(scaled, linear.shapes, strict=True)]


def _version(owners: tuple[Parameters, ...]) -> Version:
    """Return what changes with a parameter, unless it is written to by ``.data``."""
    return tuple(
        (parameter.data_ptr(), parameter._version)  # noqa: SLF001
        for parameters in owners
        for parameter in parameters.values()
        if parameter is not None
    )
