"""Strides by forces where a forecast is refused."""

import numpy as np
import pytest
import torch
from ase import units
from ase.md.verlet import VelocityVerlet
from driver_helpers import Springs

from trajcast_ase import Langevin, TrajCast
from trajcast_ase.dynamics.fallback import ForceFallback, SenselessForecastError
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.testing import HarmonicCrystal


class Undertrained:
    """A crystal's exact map that goes wild at every fourth call."""

    def __init__(self, crystal):
        self.crystal, self.calls = crystal, 0
        self.horizon_fs, self.conservation = crystal.horizon_fs, crystal.conservation
        self.device, self.check_elements = crystal.device, crystal.check_elements

    def thermal_speeds(self, atomic_numbers):
        return torch.full((len(atomic_numbers),), 0.005, dtype=torch.float64)

    def raw_forecast(self, state):
        displacements, velocities = self.crystal.raw_forecast(state)
        self.calls += 1
        wild = 1e9 if self.calls % 4 == 0 else 1.0
        return wild * displacements, velocities


@pytest.fixture
def crystal():
    return HarmonicCrystal.cubic(3, horizon_fs=10.0)


def hot(atoms, crystal):
    atoms = atoms.copy()
    draw_momenta(atoms, 300.0, np.random.default_rng(1), crystal.conservation)
    return atoms


def test_without_a_fallback_the_run_dies(crystal):
    model, atoms = crystal
    dynamics = TrajCast(hot(atoms, model), Undertrained(model))
    with pytest.raises(SenselessForecastError, match="step 4 is refused: it kicks"):
        dynamics.run(20)


def test_strides_by_forces_join_those_of_the_model(crystal):
    model, atoms = crystal
    told = []
    fallback = ForceFallback(0.5 * units.fs, told.append)
    saved, exact = hot(atoms, model), hot(atoms, model)
    saved.calc = Springs(model)
    dynamics = TrajCast(saved, Undertrained(model), fallback=fallback)
    dynamics.run(21)
    TrajCast(exact, model).run(21)
    assert [one.step for one in told] == [4, 8, 12, 16, 20]
    assert dynamics.tally.by_forces == dynamics.tally.found["LargestKick"] == 5
    assert "kicks atom" in told[0].reason
    # Velocity Verlet at 0.5 fs: an error of some 1e-4 Å in 50 fs.
    np.testing.assert_allclose(saved.positions, exact.positions, atol=2e-3)
    moved = np.abs(exact.positions - atoms.positions).max()
    assert moved > 0.05


def test_the_force_stride_is_verlets(crystal):
    model, atoms = crystal
    one, two = hot(atoms, model), hot(atoms, model)
    one.calc = two.calc = Springs(model)
    wild = Undertrained(model)
    wild.calls = 3
    TrajCast(one, wild, fallback=ForceFallback(1.1 * units.fs)).run(1)
    VelocityVerlet(two, 1.0 * units.fs).run(10)
    np.testing.assert_allclose(one.positions, two.positions, atol=1e-10)
    np.testing.assert_allclose(one.get_momenta(), two.get_momenta(), atol=1e-10)


def test_an_undertrained_model_has_the_right_temperature(crystal):
    model, atoms = crystal
    start = hot(atoms, model)
    start.calc = Springs(model)
    bath = Langevin(300.0, 1 / (100 * units.fs), np.random.default_rng(3))
    fallback = ForceFallback(1.0 * units.fs)
    dynamics = TrajCast(start, Undertrained(model), thermostat=bath, fallback=fallback)
    seen = []
    dynamics.attach(lambda: seen.append(dynamics.get_temperature()), 5)
    dynamics.run(1500)
    # 78 thermal degrees of freedom, some 200 independent values: 3.3 K of error.
    assert np.mean(seen[20:]) == pytest.approx(300.0, abs=15.0)
    assert dynamics.tally.by_forces == 375


def test_forces_that_fail_end_the_run(crystal):
    model, atoms = crystal
    start = hot(atoms, model)
    start.calc = Springs(model)
    start.calc.hessian = start.calc.hessian * 1e300
    fallback = ForceFallback(1.0 * units.fs)
    dynamics = TrajCast(start, Undertrained(model), fallback=fallback)
    with (
        np.errstate(all="ignore"),
        pytest.raises(SenselessForecastError, match="neither the forecast nor 10"),
    ):
        dynamics.run(20)
    assert dynamics.nsteps == 3
    assert np.isfinite(start.positions).all()


def test_a_fallback_needs_forces(crystal):
    model, atoms = crystal
    with pytest.raises(ValueError, match="needs forces"):
        TrajCast(hot(atoms, model), model, fallback=ForceFallback(units.fs))
    with pytest.raises(ValueError, match="timestep = 0"):
        ForceFallback(0.0)
