r"""Bond and angle distributions, and the tetrahedral order of a liquid.

Tetrahedral order (Errington and Debenedetti, Nature 409, 318 (2001)) of an atom with
its four nearest neighbors of the same element:

.. math:: q = 1 - \frac38 \sum_{j<k} \left(\cos\psi_{jk} + \tfrac13\right)^2

1 for a perfect tetrahedron, 0 on average without any order.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from ase.data import atomic_numbers as numbers_of_symbols
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from trajcast_ase.analysis.bonds import bond_kinds, bond_lengths
from trajcast_ase.analysis.distribution import Distribution, distribution
from trajcast_ase.analysis.inputs import check_per_atom, trajectory_array
from trajcast_ase.box import Box

N_CORNERS = 4


def bond_distributions(
    positions: Float[np.ndarray, "frames atoms 3"],
    pairs: Int[np.ndarray, "bonds 2"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
    n_bins: int = 60,
    n_blocks: int = 10,
) -> dict[str, Distribution]:
    """Return the distribution of the length of each type of bond, such as C-H.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
    pairs : (n_bonds, 2)
        From :func:`trajcast_ase.analysis.bonds.bonded_pairs`.
    atomic_numbers : (n_atoms,)
    cell : (3, 3), Å, and pbc : (3,) bool
    n_bins, n_blocks : int

    Raises
    ------
    ValueError
        Fewer frames than blocks, or a cell that changes.
    """
    positions = trajectory_array(positions, "positions", least=n_blocks)
    check_per_atom(atomic_numbers, positions.shape[1], "atomic numbers")
    lengths = bond_lengths(positions, pairs, cell=cell, pbc=pbc)
    return {
        kind: distribution(
            lengths[:, rows], name=kind, unit="Å", n_bins=n_bins, n_blocks=n_blocks
        )
        for kind, rows in bond_kinds(pairs, atomic_numbers).items()
    }


def angle_distributions(
    positions: Float[np.ndarray, "frames atoms 3"],
    pairs: Int[np.ndarray, "bonds 2"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
    n_bins: int = 60,
    n_blocks: int = 10,
) -> dict[str, Distribution]:
    """Return the distribution of each type of bond angle, such as Si-O-Si, degrees.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
    pairs : (n_bonds, 2)
        Every two bonds of an atom enclose an angle.
    atomic_numbers : (n_atoms,)
    cell : (3, 3), Å, and pbc : (3,) bool
    n_bins, n_blocks : int

    Raises
    ------
    ValueError
        Fewer frames than blocks, or a cell that changes.
    """
    positions = trajectory_array(positions, "positions", least=n_blocks)
    check_per_atom(atomic_numbers, positions.shape[1], "atomic numbers")
    box = Box.of(cell, pbc)
    triplets = angle_triplets(pairs)
    kinds = angle_kinds(triplets, atomic_numbers)
    return {
        kind: distribution(
            angles(positions, triplets[rows], box),
            name=kind,
            unit="°",
            n_bins=n_bins,
            n_blocks=n_blocks,
        )
        for kind, rows in kinds.items()
    }


def angle_triplets(
    pairs: Int[np.ndarray, "bonds 2"],
) -> Int[np.ndarray, "angles 3"]:
    """Return end, center and other end of every angle between two bonds."""
    partners: dict[int, list[int]] = {}
    for first, second in pairs.tolist():
        partners.setdefault(first, []).append(second)
        partners.setdefault(second, []).append(first)
    found = [
        (one, center, other)
        for center, ends in sorted(partners.items())
        for one, other in combinations(sorted(ends), 2)
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def angles(
    positions: Float[np.ndarray, "frames atoms 3"],
    triplets: Int[np.ndarray, "angles 3"],
    box: Box,
) -> Float[np.ndarray, "frames angles"]:
    """Return each angle in each frame, degrees."""
    one, center, other = triplets.T
    left = box.nearest(positions[:, one] - positions[:, center])
    right = box.nearest(positions[:, other] - positions[:, center])
    # The tangent keeps digits near 180 degrees that the cosine loses.
    across = np.linalg.norm(np.cross(left, right), axis=-1)
    return np.asarray(np.degrees(np.arctan2(across, (left * right).sum(axis=-1))))


def tetrahedral_order(
    positions: Float[np.ndarray, "frames atoms 3"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
    element: str = "O",
    reach: float = 6.0,
) -> Float[np.ndarray, "frames chosen"]:
    """Return the tetrahedral order of each atom of `element` in each frame.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
    atomic_numbers : (n_atoms,)
    cell : (3, 3), Å, and pbc : (3,) bool
    element : str
        Oxygen for water.
    reach : float, Å
        Within which the four nearest are sought.

    Raises
    ------
    ValueError
        No such element, or an atom with fewer than four neighbors within `reach`.
    """
    positions = trajectory_array(positions, "positions", least=1)
    check_per_atom(atomic_numbers, positions.shape[1], "atomic numbers")
    chosen = atomic_numbers == numbers_of_symbols[element]
    if not chosen.any():
        raise ValueError(f"there is no {element} in the trajectory; choose another")
    box = Box.of(cell, pbc)
    return np.stack([_order(frame, box, reach) for frame in positions[:, chosen]])


def _order(
    positions: Float[np.ndarray, "chosen 3"], box: Box, reach: float
) -> Float[np.ndarray, " chosen"]:
    first, second, vectors = box.neighbors(positions, reach)
    center = np.concatenate([first, second])
    vectors = np.concatenate([vectors, -vectors])
    lengths = np.linalg.norm(vectors, axis=1)
    order = np.lexsort((lengths, center))
    n_neighbors = np.bincount(center, minlength=len(positions))
    if n_neighbors.min() < N_CORNERS:
        raise ValueError(
            f"an atom has {n_neighbors.min()} neighbors within {reach:g} Å, the order "
            f"needs {N_CORNERS}; raise reach"
        )
    starts = np.concatenate([[0], np.cumsum(n_neighbors)[:-1]])
    nearest = order[starts[:, None] + np.arange(N_CORNERS)]
    units = vectors[nearest] / lengths[nearest][..., None]
    cosines = np.einsum("njc,nkc->njk", units, units)
    above = np.triu_indices(N_CORNERS, k=1)
    deviations = np.square(cosines[:, above[0], above[1]] + 1 / 3)
    return np.asarray(1 - 0.375 * deviations.sum(axis=1))


def angle_kinds(
    triplets: Int[np.ndarray, "angles 3"], atomic_numbers: Int[np.ndarray, " atoms"]
) -> dict[str, Int[np.ndarray, " chosen"]]:
    """Return the rows of each type of angle; the ends are in alphabetical order."""
    names = []
    for one, center, other in atomic_numbers[triplets]:
        ends = sorted((chemical_symbols[one], chemical_symbols[other]))
        names.append(f"{ends[0]}-{chemical_symbols[center]}-{ends[1]}")
    return {
        kind: np.flatnonzero([name == kind for name in names])
        for kind in sorted(set(names))
    }
