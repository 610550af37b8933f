"""Degrees of freedom and thermal motion."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms, FixCom
from driver_helpers import crystal, draw_momenta, water
from helpers import join, kinetic_energy, make_state, random_state

from trajcast_ase.conservation import Conservation, angular_momentum, com_velocity
from trajcast_ase.kinetics import (
    conserved_motion,
    degrees_of_freedom,
    run_temperature,
    temperature,
    thermal_motion,
)
from trajcast_ase.state import state_from_atoms
from trajcast_ase.trajectory import Frames
from trajcast_ase.units import FS

ANGULAR, LINEAR_ONLY = Conservation(), Conservation(angular=False)
LINE = [[0, 0, 0], [1, 1, 0], [2.5, 2.5, 0]]
CASES = [
    (water(), ANGULAR, 3),
    (water(), LINEAR_ONLY, 6),
    (Atoms("CO2", LINE), ANGULAR, 4),
    (Atoms("OH", [[0, 0, 0], [0, 0.3, 0.9]]), ANGULAR, 1),
    (Atoms("Ar"), ANGULAR, 0),
    (crystal()[1], ANGULAR, 21),
    (crystal()[1], LINEAR_ONLY, 21),
    (Atoms("CO2", LINE, cell=[9, 9, 9], pbc=[True, False, False]), ANGULAR, 6),
]


@pytest.mark.parametrize(("atoms", "rule", "expected"), CASES)
def test_degrees_of_freedom(atoms, rule, expected):
    assert degrees_of_freedom(atoms, rule) == expected
    assert degrees_of_freedom(state_from_atoms(atoms), rule) == expected


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([FixCom()], 3),
        ([FixAtoms([0])], 6),
        ([FixAtoms([0]), FixAtoms([0, 1])], 3),
        ([FixAtoms([0]), FixCom()], 3),
        ([FixAtoms([0, 1, 2]), FixCom()], 0),
    ],
)
def test_degrees_of_freedom_with_constraints(held, expected):
    atoms = water()
    atoms.set_constraint(held)
    assert degrees_of_freedom(atoms, ANGULAR) == expected


def test_a_batch_has_no_single_number():
    rng = np.random.default_rng(0)
    batch = join([random_state(rng), random_state(rng)])
    with pytest.raises(ValueError, match="2 systems"):
        degrees_of_freedom(batch, ANGULAR)


@pytest.mark.parametrize("rule", [ANGULAR, LINEAR_ONLY])
@pytest.mark.parametrize("positions", [water().positions, LINE])
def test_conserved_motion_is_orthogonal_and_complete(rule, positions):
    rng = np.random.default_rng(2)
    state = make_state(positions, rng.normal(size=(3, 3)), [8, 1, 1])
    thermal = thermal_motion(state, rule).state
    conserved = conserved_motion(state, rule)
    rest = state.moved(state.positions, conserved)
    assert com_velocity(thermal).abs().max() < 1e-14
    torch.testing.assert_close(com_velocity(rest), com_velocity(state))
    total = kinetic_energy(thermal) + kinetic_energy(rest)
    assert total == pytest.approx(kinetic_energy(state), rel=1e-13)
    if rule.angular:
        assert angular_momentum(thermal).abs().max() < 1e-12
        torch.testing.assert_close(angular_momentum(rest), angular_momentum(state))


def test_kinetic_energy_is_that_of_ase():
    atoms = water()
    energy = kinetic_energy(state_from_atoms(atoms))
    assert energy == pytest.approx(atoms.get_kinetic_energy(), rel=1e-14)


def test_temperature_of_a_paracetamol_sized_molecule_differs_from_ase():
    rng = np.random.default_rng(1)
    positions = 1.5 * np.argwhere(np.ones((5, 2, 2)))
    atoms = draw_momenta(Atoms("H20", positions), rng)
    state = thermal_motion(state_from_atoms(atoms), ANGULAR).state
    atoms.set_momenta(
        (state.velocities * state.masses[:, None]).numpy() / 0.09822694788464063
    )
    ratio = atoms.get_temperature() / temperature(atoms, ANGULAR)
    assert ratio == pytest.approx(54 / 60, rel=1e-12)
    assert temperature(Atoms("Ar", momenta=[[1, 2, 3]]), ANGULAR) == 0.0


@pytest.mark.parametrize("name", ["N2", "C2H4", "CH3CH2OH"])
def test_temperature_of_a_run_is_the_mean_of_its_frames(name):
    """Of one that drifts and turns, as under Langevin with fixcm=False."""
    atoms, rng = molecule(name), np.random.default_rng(4)
    kelvins, positions, velocities = [], [], []
    for _ in range(20):
        atoms.rattle(0.02, rng=rng)
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)))
        kelvins.append(temperature(atoms, Conservation()))
        positions.append(atoms.positions.copy())
        velocities.append(atoms.get_velocities() * FS)
    frames = Frames(
        np.array(positions),
        np.array(velocities),
        atoms.numbers.astype(np.int64),
        atoms.get_masses(),
        atoms.cell.array,
        atoms.pbc,
        1.0,
        "drawn",
    )
    assert run_temperature(frames) == pytest.approx(np.mean(kelvins), rel=1e-10)
