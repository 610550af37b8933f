"""The weights of the products where perceptrons give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trajcast_ase.neighbors import Edges
from trajcast_ase.network.interaction import Graph, Interaction, LayerWeights
from trajcast_ase.network.radial import BesselBasis
from trajcast_ase.network.weights import SampledLengths

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster

FEW_EDGES = 1024
"""Both directions of as many pairs as a grid has points."""


def perceptron_weights(
    network: Forecaster, graph: Graph, edges: Edges
) -> Iterator[LayerWeights]:
    """Yield the weights of each layer."""
    lengths = sampled_lengths(network, network.edge_basis, edges)
    for layer in network.layers:
        assert isinstance(layer, Interaction)  # noqa: S101  for the type checker
        yield LayerWeights(
            lengths.weights(layer.edge_mlp),
            layer.velocity_weights(graph.velocity_radial),
        )


def sampled_lengths(
    network: Forecaster, basis: BesselBasis, edges: Edges
) -> SampledLengths:
    """Return where the perceptrons that give edges their weights are evaluated.

    On a grid where the backend allows it, unless there are so few edges that it has
    more points. Else at each distinct length.
    """
    lengths = edges.vectors.norm(dim=1)
    many = len(lengths) > FEW_EDGES and not lengths.requires_grad
    on_grid = many and network.uses_grids
    sampled = SampledLengths.on_grid if on_grid else SampledLengths.distinct
    return sampled(basis, lengths)
