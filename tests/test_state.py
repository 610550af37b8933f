"""Atoms to State and back."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from numpy.testing import assert_allclose, assert_array_equal

from trajcast_ase.state import (
    ase_momenta,
    momenta_to_velocities,
    state_from_atoms,
    velocities_from_atoms,
)


@pytest.fixture
def water():
    rng = np.random.default_rng(3)
    atoms = Atoms("OH2", [[0.1, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 25.0]])
    atoms.cell = [[4.0, 0, 0], [1.0, 4.0, 0], [0, -1.0, 5.0]]
    atoms.pbc = [True, False, True]
    atoms.set_masses([15.999, 2.014, 1.008])
    atoms.set_momenta(rng.normal(size=(3, 3)))
    return atoms


def test_state_holds_what_atoms_hold(water):
    state = state_from_atoms(water)
    assert state.positions.dtype == state.velocities.dtype == torch.float64
    assert_array_equal(state.positions.numpy(), water.positions)
    assert_array_equal(state.masses.numpy(), [15.999, 2.014, 1.008])
    assert_array_equal(state.atomic_numbers.numpy(), [8, 1, 1])
    assert_array_equal(state.cell[0].numpy(), water.cell.array)
    assert state.pbc.tolist() == [[True, False, True]]
    assert (state.n_atoms, state.n_systems) == (3, 1)


def test_velocities_are_in_angstrom_per_femtosecond(water):
    moved = water.positions + water.get_velocities() * (2.0 * units.fs)
    state = state_from_atoms(water)
    assert_allclose(
        (state.positions + 2.0 * state.velocities).numpy(), moved, rtol=1e-14
    )


def test_momenta_come_back(water):
    momenta = ase_momenta(state_from_atoms(water)).numpy()
    assert_allclose(momenta, water.get_momenta(), rtol=4e-16)


def test_momenta_to_velocities_divides_by_each_mass():
    velocities = momenta_to_velocities(np.ones((2, 3)), np.array([1.0, 4.0]))
    assert_allclose(velocities[0], 4.0 * velocities[1], rtol=1e-15)


def test_atoms_without_momenta_are_at_rest():
    assert_array_equal(velocities_from_atoms(Atoms("H2", np.eye(3)[:2])), 0.0)


def test_state_shares_no_memory_with_atoms(water):
    state = state_from_atoms(water)
    before = water.positions.copy(), water.cell.array.copy(), water.numbers.copy()
    state.positions.add_(1.0)
    state.cell.add_(1.0)
    state.atomic_numbers.add_(1)
    assert_array_equal(water.positions, before[0])
    assert_array_equal(water.cell.array, before[1])
    assert_array_equal(water.numbers, before[2])


def test_list_becomes_one_batch(water):
    argon = Atoms("Ar", [[9.0, 9.0, 9.0]])
    state = state_from_atoms([water, argon, water])
    assert state.system_index.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert state.n_systems == 3
    assert state.pbc[1].tolist() == [False] * 3
    assert_array_equal(state.positions[4:].numpy(), water.positions)


def test_moved_keeps_everything_else(water):
    state = state_from_atoms(water)
    moved = state.moved(state.positions + 1.0, state.velocities * 2.0)
    assert torch.equal(moved.positions, state.positions + 1.0)
    assert torch.equal(moved.velocities, state.velocities * 2.0)
    assert moved.masses is state.masses
    assert moved.cell is state.cell


@pytest.mark.parametrize("name", ["positions", "momenta", "cell", "masses"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(water, name, value):
    if name == "cell":
        water.cell.array[1, 2] = value
    else:
        water.arrays[name][1] = value
    with pytest.raises(ValueError, match=rf"{name} of row 1 are not finite"):
        state_from_atoms(water)


@pytest.mark.parametrize("mass", [0.0, -1.0])
def test_masses_must_be_positive(water, mass):
    water.arrays["masses"][2] = mass
    with pytest.raises(ValueError, match="positive mass"):
        state_from_atoms(water)


def test_empty_input_is_refused():
    with pytest.raises(ValueError, match="at least one atom"):
        state_from_atoms(Atoms())
    with pytest.raises(ValueError, match="at least one system"):
        state_from_atoms([])


def test_filter_is_refused_by_name(water):
    with pytest.raises(TypeError, match="FrechetCellFilter"):
        state_from_atoms([FrechetCellFilter(water)])
