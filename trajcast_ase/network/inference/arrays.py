"""Whether arrays fit together, which kernels would read as raw memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trajcast_ase.network.graph import NetworkInputs
from trajcast_ase.network.inference.layers import LayerInputs
from trajcast_ase.network.inference.shape import LayerShape
from trajcast_ase.network.weights import WeightRows

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster


def check_arrays(  # noqa: PLR0917  all that a layer reads
    shape: LayerShape,
    like: Tensor,
    x: Tensor,
    inputs: LayerInputs,
    edge: WeightRows,
    velocity: WeightRows,
) -> None:
    """Raise ValueError for what a layer cannot read.

    Parameters
    ----------
    shape : LayerShape
    like : Tensor
        Of the type and on the device that all should have.
    x, inputs, edge, velocity
        As in :class:`.layers.RunningLayer`.
    """
    real, whole = like.dtype, torch.int64
    n_atoms, n_edges = x.shape[0], len(inputs.senders)
    n_channels, n_harmonics = shape.n_channels, shape.edge.n_harmonics
    of_edges, of_atoms = inputs.edge_harmonics, inputs.velocity_harmonics
    n_edge_weights = shape.edge.n_paths * n_channels
    n_velocity_weights = shape.velocity.n_paths * n_channels
    for name, tensor, dtype, *expected in (
        ("features", x, real, n_atoms, shape.edge.dim_in, n_channels),
        ("edge harmonics", of_edges, real, n_edges, n_harmonics),
        ("velocity harmonics", of_atoms, real, n_atoms, n_harmonics),
        ("edge weights", edge.values, real, None, n_edge_weights),
        ("velocity weights", velocity.values, real, None, n_velocity_weights),
        ("offsets", inputs.offsets, whole, n_atoms + 1),
        ("senders", inputs.senders, whole, n_edges),
        ("species", inputs.species, whole, n_atoms),
        ("edge rows", edge.rows, whole, n_edges),
        ("velocity rows", velocity.rows, whole, n_atoms),
    ):
        _check_array(name, tensor, dtype, like.device, expected)


def check_inputs(network: Forecaster, inputs: NetworkInputs) -> None:
    """Raise ValueError for what the program of a network cannot read.

    Parameters
    ----------
    network : Forecaster
    inputs : NetworkInputs
    """
    whole, double, around = torch.int64, torch.float64, inputs.around
    n_atoms, n_edges = inputs.species.shape[0], inputs.vectors.shape[0]
    device = network.device
    for name, tensor, dtype, expected in (
        ("species", inputs.species, whole, (n_atoms,)),
        ("velocities", inputs.velocities, double, (n_atoms, 3)),
        ("edges", inputs.vectors, double, (n_edges, 3)),
        ("offsets", inputs.routes.offsets, whole, (n_atoms + 1,)),
        ("senders", inputs.routes.senders, whole, (n_edges,)),
    ):
        _check_array(name, tensor, dtype, device, expected)
    if around is not None:
        shape = (n_atoms, (network.config.lmax + 1) ** 2, network.config.n_channels)
        _check_array("surroundings", around, network.dtype, device, shape)
    elif network.surroundings is not None:
        raise ValueError("the network needs the sums over its surroundings")


def _check_array(
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    device: torch.device,
    expected: Sequence[int | None],
) -> None:
    if tensor.dtype != dtype or tensor.device != device or not tensor.is_contiguous():
        raise ValueError(
            f"{name} must be contiguous, {dtype} and on {device}, but are "
            f"{tensor.dtype} on {tensor.device} with strides {tensor.stride()}"
        )
    fits = tensor.shape == expected or (
        len(tensor.shape) == len(expected)
        and all(
            wanted in {size, None}
            for size, wanted in zip(tensor.shape, expected, strict=True)
        )
    )
    if not fits:
        raise ValueError(
            f"{name} have shape {tuple(tensor.shape)}, not {tuple(expected)}"
        )
