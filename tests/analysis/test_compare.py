"""A rollout held against the bundled reference."""

from __future__ import annotations

import numpy as np
import pytest

from trajcast_ase.analysis.compare import BREAKING, Rollout, compare
from trajcast_ase.data import paracetamol, paracetamol_reference
from trajcast_ase.units import FS, KB

N_FRAMES = 501


@pytest.fixture
def rollout():
    """Return a rigid molecule with canonical velocities: 60 degrees of freedom."""
    atoms = paracetamol()
    rng = np.random.default_rng(7)
    spread = np.sqrt(KB * 300.0 / atoms.get_masses()) * FS
    velocities = spread[None, :, None] * rng.normal(size=(N_FRAMES, 20, 3))
    velocities[:50] *= 3.0  # far from equilibrium at the start
    return Rollout(np.stack([atoms.positions] * N_FRAMES), velocities, 7.0)


@pytest.mark.statistical
def test_equilibration_is_left_out(rollout):
    # 451 independent frames of spread 55 K: standard error 2.6 K, limit 4 of them.
    numbers = compare(rollout, paracetamol(), paracetamol_reference())
    assert abs(numbers.temperature.mean - 300.0 * 60 / 54) < 11.0
    assert rollout.settled_ps == pytest.approx(450 * 7e-3)


def test_a_bond_that_breaks_at_any_time_is_found(rollout):
    atoms, reference = paracetamol(), paracetamol_reference()
    assert compare(rollout, atoms, reference).intact
    amide = rollout.positions[3, 14] - rollout.positions[3, 3]
    factor = 1.01 * BREAKING * reference.longest_bonds["H-N"] / np.linalg.norm(amide)
    rollout.positions[3, 14] = rollout.positions[3, 3] + factor * amide
    assert not compare(rollout, atoms, reference).intact


def test_another_stride_is_refused(rollout):
    other = Rollout(rollout.positions, rollout.velocities, 5.0)
    with pytest.raises(ValueError, match="strides 5 and 7 fs"):
        compare(other, paracetamol(), paracetamol_reference())
