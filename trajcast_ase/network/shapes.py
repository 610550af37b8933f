"""Shapes of a network's tensors, from its configuration, before anything is built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from trajcast_ase.network.irreps import Irrep, Irreps, ProductRule, harmonics_irreps

if TYPE_CHECKING:
    from trajcast_ase.network.config import ForecasterConfig

Shape = tuple[int, ...]
NamedShapes = Iterator[tuple[str, Shape]]


def tensor_shapes(config: ForecasterConfig) -> dict[str, Shape]:
    """Return names and shapes of all tensors of ``Forecaster(config).state_dict()``."""
    n_channels, quarter = config.n_channels, config.n_channels // 4
    return {
        **dict(_of_embedding(config)),
        **dict(_of_surroundings(config)),
        **dict(_of_layers(config)),
        "compression.weight": (n_channels * quarter,),
        "readout.weight": (quarter * 2,),
    }


def n_numbers(config: ForecasterConfig) -> int:
    """Return how many numbers the tensors hold."""
    return sum(math.prod(shape) for shape in tensor_shapes(config).values())


def _of_embedding(config: ForecasterConfig) -> NamedShapes:
    n_species, n_basis = len(config.elements), config.n_velocity_rbf
    n_channels, lmax = config.n_channels, config.lmax
    yield "edge_basis.roots", (config.n_edge_rbf,)
    yield "speed.weight", (n_basis, n_species, n_basis)
    if config.velocity_encoding == "thermal":
        yield "embedding.scalars", (n_species + n_basis, n_channels)
        yield "embedding.vectors", (lmax, n_species, n_channels)
    else:
        yield "embedding.linear.weight", ((n_species + n_basis + lmax) * n_channels,)


def _of_surroundings(config: ForecasterConfig) -> NamedShapes:
    if config.surroundings_cutoff is None:
        return
    n_species, n_channels = len(config.elements), config.n_channels
    n_basis = config.n_surroundings_rbf
    n_paths = ProductRule((Irrep(0, 1),), config.lmax).n_paths
    yield "surroundings.senders", (n_species, n_channels)
    yield "surroundings.basis.roots", (n_basis,)
    widths = (n_basis, *config.edge_mlp, n_paths * n_channels)
    yield from _of_perceptron("surroundings.mlp", widths)
    size = (config.lmax + 1) * n_channels**2 * n_species
    yield "surroundings.receivers.weight", (size,)


def _of_layers(config: ForecasterConfig) -> NamedShapes:
    irreps = harmonics_irreps(config.lmax)
    for k in range(config.n_layers):
        edge_rule = ProductRule(irreps, config.lmax, config.parity)
        velocity_rule = ProductRule(edge_rule.irreps_out, config.lmax, config.parity)
        yield from _of_layer(config, f"layers.{k}", edge_rule, velocity_rule)
        irreps = velocity_rule.irreps_out


def _of_layer(
    config: ForecasterConfig,
    name: str,
    edge_rule: ProductRule,
    velocity_rule: ProductRule,
) -> NamedShapes:
    n = config.n_channels
    widths = (config.n_edge_rbf, *config.edge_mlp, edge_rule.n_paths * n)
    yield from _of_perceptron(f"{name}.edge_mlp", widths)
    yield f"{name}.contraction.weight", (edge_rule.n_paths * n**2,)
    widths = (config.n_velocity_rbf, *config.velocity_mlp, velocity_rule.n_paths * n)
    yield from _of_perceptron(f"{name}.velocity_mlp", widths)
    n_scalar_paths = sum(path.out == Irrep(0, 1) for path in velocity_rule.paths)
    gates = n_scalar_paths * _n_gated(velocity_rule.irreps_out)
    yield f"{name}.update.weight", ((velocity_rule.n_paths + gates) * n**2,)
    size = len(edge_rule.irreps) * n**2 * len(config.elements)
    yield f"{name}.residual.weight", (size,)


def _n_gated(irreps: Irreps) -> int:
    return sum(irrep.l > 0 for irrep in irreps)


def _of_perceptron(name: str, widths: tuple[int, ...]) -> NamedShapes:
    for depth, shape in enumerate(pairwise(widths)):
        yield f"{name}.weights.{depth}", shape
