"""The canonical ensemble, and proof that each test can fail."""

import math

import numpy as np
import pytest
from ase import units
from driver_helpers import HORIZON, STRIDE, crystal, draw_momenta
from scipy.stats import chi2, kstest

from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.testing import Ballistic, HarmonicCrystal, Shrinker
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin

pytestmark = pytest.mark.statistical

N_VALUES = 4000
N_DOF = 3 * 64 - 3
KT = 300 * units.kB


def scores(energies, n_dof=N_DOF, temperature_K=300):
    """Return z of mean and variance of K, and the p-value of its distribution."""
    x = np.asarray(energies) / (0.5 * units.kB * temperature_K)
    n = len(x)
    mean = (x.mean() - n_dof) / math.sqrt(2 * n_dof / n)
    # Fourth central moment of chi-squared: 12 n (n + 4).
    fourth = 12 * n_dof * (n_dof + 4)
    width = (x.var() - 2 * n_dof) / math.sqrt((fourth - (2 * n_dof) ** 2) / n)
    return mean, width, kstest(x, chi2(n_dof).cdf).pvalue


def sample(model, atoms, thermostat, n_values=N_VALUES):
    """Return the kinetic energy after each stride."""
    dyn = TrajCast(atoms, model, thermostat=thermostat)
    energies = []
    dyn.attach(lambda: energies.append(atoms.get_kinetic_energy()))
    dyn.run(n_values)
    return np.array(energies[1:])


@pytest.fixture(scope="module")
def energies():
    """Return kinetic energies under a CSVR whose memory of one stride is 0.7 %."""
    model, atoms = crystal(4)
    thermostat = CSVR(300, STRIDE / 5, rng=np.random.default_rng(11))
    return sample(model, atoms, thermostat)


def test_csvr_samples_the_canonical_kinetic_energy(energies):
    """Null: canonical with 189 degrees of freedom; false alarm about 0.6 %.

    4,000 values whose correlation over one stride is below 1 %.
    """
    mean, width, p = scores(energies)
    assert abs(mean) < 3
    assert abs(width) < 3
    assert p > 1e-3


@pytest.mark.parametrize(
    ("wrong", "least"), [({"n_dof": 192}, 6), ({"temperature_K": 303}, 5)]
)
def test_the_same_test_fails_for_a_wrong_ensemble(energies, wrong, least):
    mean, _, p = scores(energies, **wrong)
    assert abs(mean) > least
    assert p < 1e-3


def test_the_same_test_fails_for_a_wrong_width(energies):
    narrow = energies.mean() + 0.7 * (energies - energies.mean())
    _, width, p = scores(narrow)
    assert abs(width) > 10
    assert p < 1e-3


def test_csvr_keeps_a_canonical_crystal_canonical():
    """Null: stationary at tau = 10 strides; 200 independent starts of 10 strides.

    The last kinetic energy of each is canonical; 4 standard errors.
    """
    rng = np.random.default_rng(12)
    model, atoms = crystal(2)
    dyn = TrajCast(atoms, model, thermostat=CSVR(300, 10 * STRIDE, rng=rng))
    last = []
    for _ in range(200):
        draw_canonical(model, atoms, rng)
        dyn.run(10)
        last.append(atoms.get_kinetic_energy())
    mean, width, _ = scores(last, n_dof=21)
    assert abs(mean) < 4
    assert abs(width) < 4


def draw_canonical(model, atoms, rng):
    """Draw positions and momenta of a harmonic crystal at 300 K."""
    frequencies = model.frequencies.numpy() / units.fs
    q = rng.standard_normal(len(frequencies)) * math.sqrt(KT)
    q = np.divide(q, frequencies, out=np.zeros_like(q), where=frequencies > 0)
    u = (model.modes.numpy() @ q).reshape(-1, 3) / np.sqrt(atoms.get_masses())[:, None]
    atoms.positions[:] = model.reference.numpy() + u
    draw_momenta(atoms, rng)


def test_langevin_samples_both_energies_from_a_cold_start():
    """Null: canonical; 20 blocks of 100 strides, 15 decay times each; 4 std errors.

    Exact flow and exact noise leave the canonical distribution unchanged at any stride,
    so the mean potential energy is n_dof kT / 2 as well.
    """
    model, atoms = crystal(2)
    draw_momenta(atoms, np.random.default_rng(1), 10.0)
    thermostat = Langevin(300, 0.15 / STRIDE, rng=np.random.default_rng(13))
    dyn = TrajCast(atoms, model, thermostat=thermostat)
    dyn.run(200)
    kinetic, potential = [], []
    dyn.attach(lambda: kinetic.append(atoms.get_kinetic_energy()))
    dyn.attach(lambda: potential.append(model.potential_energy(atoms)))
    dyn.run(2000)
    for energies in (kinetic, potential):
        blocks = np.array(energies).reshape(20, 100).mean(1) / (21 * KT / 2)
        error = blocks.std(ddof=1) / math.sqrt(len(blocks))
        assert error < 0.06
        assert abs(blocks.mean() - 1) < 4 * error


def energy_drift(model, atoms):
    """Return the relative change of kinetic and potential energy over 300 strides."""
    potential = model.potential_energy if isinstance(model, HarmonicCrystal) else zero
    start = atoms.get_kinetic_energy() + potential(atoms)
    TrajCast(atoms, model).run(300)
    return (atoms.get_kinetic_energy() + potential(atoms)) / start - 1


def zero(atoms):
    del atoms
    return 0.0


def test_exact_models_keep_the_energy_and_the_wrong_one_does_not():
    model, atoms = crystal()
    assert abs(energy_drift(model, atoms)) < 1e-11
    assert abs(energy_drift(Ballistic(HORIZON), crystal()[1])) < 1e-12
    assert energy_drift(Shrinker(HORIZON, factor=0.9999), crystal()[1]) < -0.05
