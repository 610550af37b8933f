"""A cell with a vector along every axis: nearest images, wrapping, unwrapping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from ase.geometry import complete_cell, find_mic
from jaxtyping import Bool, Float, Int
from vesin import NeighborList

AXES = 3
# Volume of a cell relative to the box with vectors of the same lengths.
SMALLEST_VOLUME = 1e-6
# A cell that a program rounded in its output did not change.
CELL_TOLERANCE = 1e-6
# Part of the least height beyond which the image an atom moved to is a guess.
LONGEST_STEP = 0.4
# Keeps the temporary arrays of a long trajectory in the cache.
VECTORS_AT_ONCE = 1 << 15


@dataclass(frozen=True, slots=True)
class Box:
    """A constant cell with three independent vectors, and which axes are periodic.

    Attributes
    ----------
    cell : (3, 3), Å
        Rows are vectors; missing ones of axes that are not periodic are filled in.
    pbc : (3,) bool
    inverse : (3, 3), 1/Å
    heights : (3,), Å
        Distances between opposite faces.
    """

    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, 3]
    inverse: Float[np.ndarray, "3 3"]
    heights: Float[np.ndarray, 3]

    @classmethod
    def of(
        cls,
        cell: Float[np.ndarray, "*frames 3 3"] | None,
        pbc: Bool[np.ndarray, 3] | None,
    ) -> Self:
        """Return the box of a cell; None and None stand for an isolated system.

        Parameters
        ----------
        cell : (3, 3) or (n_frames, 3, 3), Å
            Vectors of axes that are not periodic may be zero.
        pbc : (3,) bool

        Raises
        ------
        ValueError
            Only one of the two is given, the cell changes, or a periodic system has a
            cell without volume.
        """
        if (cell is None) != (pbc is None):
            raise ValueError("cell and pbc belong together; give both or neither")
        if cell is None or pbc is None or not np.any(pbc):
            unit = np.eye(AXES)
            return cls(unit, np.zeros(AXES, dtype=bool), unit, np.ones(AXES))
        periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), AXES).copy()
        full = _full_cell(_constant(cell), periodic)
        inverse = np.linalg.inv(full)
        return cls(full, periodic, inverse, 1.0 / np.linalg.norm(inverse, axis=0))

    @property
    def is_periodic(self) -> bool:
        """Whether any axis is."""
        return bool(self.pbc.any())

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³; a density where all axes are periodic."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def half_height(self) -> float:
        """Half the least distance of opposite periodic faces, Å."""
        return float(0.5 * self.heights[self.pbc].min(initial=np.inf))

    def wrap(
        self, positions: Float[np.ndarray, "atoms 3"]
    ) -> Float[np.ndarray, "atoms 3"]:
        """Return a copy of `positions` wrapped into the cell along periodic axes, Å.

        Searches work on it: unwrapped atoms may be many cells away.
        """
        images = np.where(self.pbc, np.floor(positions @ self.inverse), 0.0)
        return np.asarray(positions - images @ self.cell)

    def nearest(
        self, vectors: Float[np.ndarray, "*shape 3"]
    ) -> Float[np.ndarray, "*shape 3"]:
        """Return the shortest periodic image of each vector, Å."""
        if not self.is_periodic or vectors.size == 0:
            return vectors
        flat = vectors.reshape(-1, AXES)
        shortest = np.empty_like(flat)
        for start in range(0, len(flat), VECTORS_AT_ONCE):
            piece = slice(start, start + VECTORS_AT_ONCE)
            shortest[piece] = find_mic(flat[piece], self.cell, self.pbc)[0]
        return shortest.reshape(vectors.shape)

    def unwrap(
        self, positions: Float[np.ndarray, "frames atoms 3"]
    ) -> Float[np.ndarray, "frames atoms 3"]:
        """Return positions that never jump by a cell vector, Å.

        Raises
        ------
        ValueError
            An atom moves so far in one frame that its image is not known.
        """
        if not self.is_periodic:
            return positions
        steps = self.nearest(np.diff(positions, axis=0))
        farthest = float(np.sqrt(np.square(steps).sum(axis=-1).max(initial=0.0)))
        limit = 2 * LONGEST_STEP * self.half_height
        if farthest > limit:
            raise ValueError(
                f"an atom moves {farthest:.2f} Å between two frames, more than "
                f"{limit:.2f} Å of this cell, so wrapped positions do not tell where "
                "to; write frames more often, or give unwrapped positions without a "
                "cell"
            )
        moved = np.concatenate([positions[:1], steps])
        return np.asarray(np.cumsum(moved, axis=0))

    def neighbors(
        self, positions: Float[np.ndarray, "atoms 3"], cutoff: float
    ) -> tuple[
        Int[np.ndarray, " pairs"],
        Int[np.ndarray, " pairs"],
        Float[np.ndarray, "pairs 3"],
    ]:
        """Return every pair within `cutoff` once: first, second, vector (Å).

        All images count, those of an atom with itself too, whatever the cell.
        """
        # One frame is too little work for more threads.
        search = NeighborList(cutoff=cutoff, full_list=False, n_threads=1)
        first, second, vectors = search.compute(
            points=self.wrap(positions),
            box=self.cell,
            periodic=self.pbc,
            quantities="ijD",
        )
        return first.astype(np.int64), second.astype(np.int64), vectors


def _constant(cell: Float[np.ndarray, "*frames 3 3"]) -> Float[np.ndarray, "3 3"]:
    cells = np.asarray(cell, dtype=np.float64).reshape(-1, AXES, AXES)
    changed = np.abs(cells - cells[0]).max(axis=(1, 2)) > CELL_TOLERANCE
    if changed.any():
        raise ValueError(
            f"the cell changes at frame {int(np.argmax(changed))}; the observables are "
            "those of a constant cell, so use an NVE or NVT run"
        )
    return np.array(cells[0])


def _full_cell(
    cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, 3]
) -> Float[np.ndarray, "3 3"]:
    missing = pbc & (np.linalg.norm(cell, axis=1) == 0)
    if missing.any():
        raise ValueError(
            f"axis {int(np.argmax(missing))} is periodic but its cell vector is zero; "
            "give a cell or pbc = False"
        )
    full: np.ndarray = complete_cell(cell)
    if abs(np.linalg.det(full)) < SMALLEST_VOLUME * np.prod(
        np.linalg.norm(full, axis=1)
    ):
        raise ValueError(
            f"the cell vectors {full.tolist()} lie in a plane, so the cell has no "
            "volume; give a cell or pbc = False"
        )
    return full
