"""Which atoms are bonded, from a reference, and whether a run keeps it.

Bonds are those of the reference's *typical* frame: pairs that are near enough by their
covalent radii in more than half of its frames. A run is held against these pairs, so
that what it breaks, at any frame, cannot leave the list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int

from trajcast_ase.analysis.bonds import REACH, bond_kinds, bond_lengths, bonded_pairs
from trajcast_ase.box import Box
from trajcast_ase.trajectory import Frames

SAMPLED_FRAMES = 100
"""Of a reference, in which bonds are sought."""
BREAKING = 1.3
"""A bond is broken where it exceeds this multiple of the reference's longest."""
FAR = 1.6
"""Multiple of `REACH` beyond which a bond is broken, whoever is nearer."""
FRAMES_AT_ONCE = 2000


class TopologyError(ValueError):
    """The atoms of a run are not in the order of the reference."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Atoms in their order, and their bonds.

    Attributes
    ----------
    atomic_numbers : (n_atoms,)
    pairs : (n_bonds, 2)
        Each bond once, the smaller number first, in ascending order.
    """

    atomic_numbers: Int[np.ndarray, " atoms"]
    pairs: Int[np.ndarray, "bonds 2"]

    def check(self, frames: Frames) -> None:
        """Refuse a run whose atoms stand in another order.

        A first frame in which every atom has bonded partners of the right elements, but
        other ones, is one of another order; with wrong partners it is broken.

        Raises
        ------
        TopologyError
        """
        count, wanted = len(frames.atomic_numbers), len(self.atomic_numbers)
        if count != wanted:
            raise TopologyError(
                f"{frames.source} has {count} atoms, the reference {wanted}; compare "
                "runs of the same atoms"
            )
        wrong = np.flatnonzero(frames.atomic_numbers != self.atomic_numbers)
        if len(wrong):
            found, wanted = (
                chemical_symbols[numbers[wrong[0]]]
                for numbers in (frames.atomic_numbers, self.atomic_numbers)
            )
            raise TopologyError(
                f"atom {wrong[0]} of {frames.source} is {found}, that of the reference "
                f"{wanted}; write the atoms of the run in the order of the reference"
            )
        pairs = bonded_pairs(frames.atoms(0))
        if np.array_equal(pairs, self.pairs) or not self._alike(pairs):
            return
        strange = set(map(tuple, pairs.tolist())) - set(map(tuple, self.pairs.tolist()))
        first, second = min(strange)
        raise TopologyError(
            f"{frames.source} begins with a bond between atoms {first} and {second}, "
            "which are not bonded in the reference, while every atom has its number of "
            "bonds; write the atoms of the run in the order of the reference"
        )

    def _alike(self, pairs: Int[np.ndarray, "bonds 2"]) -> bool:
        """Return whether every atom has as many partners of each element."""
        return np.array_equal(self._partners(pairs), self._partners(self.pairs))

    def _partners(
        self, pairs: Int[np.ndarray, "bonds 2"]
    ) -> Int[np.ndarray, "atoms elements"]:
        elements, index = np.unique(self.atomic_numbers, return_inverse=True)
        counts = np.zeros((len(index), len(elements)), dtype=np.int64)
        for one, other in (pairs.T, pairs.T[::-1]):
            np.add.at(counts, (one, index[other]), 1)
        return counts


@dataclass(frozen=True, slots=True)
class Bonds:
    """What became of the bonds in any frame of a run.

    Attributes
    ----------
    longest_A : dict of str to float, Å
        Greatest length of each type of bond.
    n_exchanged : int
        Bonds with an atom that was nearer to another partner of that element.
    """

    longest_A: dict[str, float]
    n_exchanged: int


def topology_of(frames: Frames) -> Topology:
    """Return the bonds that most frames of a run show."""
    every = max(1, frames.n_frames // SAMPLED_FRAMES)
    chosen = range(0, frames.n_frames, every)
    found = [bonded_pairs(frames.atoms(index)) for index in chosen]
    pairs, counts = np.unique(np.concatenate(found), axis=0, return_counts=True)
    return Topology(frames.atomic_numbers, pairs[2 * counts > len(chosen)])


def watch_bonds(frames: Frames, topology: Topology) -> Bonds:
    """Return what became of the bonds of a topology in all frames of a run."""
    numbers, pairs = topology.atomic_numbers, topology.pairs
    reach = REACH * covalent_radii[numbers[pairs]].sum(axis=1)
    longest, exchanged = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=bool)
    box = Box.of(frames.cell, frames.pbc)
    for start in range(0, frames.n_frames, FRAMES_AT_ONCE):
        positions = frames.positions[start : start + FRAMES_AT_ONCE]
        lengths = bond_lengths(positions, pairs, cell=frames.cell, pbc=frames.pbc)
        longest = np.maximum(longest, lengths.max(axis=0, initial=0.0))
        stretched = (lengths > reach) & (lengths < FAR * reach)
        for bond in np.flatnonzero(stretched.any(axis=0) & ~exchanged):
            chosen = stretched[:, bond]
            exchanged[bond] = is_exchanged(
                positions[chosen], lengths[chosen, bond], topology, int(bond), box
            )
    kinds = bond_kinds(pairs, numbers)
    return Bonds(
        {kind: float(longest[rows].max()) for kind, rows in kinds.items()},
        int(exchanged.sum()),
    )


def is_exchanged(
    positions: Float[np.ndarray, "frames atoms 3"],
    lengths: Float[np.ndarray, " frames"],
    topology: Topology,
    bond: int,
    box: Box,
) -> bool:
    """Return whether an end of a bond ever is nearer to another such partner.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
        Frames in which the bond is longer than bonds are.
    lengths : (n_frames,), Å
        Of the bond there.
    topology : Topology
    bond : int
        Its row in the topology.
    box : Box
    """
    numbers, pairs = topology.atomic_numbers, topology.pairs
    for atom, partner in (pairs[bond], pairs[bond][::-1]):
        others = numbers == numbers[partner]
        others[[atom, partner, *pairs[pairs[:, 0] == atom, 1]]] = False
        others[pairs[pairs[:, 1] == atom, 0]] = False
        vectors = box.nearest(positions[:, others] - positions[:, [atom]])
        if (np.square(vectors).sum(axis=2) < np.square(lengths)[:, None]).any():
            return True
    return False
