"""Distributions against known densities, and energies through calculators."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from scipy import stats

from trajcast_ase.analysis.distribution import common_area, distribution
from trajcast_ase.analysis.energy import energy_distribution, potential_energies


@pytest.mark.statistical
def test_normal_values_with_error_bars():
    # 40 000 independent values, 20 blocks (t, 19 degrees of freedom): 5 standard
    # errors for mean and width (8e-5 each), 7 for any of 30 bins (4e-5 in all).
    values = np.random.default_rng(1).normal(2.0, 0.5, size=(4000, 10))
    found = distribution(
        values, name="x", unit="eV", n_bins=30, limits=(0.5, 3.5), n_blocks=20
    )
    assert abs(found.mean.mean - 2.0) < 5 * found.mean.error
    assert found.mean.error == pytest.approx(0.5 / np.sqrt(40_000), rel=0.6)
    assert abs(found.sd.mean - 0.5) < 5 * found.sd.error
    edges = np.append(found.center - found.bin_width / 2, 3.5)
    expected = np.diff(stats.norm(2.0, 0.5).cdf(edges)) / found.bin_width
    assert np.abs((found.density - expected) / (found.error + 1e-4)).max() < 7
    inside = np.mean((values >= 0.5) & (values <= 3.5))
    assert found.density.sum() * found.bin_width == pytest.approx(inside)
    assert found.n_values == 40_000


def test_common_area_of_equal_shifted_and_disjoint_distributions():
    uniform = np.linspace(0.0, 1.0, 1000, endpoint=False)
    whole, half, apart = (
        distribution(
            values, name="u", unit="Å", n_bins=40, limits=(0.0, 4.0), n_blocks=2
        )
        for values in (uniform, uniform + 0.5, uniform + 3.0)
    )
    assert common_area(whole, whole) == pytest.approx(1.0)
    assert common_area(whole, half) == pytest.approx(0.5, abs=0.01)
    assert common_area(whole, apart) == 0.0
    other = distribution(uniform, name="u", unit="Å", n_bins=40, n_blocks=2)
    with pytest.raises(ValueError, match="different bins"):
        common_area(whole, other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(0), "there are no values"),
        (np.array([1.0, np.nan]), "not finite"),
        (np.ones(50), "bins from 1 to 1 eV"),
        (np.nextafter(1.0, np.arange(50) % 3), "bins from 1 to 1 eV"),  # to rounding
        (np.arange(5.0), "5 values cannot be cut into 10 blocks"),
    ],
)
def test_values_without_a_distribution_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        distribution(values, name="x", unit="eV")


def test_values_that_do_not_vary_have_no_width():
    found = distribution(np.ones(50), name="x", unit="eV", limits=(0.0, 2.0), n_bins=4)
    assert (found.sd.mean, found.sd.error) == (0.0, 0.0)
    assert found.density.tolist() == [0.0, 0.0, 2.0, 0.0]


def test_potential_energies_of_a_pair_through_a_calculator():
    distances = np.linspace(0.95, 1.6, 20)
    atoms = Atoms("Ar2", positions=np.zeros((2, 3)))
    frames = np.zeros((20, 2, 3))
    frames[:, 1, 2] = distances
    calculator = LennardJones(sigma=1.0, epsilon=0.5, rc=50.0)
    energies = potential_energies(frames, atoms, calculator)
    expected = 2.0 * (distances**-12 - distances**-6)
    assert energies == pytest.approx(expected, abs=1e-8)
    assert np.all(atoms.positions == 0.0)
    assert atoms.calc is None
    found = energy_distribution(energies, 2, n_blocks=2)
    assert found.mean.mean == pytest.approx(expected.mean() / 2, abs=1e-8)
    assert found.unit == "eV/atom"


@pytest.mark.statistical
def test_energy_of_a_harmonic_crystal_is_half_kt_for_each_coordinate():
    # V = k/2 sum x², canonical: mean 3/2 kT per atom and standard deviation
    # kT sqrt(3 / (2 N)) per atom. 2 000 independent frames; 5 standard errors.
    kt, spring, n_atoms = 0.0259, 2.0, 8
    rng = np.random.default_rng(3)
    positions = rng.normal(scale=np.sqrt(kt / spring), size=(2000, n_atoms, 3))

    class Springs:
        def get_potential_energy(self, atoms):
            return 0.5 * spring * float(np.square(atoms.positions).sum())

    energies = potential_energies(positions, Atoms(f"Ar{n_atoms}"), Springs())
    found = energy_distribution(energies, n_atoms, n_blocks=20)
    assert abs(found.mean.mean - 1.5 * kt) < 5 * found.mean.error
    assert abs(found.sd.mean - kt * np.sqrt(1.5 / n_atoms)) < 5 * found.sd.error


def test_frames_of_another_system_are_refused():
    with pytest.raises(ValueError, match="frames of 3 atoms do not fit"):
        potential_energies(np.zeros((2, 3, 3)), Atoms("Ar2"), LennardJones())
    with pytest.raises(ValueError, match="energies of 0 atoms"):
        energy_distribution(np.zeros(20), 0)
