"""How a batch is searched for neighbors, decided once on the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trajcast_ase.box import Box
from trajcast_ase.device.candidates import AllPairs, Boxes, Candidates
from trajcast_ase.device.neighbors import Room, SearchPlan, search
from trajcast_ase.neighbors import boxes_of_systems
from trajcast_ase.state import State

MOST_BOXES_PER_AXIS = 64
FEWEST_ATOMS_OF_BOX = 4
SPARE = 0.3
"""Part of the present number of pairs that a list has room for beyond them."""
SPARE_EDGES = 64
ROUNDED_TO = 128
"""Edges; so that few sizes occur."""
# A ratio of cutoff and height that is off by rounding must not lose an image.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class _System:
    """One system as it is searched."""

    atoms: np.ndarray
    box: Box
    images: np.ndarray
    shape: np.ndarray
    origin: np.ndarray
    spans: np.ndarray
    fullest: int

    @property
    def is_small(self) -> bool:
        """Whether all pairs are fewer than those of adjacent boxes."""
        adjacent = int(np.prod(np.minimum(self.shape, 3)))
        return len(self.atoms) <= adjacent * _box_room(self.fullest)


def plan_search(state: State, cutoff: float) -> SearchPlan:
    """Return how to search `state`, at these or other positions.

    Raises
    ------
    ValueError
        A periodic system has a cell without volume, or one wider than 10 000 cutoffs.
    """
    boxes = boxes_of_systems(state, cutoff)
    positions = state.positions.detach().cpu().numpy()
    systems, start = [], 0
    for size, box in zip(state.sizes(), boxes, strict=True):
        atoms = np.arange(start, start + size)
        systems.append(_system(atoms, positions[start : start + size], box, cutoff))
        start += size
    small = [one for one in systems if one.is_small]
    large = [one for one in systems if not one.is_small]
    parts = [_all_pairs(small, state.device)] if small else []
    return SearchPlan(
        cutoff=cutoff,
        n_atoms=state.n_atoms,
        inverse=_tensor([box.inverse for box in boxes], state.device),
        cell=_tensor([box.cell for box in boxes], state.device),
        periodic=_tensor([box.pbc.astype(float) for box in boxes], state.device),
        system_index=state.system_index,
        parts=(*parts, *([_boxes(large, state.device)] if large else [])),
    )


def needed_room(plan: SearchPlan, state: State) -> Room:
    """Return the room that the pairs of `state` need; read by the host."""
    box = 1
    while True:
        found = search(plan, state.positions, Room(1, box))
        fullest = int(found.needed_box)
        if fullest <= box:
            return Room(int(found.needed_edges), fullest)
        box = fullest


def first_room(plan: SearchPlan, state: State) -> Room:
    """Return room for the pairs of `state` and what comes to them in a run."""
    return spacious(needed_room(plan, state))


def spacious(needed: Room) -> Room:
    """Return room for more than is needed now."""
    edges = int(needed.edges * (1 + SPARE)) + SPARE_EDGES
    return Room(-(-edges // ROUNDED_TO) * ROUNDED_TO, _box_room(needed.box))


def _box_room(fullest: int) -> int:
    return fullest + max(fullest // 2, FEWEST_ATOMS_OF_BOX) if fullest else 0


def _system(
    atoms: np.ndarray, positions: np.ndarray, box: Box, cutoff: float
) -> _System:
    """Return how one system is searched."""
    scaled = positions @ box.inverse
    low, extent = scaled.min(axis=0), np.ptp(scaled, axis=0)
    origin = np.where(box.pbc, 0.0, low)
    widths = np.where(box.pbc, box.heights, extent * box.heights)
    shape = np.clip(np.floor(widths / cutoff), 1, MOST_BOXES_PER_AXIS).astype(np.int64)
    # Boxes of open axes end with the outermost atoms, or are as wide as the cutoff.
    spans = np.where(box.pbc, 1.0, np.maximum(widths, cutoff) / box.heights)
    along = (scaled - origin) / spans
    along = np.where(box.pbc, along - np.floor(along), along)
    places = np.clip((along * shape).astype(np.int64), 0, shape - 1)
    _, counts = np.unique(places, axis=0, return_counts=True)
    fullest = int(counts.max())
    images = _images(box, cutoff)
    return _System(atoms, box, images, shape, origin, spans, fullest)


def _images(box: Box, cutoff: float) -> np.ndarray:
    """Return the cells that can be near after differences are reduced."""
    reach = np.floor(cutoff / box.heights + 0.5 + ROUNDING).astype(int) * box.pbc
    ranges = [np.arange(-n, n + 1) for n in reach]
    return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)


def _all_pairs(systems: list[_System], device: torch.device) -> AllPairs:
    receivers, senders, images, each = [], [], [], []
    for one in systems:
        n_atoms, n_images = len(one.atoms), len(one.images)
        i, j, k = np.meshgrid(
            np.arange(n_atoms), np.arange(n_atoms), np.arange(n_images), indexing="ij"
        )
        receivers.append(one.atoms[i.ravel()])
        senders.append(one.atoms[j.ravel()])
        images.append(one.images[k.ravel()].astype(float))
        each.append(np.full(n_atoms, n_atoms * n_images))
    ends = np.cumsum(np.concatenate(each))
    pairs = np.stack([np.concatenate(receivers), np.concatenate(senders)])
    shifts = np.concatenate(images)
    bounds = np.stack([np.concatenate([[0], ends[:-1]]), ends])
    return AllPairs(
        Candidates(
            receivers=_tensor(pairs[0], device),
            senders=_tensor(pairs[1], device),
            images=_tensor(shifts, device),
            exists=_tensor((pairs[0] != pairs[1]) | shifts.any(axis=1), device),
            atoms=_tensor(np.concatenate([one.atoms for one in systems]), device),
            bounds=_tensor(bounds, device),
            fullest_box=torch.zeros((), dtype=torch.int64, device=device),
        )
    )


def _boxes(systems: list[_System], device: torch.device) -> Boxes:
    sizes = [int(one.shape.prod()) for one in systems]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    nothing = sum(sizes)
    adjacent = [
        _adjacent(one, start, nothing)
        for one, start in zip(systems, first, strict=True)
    ]
    width = max(one.shape[1] for one in adjacent)
    n_images = max(len(one.images) for one in systems)
    images = np.zeros((len(systems), n_images, 3))
    for k, one in enumerate(systems):
        images[k, : len(one.images)] = one.images
    counts = np.array([len(one.images) for one in systems])
    rows = [_filled(one, width, nothing) for one in adjacent]
    return Boxes(
        atoms=_tensor(np.concatenate([one.atoms for one in systems]), device),
        systems=_tensor(
            np.repeat(np.arange(len(systems)), [len(one.atoms) for one in systems]),
            device,
        ),
        origin=_tensor([one.origin for one in systems], device),
        spans=_tensor([one.spans for one in systems], device),
        periodic=_tensor([one.box.pbc for one in systems], device),
        shape=_tensor([one.shape for one in systems], device),
        first=_tensor(first, device),
        adjacent=_tensor(np.concatenate([*rows, np.full((1, width), nothing)]), device),
        images=_tensor(images, device),
        image_exists=_tensor(np.arange(n_images) < counts[:, None], device),
    )


def _adjacent(one: _System, start: int, nothing: int) -> np.ndarray:
    """Return the boxes around each box of a system; `nothing` where there is none."""
    places = np.stack(
        np.meshgrid(*map(np.arange, one.shape), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    # Of two boxes along a periodic axis each is beside the other once, not twice.
    steps = [
        np.arange(n) if periodic and n <= 2 else np.array([-1, 0, 1])  # noqa: PLR2004
        for n, periodic in zip(one.shape, one.box.pbc, strict=True)
    ]
    around = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    beside = places[:, None] + around
    beside = np.where(one.box.pbc, beside % one.shape, beside)
    inside = ((beside >= 0) & (beside < one.shape)).all(axis=2)
    numbers = (beside[..., 0] * one.shape[1] + beside[..., 1]) * one.shape[2]
    return np.where(inside, start + numbers + beside[..., 2], nothing)


def _filled(rows: np.ndarray, width: int, nothing: int) -> np.ndarray:
    """Return `rows` with empty boxes up to `width`."""
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=nothing)


def _tensor(values: object, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values)).to(device)
