"""The only conversion factors, against the constants of nature."""

import pytest
from ase import units as ase_units
from scipy import constants

from trajcast_ase import units


def test_femtosecond_follows_from_electronvolt_and_atomic_mass():
    ase_time = 1e-10 * (constants.atomic_mass / constants.electron_volt) ** 0.5
    assert pytest.approx(1e-15 / ase_time, rel=1e-6) == units.FS
    assert ase_units.fs == units.FS


def test_energy_of_amu_angstrom_squared_per_femtosecond_squared():
    joule = constants.atomic_mass * (1e-10 / 1e-15) ** 2
    expected = joule / constants.electron_volt
    assert pytest.approx(expected, rel=1e-6) == units.EV_PER_AMU_A2_FS2


def test_boltzmann_constant():
    expected = constants.Boltzmann / constants.electron_volt
    assert pytest.approx(expected, rel=1e-6) == units.KB


def test_ns_per_day():
    # 10 ms a step at 7 fs: 8.64 million steps a day, 60.48 ns.
    assert units.ns_per_day(0.01, 7.0) == pytest.approx(60.48, rel=1e-14)
