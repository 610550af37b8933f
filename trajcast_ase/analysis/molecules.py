"""Which atoms form molecules, and molecules made whole across periodic faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from trajcast_ase.analysis.bonds import bonded_pairs
from trajcast_ase.box import Box

# Å; a sum of bond vectors around a ring is zero, around the cell a cell vector.
CLOSURE = 0.1


@dataclass(frozen=True, slots=True)
class Molecules:
    """Atoms of each molecule, and the tree of bonds that holds it together.

    Attributes
    ----------
    members : tuple of (n,) int arrays
        Atoms of each molecule.
    tree : (n_edges, 2)
        Atom and the atom it hangs on, which comes earlier or is a root.
    """

    members: tuple[Int[np.ndarray, " members"], ...]
    tree: Int[np.ndarray, "edges 2"]

    def whole(
        self, positions: Float[np.ndarray, "frames atoms 3"], box: Box
    ) -> Float[np.ndarray, "frames atoms 3"]:
        """Return positions with every bond at its nearest image, Å."""
        if not box.is_periodic or len(self.tree) == 0:
            return positions
        child, parent = self.tree.T
        bonds = box.nearest(positions[:, child] - positions[:, parent])
        result = positions.copy()
        for edge in range(len(self.tree)):
            result[:, child[edge]] = result[:, parent[edge]] + bonds[:, edge]
        return result


def find_molecules(
    positions: Float[np.ndarray, "atoms 3"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
) -> Molecules:
    """Return the molecules of one frame by covalent radii.

    Parameters
    ----------
    positions : (n_atoms, 3), Å
    atomic_numbers : (n_atoms,)
    cell : (3, 3), Å, and pbc : (3,) bool

    Raises
    ------
    ValueError
        Bonds join an atom to its own image: a crystal has no molecules.
    """
    box = Box.of(cell, pbc)
    atoms = Atoms(atomic_numbers, positions=positions, cell=box.cell, pbc=box.pbc)
    pairs = bonded_pairs(atoms)
    size = len(atomic_numbers)
    ones = np.ones(len(pairs))
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(size, size)).tocsr()
    n_molecules, index = connected_components(graph, directed=False)
    edges = []
    for molecule in range(n_molecules):
        root = int(np.argmax(index == molecule))
        order, parents = breadth_first_order(graph, root, directed=False)
        edges += [(atom, parents[atom]) for atom in order[1:]]
    tree = np.array(edges, dtype=np.int64).reshape(-1, 2)
    members = tuple(
        np.flatnonzero(index == molecule) for molecule in range(n_molecules)
    )
    molecules = Molecules(members, tree)
    _refuse_networks(molecules, positions, pairs, box)
    return molecules


def _refuse_networks(
    molecules: Molecules,
    positions: Float[np.ndarray, "atoms 3"],
    pairs: Int[np.ndarray, "bonds 2"],
    box: Box,
) -> None:
    if len(pairs) == 0:
        return
    whole = molecules.whole(positions[None], box)[0]
    vectors = whole[pairs[:, 0]] - whole[pairs[:, 1]]
    broken = np.linalg.norm(vectors - box.nearest(vectors), axis=1) > CLOSURE
    if broken.any():
        first, second = pairs[np.argmax(broken)]
        raise ValueError(
            f"bonds lead from atom {first} by atom {second} to its own image, so the "
            "structure is a network without molecules; leave out the molecular motion"
        )
