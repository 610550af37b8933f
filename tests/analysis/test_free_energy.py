"""Dihedrals and free energies against known potentials and exact symmetry."""

from __future__ import annotations

import numpy as np
import pytest

from trajcast_ase.analysis.free_energy import (
    PARACETAMOL_DIHEDRALS,
    PARACETAMOL_RELABELLINGS,
    dihedral,
    free_energy_surface,
)
from trajcast_ase.data import paracetamol
from trajcast_ase.units import KB


def test_dihedrals_agree_with_ase_also_across_faces():
    atoms = paracetamol()
    atoms.rattle(0.2, seed=1)
    shift = np.array([3.0, 8.0, -2.0])
    cell, pbc = 18.0 * np.eye(3), np.array([True, True, True])
    wrapped = (atoms.positions + shift) % 18.0
    for quadruple in (*PARACETAMOL_DIHEDRALS, (0, 1, 3, 4)):
        expected = (atoms.get_dihedral(*quadruple) + 180) % 360 - 180
        found = dihedral(atoms.positions[None], quadruple)
        assert found[0] == pytest.approx(expected, abs=1e-9)
        across = dihedral(wrapped[None], quadruple, cell=cell, pbc=pbc)
        assert across[0] == pytest.approx(expected, abs=1e-9)


def test_paracetamol_dihedrals_are_hydroxyl_and_ring_nitrogen():
    symbols = paracetamol().get_chemical_symbols()
    names = ["".join(symbols[i] for i in four) for four in PARACETAMOL_DIHEDRALS]
    assert names == ["CCOH", "CNCC"]


@pytest.mark.statistical
def test_surface_of_two_independent_rotors_is_their_potential():
    # p ~ exp(-U/kT) with U = V cos(first), drawn independently (von Mises); 100 000
    # frames, 20 blocks, 12 x 12 bins; 7 standard errors in any bin (2e-4 in all).
    rng = np.random.default_rng(2)
    kt = KB * 300.0
    first = np.degrees(rng.vonmises(np.pi, 1.5, size=100_000))
    second = rng.uniform(-180.0, 180.0, size=100_000)
    surface = free_energy_surface(first, second, 300.0, n_bins=12, n_blocks=20)
    edges = np.radians(np.linspace(-180, 180, 12 * 50 + 1))
    fine = np.exp(-1.5 * np.cos(0.5 * (edges[1:] + edges[:-1])))
    expected = -kt * np.log(fine.reshape(12, 50).mean(axis=1))
    expected -= expected.min()
    profile = surface.profile(0)
    # 1 000 frames in the rarest bins: 3 % of kT, and the limit five times that.
    assert profile == pytest.approx(expected, abs=0.15 * kt)
    assert surface.profile(1) == pytest.approx(np.zeros(12), abs=0.1 * kt)
    likely = surface.probability / surface.probability.sum()
    exact = np.exp(-expected / kt)[:, None] / np.exp(-expected / kt).sum() / 12
    score = (likely / exact - 1) * kt / surface.error_eV
    assert np.abs(score).max() < 7
    assert surface.free_energy_eV.min() == 0.0
    assert surface.probability.sum() == pytest.approx(1.0)


def test_relabelling_makes_the_surface_exactly_symmetric_and_keeps_what_is_so():
    rng = np.random.default_rng(3)
    first, second = rng.normal(40.0, 25.0, size=(2, 5000))
    raw = free_energy_surface(first, second, 300.0)
    surface = free_energy_surface(
        first, second, 300.0, relabellings=PARACETAMOL_RELABELLINGS
    )
    p = surface.probability
    assert np.allclose(p, np.roll(p, (18, 18), axis=(0, 1)), atol=1e-15)
    assert np.allclose(p, p[::-1, ::-1], atol=1e-15)
    assert not np.allclose(raw.probability, raw.probability[::-1, ::-1], atol=1e-4)
    # (x, y) and (-x, y) are different: a mirror of one angle alone is no symmetry.
    assert not np.allclose(p, p[::-1], atol=1e-4)
    q = raw.probability
    by_hand = (q + q[::-1, ::-1]) / 2
    by_hand = (by_hand + np.roll(by_hand, (18, 18), axis=(0, 1))) / 2
    assert np.allclose(p, by_hand, atol=1e-12)


def test_bins_without_frames_are_infinite():
    surface = free_energy_surface(np.full(20, 5.0), np.full(20, 5.0), 300.0)
    assert np.isfinite(surface.free_energy_eV).sum() == 1
    assert np.isinf(surface.error_eV).sum() == 36 * 36 - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_bins": 35}, "even number of bins"),
        ({"temperature_K": 0.0}, "positive temperature"),
        ({"relabellings": ()}, "no relabelling"),
        ({"first_deg": np.full(20, np.nan)}, "not finite"),
        ({"n_blocks": 21}, "20 values cannot be cut into 21"),
        ({"first_deg": np.zeros(19)}, "same shape"),
    ],
)
def test_bad_input_is_refused_with_the_reason(change, message):
    arguments = {
        "first_deg": np.zeros(20),
        "second_deg": np.zeros(20),
        "temperature_K": 300.0,
    }
    with pytest.raises(ValueError, match=message):
        free_energy_surface(**(arguments | change))


def test_a_dihedral_needs_four_atoms():
    with pytest.raises(ValueError, match="not four different atoms of 20"):
        dihedral(paracetamol().positions[None], (0, 1, 1, 3))
