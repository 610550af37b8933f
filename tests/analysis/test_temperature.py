"""Temperatures against canonical velocities, with and without conserved momenta."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units
from scipy import stats

from trajcast_ase.analysis.temperature import (
    canonical_density,
    element_temperatures,
    temperature,
)

MASSES = np.array([12.011, 15.999, 1.008, 1.008])
NUMBERS = np.array([6, 8, 1, 1])


def canonical_velocities(
    rng: np.random.Generator, n_frames: int, kelvin: float = 300.0
) -> np.ndarray:
    """Return independent frames of Maxwell-Boltzmann velocities, Å/fs."""
    spread = np.sqrt(ase_units.kB * kelvin / MASSES) * ase_units.fs
    return spread[None, :, None] * rng.normal(size=(n_frames, len(MASSES), 3))


def test_agrees_with_ase_for_3n_degrees_of_freedom():
    velocities = canonical_velocities(np.random.default_rng(1), 1)
    atoms = Atoms(NUMBERS, positions=np.eye(4, 3), masses=MASSES)
    atoms.set_velocities(velocities[0] / ase_units.fs)
    ours = temperature(velocities, MASSES, 3 * len(MASSES))
    assert ours[0] == pytest.approx(atoms.get_temperature(), rel=1e-12)


@pytest.mark.statistical
def test_instantaneous_temperatures_follow_the_gamma_distribution():
    # Null hypothesis: gamma with n_dof/2. 2 000 independent frames, false alarms 1e-3.
    velocities = canonical_velocities(np.random.default_rng(2), 2000)
    drift = (MASSES[:, None] * velocities).sum(1, keepdims=True) / MASSES.sum()
    kelvin = temperature(velocities - drift, MASSES, 3 * len(MASSES) - 3)

    def p_value(n_dof: int) -> float:
        gamma = stats.gamma(a=n_dof / 2, scale=600.0 / n_dof)
        return float(stats.kstest(kelvin, gamma.cdf).pvalue)

    assert p_value(9) > 1e-3
    assert p_value(12) < 1e-3  # 3N: the wrong number is found out


def test_expected_density_has_the_canonical_mean_and_width():
    grid = np.linspace(0.0, 1500.0, 60_001)
    density = canonical_density(grid, 300.0, 54)
    step = grid[1]
    mean = (grid * density).sum() * step
    width = np.sqrt(((grid - mean) ** 2 * density).sum() * step)
    assert density.sum() * step == pytest.approx(1.0, rel=1e-6)
    assert mean == pytest.approx(300.0, rel=1e-6)
    assert width == pytest.approx(300.0 * np.sqrt(2 / 54), rel=1e-6)


def test_element_temperatures_average_to_the_whole():
    velocities = canonical_velocities(np.random.default_rng(4), 5)
    n_dof = 6
    by_element = element_temperatures(velocities, MASSES, NUMBERS, n_dof)
    assert set(by_element) == {"H", "C", "O"}
    weighted = (2 * by_element["H"] + by_element["C"] + by_element["O"]) / 4
    assert weighted == pytest.approx(temperature(velocities, MASSES, n_dof), rel=1e-12)
