"""Bonds of paracetamol and how far they stretch."""

from __future__ import annotations

import numpy as np
import pytest

from trajcast_ase.analysis.bonds import bonded_pairs, longest_bonds
from trajcast_ase.data import paracetamol


def test_paracetamol_has_twenty_bonds():
    # Atom order of the force field's table of bonds.
    expected = {
        *((0, 1), (0, 11), (0, 12), (0, 13), (1, 2), (1, 3), (3, 4), (3, 14), (4, 5)),
        *((4, 10), (5, 6), (5, 15), (6, 7), (6, 16), (7, 8), (7, 9), (8, 17), (9, 10)),
        *((9, 18), (10, 19)),
    }
    assert {(int(i), int(j)) for i, j in bonded_pairs(paracetamol())} == expected


def test_longest_bond_of_each_type_over_all_frames():
    atoms = paracetamol()
    frames = np.stack([atoms.positions] * 3)
    nitrogen, hydrogen = 3, 14
    away = frames[1, hydrogen] - frames[1, nitrogen]
    frames[1, hydrogen] = frames[1, nitrogen] + 2.5 * away / np.linalg.norm(away)
    lengths = longest_bonds(frames, bonded_pairs(atoms), atoms.numbers)
    assert set(lengths) == {"C-C", "C-H", "C-N", "C-O", "H-N", "H-O"}
    assert lengths["H-N"] == pytest.approx(2.5, rel=1e-12)
    assert lengths["H-O"] < 1.1
