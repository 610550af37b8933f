"""How much memory strides on a device need, and what is said of too little."""

from __future__ import annotations

import torch

from trajcast_ase.device.candidates import AllPairs, Boxes
from trajcast_ase.device.forecast import NetworkModel
from trajcast_ase.device.out_of_memory import WAY_OUT
from trajcast_ase.device.stride import DeviceStride

BYTES_OF_CANDIDATE = 200
"""Indices, images, vectors and what lies between, in float64 and int64."""
BYTES_OF_PLACE = 160
"""Of one place in a list, beside what the network computes there."""
MIB = 2**20


def estimated_bytes(stride: DeviceStride) -> int:
    """Return about how much memory a stride needs beside the network's parameters."""
    model = stride.model
    if not isinstance(model, NetworkModel):
        return 0
    candidates = sum(
        _n_candidates(part, model.rooms.pairs.box) for part in model.plan.parts
    )
    config = model.network.config
    harmonics = (config.lmax + 1) ** 2
    width = 4 if model.network.dtype == torch.float32 else 8
    places = model.rooms.pairs.edges + model.rooms.edges
    of_place = BYTES_OF_PLACE + width * harmonics
    if model.layers is None:
        # Layer by layer, torch writes the messages and weights of every edge.
        rows = 2 * 6 * harmonics
        of_place += 3 * width * rows * config.n_channels
    # Sums of one layer for each atom: rows of channels by path.
    of_atom = 4 * width * 6 * harmonics * config.n_channels
    n_atoms = stride.frame.n_atoms
    return candidates * BYTES_OF_CANDIDATE + places * of_place + n_atoms * of_atom


def check_memory(stride: DeviceStride) -> None:
    """Raise MemoryError where a GPU has too little memory for a stride.

    Raises
    ------
    MemoryError
        The text says how many atoms fit.
    """
    device = stride.frame.device
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Torch keeps what it has no use for; the driver counts that as taken.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free += kept
        require(estimated_bytes(stride), free, stride.frame.n_atoms, device)


def require(needed: int, free: int, n_atoms: int, device: torch.device) -> None:
    """Raise MemoryError if `needed` bytes are more than are `free`."""
    if needed > free:
        fits = int(n_atoms * free / needed)
        raise MemoryError(
            f"a stride of {n_atoms} atoms needs about {needed // MIB} MiB on {device}, "
            f"where {free // MIB} MiB are free: about {fits} atoms fit; {WAY_OUT}"
        )


def _n_candidates(part: AllPairs | Boxes, room: int) -> int:
    """Return how many pairs a search compares."""
    if isinstance(part, AllPairs):
        return len(part.pairs.receivers)
    return len(part.atoms) * part.adjacent.shape[1] * room * part.images.shape[1]
