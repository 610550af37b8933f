"""Bonds and how far they stretch: the first sign of a rollout that breaks."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int

REACH = 1.2
"""Multiple of the sum of covalent radii up to which two atoms are bonded."""


def bonded_pairs(atoms: Atoms) -> Int[np.ndarray, "bonds 2"]:
    """Return the bonds of a molecule, each once, by covalent radii."""
    radii = REACH * covalent_radii[atoms.numbers]
    close = atoms.get_all_distances() < radii[:, None] + radii[None, :]
    return np.argwhere(np.triu(close, k=1))


def longest_bonds(
    positions: Float[np.ndarray, "frames atoms 3"],
    pairs: Int[np.ndarray, "bonds 2"],
    atomic_numbers: Int[np.ndarray, " atoms"],
) -> dict[str, float]:
    """Return the greatest length of each type of bond, such as C-H, in Å."""
    vectors = positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]]
    longest = np.sqrt(np.square(vectors).sum(axis=2)).max(axis=0)
    lengths: dict[str, float] = {}
    for pair, length in zip(atomic_numbers[pairs], longest, strict=True):
        kind = "-".join(sorted(chemical_symbols[number] for number in pair))
        lengths[kind] = max(lengths.get(kind, 0.0), float(length))
    return dict(sorted(lengths.items()))
