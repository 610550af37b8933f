"""Bonds and how far they stretch: the first sign of a rollout that breaks."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Bool, Float, Int

from trajcast_ase.box import Box

REACH = 1.2
"""Multiple of the sum of covalent radii up to which two atoms are bonded."""


def bonded_pairs(atoms: Atoms) -> Int[np.ndarray, "bonds 2"]:
    """Return the bonds of a structure, each once, by covalent radii.

    Raises
    ------
    ValueError
        The cell is so small that two images of an atom may be bonded to another.
    """
    box = Box.of(atoms.cell.array, atoms.pbc)
    radii = REACH * covalent_radii[atoms.numbers]
    reach = 2 * float(radii.max(initial=0.0))
    if reach > box.half_height:
        raise ValueError(
            f"bonds of up to {reach:.2f} Å are longer than half the height of the "
            f"cell, {box.half_height:.2f} Å, so their images are not unique; repeat "
            "the cell"
        )
    first, second, vectors = box.neighbors(atoms.positions, reach)
    close = np.linalg.norm(vectors, axis=1) < radii[first] + radii[second]
    pairs = np.sort(np.stack([first[close], second[close]], axis=1), axis=1)
    return np.unique(pairs, axis=0)


def bond_lengths(
    positions: Float[np.ndarray, "frames atoms 3"],
    pairs: Int[np.ndarray, "bonds 2"],
    *,
    cell: Float[np.ndarray, "3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
) -> Float[np.ndarray, "frames bonds"]:
    """Return the length of each bond in each frame, Å, over the nearest images."""
    vectors = positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]]
    nearest = Box.of(cell, pbc).nearest(vectors)
    return np.asarray(np.sqrt(np.square(nearest).sum(axis=2)))


def longest_bonds(
    positions: Float[np.ndarray, "frames atoms 3"],
    pairs: Int[np.ndarray, "bonds 2"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
) -> dict[str, float]:
    """Return the greatest length of each type of bond, such as C-H, in Å."""
    longest = bond_lengths(positions, pairs, cell=cell, pbc=pbc).max(axis=0)
    kinds = bond_kinds(pairs, atomic_numbers)
    return {kind: float(longest[chosen].max()) for kind, chosen in kinds.items()}


def bond_kinds(
    pairs: Int[np.ndarray, "bonds 2"], atomic_numbers: Int[np.ndarray, " atoms"]
) -> dict[str, Int[np.ndarray, " chosen"]]:
    """Return the rows of `pairs` of each type of bond; "C-H" is alphabetical."""
    names = [
        "-".join(sorted(chemical_symbols[number] for number in pair))
        for pair in atomic_numbers[pairs]
    ]
    return {
        kind: np.flatnonzero([name == kind for name in names])
        for kind in sorted(set(names))
    }
