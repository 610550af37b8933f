"""The weights of a layer by edge length and by speed, tabulated."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from trajcast_ase.network.embedding import SpeedEmbedding
from trajcast_ase.network.inference.tables import (
    LEAST_LENGTH,
    Function,
    Table,
    tabulate,
)
from trajcast_ase.network.interaction import Interaction
from trajcast_ase.network.radial import MLP, BesselBasis
from trajcast_ase.network.surroundings import Surroundings

TAIL = 5.0
"""Widths of the last Gaussian beyond which a speed has no influence."""
Module = TypeVar("Module", bound=nn.Module)


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


def layer_tables(
    layer: Interaction, basis: BesselBasis, speed: SpeedEmbedding, dtype: torch.dtype
) -> LayerTables:
    """Return the tables of a layer with its present parameters."""
    device = basis.roots.device
    basis, speed = _double(basis), _double(speed)
    by_length = _composed(_double(layer.edge_mlp), basis)
    by_speed = _by_element(_double(layer.velocity_mlp), speed)
    return LayerTables(
        _on(device, tabulate([by_length], LEAST_LENGTH, basis.cutoff, dtype)),
        _on(device, tabulate(by_speed, 0.0, _end(speed), dtype)),
    )


def surroundings_table(module: Surroundings, dtype: torch.dtype) -> Table | None:
    """Return the tables of the weights of the surroundings, one for each species."""
    exact = _double(module)
    functions = [_of_species(exact, k) for k in range(len(module.senders))]
    table = tabulate(functions, LEAST_LENGTH, exact.basis.cutoff, dtype)
    return _on(module.senders.device, table)


def _on(device: torch.device, table: Table | None) -> Table | None:
    return None if table is None else table.to(device)


def _of_species(module: Surroundings, species: int) -> Function:
    return lambda lengths: module.weights_by_species(lengths)[species]


def _composed(mlp: MLP, basis: BesselBasis) -> Function:
    return lambda lengths: mlp(basis(lengths))


def _by_element(mlp: MLP, speed: SpeedEmbedding) -> list[Function]:
    """Return the weights as functions of the speed, one for each element."""
    one_hots = torch.eye(speed.weight.shape[1], dtype=torch.float64, device="cpu")

    def function(one_hot: Tensor) -> Function:
        return lambda speeds: mlp(speed(speeds, one_hot.expand(len(speeds), -1)))

    return [function(one_hot) for one_hot in one_hots]


def _end(speed: SpeedEmbedding) -> float:
    """Return the speed beyond which the embedding is zero."""
    return float(speed.basis.centers[-1]) + TAIL * speed.basis.width


def _double(module: Module) -> Module:
    """Return a copy in float64 on the CPU, where the points of grids are."""
    return copy.deepcopy(module).to("cpu", torch.float64)
