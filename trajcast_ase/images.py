"""Atoms with their periodic images, sorted into boxes, for sums over many pairs.

A list of all pairs within 9 Å holds hundreds for each atom. Sums that need a pair only
once go through the boxes instead (:mod:`.network.cpu.surroundings`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trajcast_ase.box import Box
from trajcast_ase.neighbors import FEW_ATOMS

BOXES_PER_CUTOFF = 2
MOST_BOXES_PER_AXIS = 64


@dataclass(frozen=True, slots=True)
class BoxedPoints:
    """Points of one system in the order of their boxes.

    Attributes
    ----------
    positions : (3, n_points), Å
        One row for each axis.
    atoms : (n_points,) int64
        The atom of which each point is an image.
    homes : (n_atoms,) int64
        Which point is the atom itself.
    starts : (n_boxes + 1,) int64
        Box b has the points ``starts[b]`` to ``starts[b + 1] - 1``.
    boxes : (n_atoms, 3) int64
        In which box each atom is.
    shape : (3,) int64
        Boxes along each axis; they are numbered with the last axis fastest.
    reach : (3,) int64
        Within how many boxes to either side every neighbor lies.
    """

    positions: Float[np.ndarray, "3 points"]
    atoms: Int[np.ndarray, " points"]
    homes: Int[np.ndarray, " atoms"]
    starts: Int[np.ndarray, " boxes_and_one"]
    boxes: Int[np.ndarray, "atoms 3"]
    shape: Int[np.ndarray, 3]
    reach: Int[np.ndarray, 3]


def boxed_points(
    positions: Float[np.ndarray, "atoms 3"], box: Box, cutoff: float
) -> BoxedPoints:
    """Return the atoms of one system and all images within `cutoff` (Å) of its cell."""
    n_atoms = len(positions)
    if n_atoms <= FEW_ATOMS and not np.any(box.pbc):
        return _in_one_box(positions)
    points, atoms = _with_images(box.wrap(positions), box, cutoff)
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    size = np.maximum(cutoff / BOXES_PER_CUTOFF, extent / MOST_BOXES_PER_AXIS)
    shape = np.floor(extent / size).astype(np.int64) + 1
    boxes = np.minimum(((points - low) / size).astype(np.int64), shape - 1)
    number = (boxes[:, 0] * shape[1] + boxes[:, 1]) * shape[2] + boxes[:, 2]
    order = np.argsort(number, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    counts = np.bincount(number, minlength=int(shape.prod()))
    return BoxedPoints(
        positions=np.ascontiguousarray(points[order].T),
        atoms=atoms[order],
        homes=place[:n_atoms],
        starts=np.concatenate([[0], np.cumsum(counts)]),
        boxes=np.ascontiguousarray(boxes[:n_atoms]),
        shape=shape,
        reach=np.ceil(cutoff / size).astype(np.int64),
    )


def _in_one_box(positions: Float[np.ndarray, "atoms 3"]) -> BoxedPoints:
    """Return isolated atoms as they are, all of them in the only box."""
    atoms = np.arange(len(positions))
    return BoxedPoints(
        positions=np.ascontiguousarray(positions.T),
        atoms=atoms,
        homes=atoms,
        starts=np.array([0, len(positions)]),
        boxes=np.zeros(positions.shape, dtype=np.int64),
        shape=np.ones(3, dtype=np.int64),
        reach=np.zeros(3, dtype=np.int64),
    )


def _with_images(
    positions: Float[np.ndarray, "atoms 3"], box: Box, cutoff: float
) -> tuple[Float[np.ndarray, "points 3"], Int[np.ndarray, " points"]]:
    """Return the atoms, their images as far as they can matter, and whose they are."""
    points, atoms = positions, np.arange(len(positions))
    for axis in np.flatnonzero(box.pbc):
        scaled = points @ box.inverse[:, axis]
        margin = cutoff / box.heights[axis]
        parts = [(points, atoms)]
        for shift in range(1, int(np.ceil(margin)) + 2):
            for cells in (-shift, shift):
                moved = scaled + cells
                near = (moved >= -margin) & (moved <= 1.0 + margin)
                parts.append((points[near] + cells * box.cell[axis], atoms[near]))
        points, atoms = (np.concatenate(part) for part in zip(*parts, strict=True))
    return points, atoms
