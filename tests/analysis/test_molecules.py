"""Molecules found by bonds, whole across periodic faces."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from trajcast_ase.analysis.bonds import bonded_pairs, longest_bonds
from trajcast_ase.analysis.molecules import find_molecules
from trajcast_ase.box import Box

EDGE = 9.0


def waters(rng: np.random.Generator) -> Atoms:
    """Return eight waters on a grid in a cubic cell, turned at random and wrapped."""
    system = Atoms(cell=EDGE * np.eye(3), pbc=True)
    for site in np.ndindex(2, 2, 2):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
        one.positions += EDGE / 2 * np.array(site)
        system += one
    system.wrap()
    return system


def test_waters_are_made_whole():
    system = waters(np.random.default_rng(1))
    box = Box.of(system.cell.array, system.pbc)
    found = find_molecules(system.positions, system.numbers, cell=box.cell, pbc=box.pbc)
    assert [list(atoms) for atoms in found.members] == [
        [i, i + 1, i + 2] for i in range(0, 24, 3)
    ]
    assert len(found.tree) == 16
    whole = found.whole(np.stack([system.positions, system.positions]), box)[1]
    assert np.abs(whole - system.positions).max() == pytest.approx(EDGE)
    for atoms in found.members:
        assert np.linalg.norm(whole[atoms[1]] - whole[atoms[0]]) == pytest.approx(
            0.968565, abs=1e-4
        )
    # Only lattice vectors were added.
    shifts = (whole - system.positions) / EDGE
    assert np.allclose(shifts, shifts.round(), atol=1e-9)


def test_bonds_across_a_face_have_their_short_length():
    atoms = Atoms("OH", [[0.2, 0, 0], [EDGE - 0.7, 0, 0]], cell=EDGE * np.eye(3))
    assert len(bonded_pairs(atoms)) == 0
    atoms.pbc = True
    pairs = bonded_pairs(atoms)
    assert pairs.tolist() == [[0, 1]]
    frames = atoms.positions[None]
    cell = atoms.cell.array
    longest = longest_bonds(frames, pairs, atoms.numbers, cell=cell, pbc=atoms.pbc)
    assert longest["H-O"] == pytest.approx(0.9)


def test_a_crystal_has_no_molecules():
    silicon = bulk("Si", cubic=True).repeat(2)
    with pytest.raises(ValueError, match="network without molecules"):
        find_molecules(
            silicon.positions, silicon.numbers, cell=silicon.cell.array, pbc=silicon.pbc
        )


def test_a_cell_below_two_bonds_is_refused():
    silicon = bulk("Si")
    with pytest.raises(ValueError, match="repeat the cell"):
        bonded_pairs(silicon)


def test_single_atoms_are_molecules_of_their_own():
    found = find_molecules(np.array([[0.0, 0, 0], [5.0, 0, 0]]), np.array([18, 18]))
    assert [atoms.tolist() for atoms in found.members] == [[0], [1]]
    assert found.tree.shape == (0, 2)
