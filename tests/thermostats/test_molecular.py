"""CSVR of molecules and of the motion within them: two temperatures, no friction."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from driver_helpers import STRIDE
from helpers import by_either_engine, join

from trajcast_ase.conservation import Conservation, com_velocity
from trajcast_ase.constraints import constraints_of
from trajcast_ase.data import paracetamol, quartz, water
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.kinetics import kinetic_energies, thermal_motion
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import state_from_atoms
from trajcast_ase.streams import Streams
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.molecular import MolecularCSVR
from trajcast_ase.thermostats.recommended import thermostats_of
from trajcast_ase.thermostats.setting import ThermostatSetting
from trajcast_ase.thermostats.thermostat import thermalize

RULE = Conservation()
KT = 300.0 * units.kB
N_MOLECULES = 64
OF_CENTERS = 3 * N_MOLECULES - 3
WITHIN = 3 * 192 - 3 - OF_CENTERS


def liquid(seed=0):
    """Return 64 molecules of water at 300 K, which drift."""
    atoms = water()
    draw_momenta(atoms, 300.0, np.random.default_rng(seed), RULE)
    atoms.set_velocities(atoms.get_velocities() + np.array([0.01, -0.02, 0.03]))
    return atoms


def colder_centers(atoms):
    """Return the atoms with molecules at a third of the kinetic energy."""
    masses = atoms.get_masses()
    momenta = atoms.get_momenta().reshape(N_MOLECULES, -1, 3)
    of_molecule = masses.reshape(N_MOLECULES, -1)
    centers = momenta.sum(axis=1) / of_molecule.sum(axis=1)[:, None]
    drift = np.average(centers, axis=0)
    change = (np.sqrt(1 / 3) - 1.0) * (centers - drift)
    atoms.set_velocities(atoms.get_velocities() + np.repeat(change, 3, axis=0))
    return atoms


def split(state):
    """Return kinetic energies of the centres and within, without the drift, eV."""
    motion = thermal_motion(state, RULE).state
    masses = motion.masses.view(N_MOLECULES, -1, 1)
    velocities = motion.velocities.view(N_MOLECULES, -1, 3)
    centers = (masses * velocities).sum(dim=1) / masses.sum(dim=1)
    spread = centers.repeat_interleave(3, dim=0)
    moving = motion.moved(motion.positions, spread)
    inner = motion.moved(motion.positions, motion.velocities - spread)
    return float(kinetic_energies(moving)), float(kinetic_energies(inner))


def strides(thermostat, state, n, rule=RULE):
    for k in range(n):
        state = thermalize([thermostat], state, rule, time=k * STRIDE, timestep=STRIDE)
        yield state


def sampled(kind, n=4000):
    """Return kinetic energies after strides that each draw new ones."""
    state = state_from_atoms(colder_centers(liquid()))
    thermostat = kind(300.0, 0.0, np.random.default_rng(1))
    return np.array([split(one) for one in strides(thermostat, state, n)])


def deviations(energies):
    """Return mean and width of both from the canonical ones, in standard errors."""
    found = []
    for column, n_dof in zip(energies.T, (OF_CENTERS, WITHIN), strict=True):
        variance = n_dof / 2 * KT**2
        n = len(column)
        found.append((column.mean() - n_dof / 2 * KT) / np.sqrt(variance / n))
        found.append((column.var() - variance) / (variance * np.sqrt(2 / n)))
    return np.abs(found)


@pytest.mark.statistical
def test_both_motions_have_canonical_kinetic_energies():
    """Fails by chance once in ten thousand seeds; CSVR keeps the molecules cold."""
    assert deviations(sampled(MolecularCSVR)).max() < 4.5
    assert deviations(sampled(CSVR)).max() > 100


def test_momentum_stays_and_energy_is_accounted_for():
    state = state_from_atoms(liquid())
    thermostat = MolecularCSVR(300.0, 5 * STRIDE, np.random.default_rng(2))
    *_, after = strides(thermostat, state, 50)
    torch.testing.assert_close(
        com_velocity(after), com_velocity(state), rtol=1e-12, atol=0
    )
    gained = kinetic_energies(after) - kinetic_energies(state)
    torch.testing.assert_close(
        thermostat.transferred_energy, gained, rtol=0, atol=1e-10
    )
    assert (after.positions == state.positions).all()


def test_a_batch_is_its_single_systems():
    states = [state_from_atoms(liquid(seed)) for seed in (1, 2)]

    def rngs():
        return [np.random.default_rng(seed) for seed in (3, 4)]

    both = MolecularCSVR(300.0, 5 * STRIDE, Streams(rngs()))
    *_, batch = strides(both, join(states), 3)
    for state, rng, rows in zip(
        states, rngs(), (slice(0, 192), slice(192, 384)), strict=True
    ):
        *_, alone = strides(MolecularCSVR(300.0, 5 * STRIDE, rng), state, 3)
        torch.testing.assert_close(
            batch.velocities[rows], alone.velocities, rtol=1e-13, atol=0
        )


def test_a_driver_goes_on_exactly(tmp_path):
    model = Ballistic(horizon_fs=0.5)  # longer, and molecules fly apart

    def run(atoms, **options):
        rng = np.random.default_rng(5)
        thermostat = MolecularCSVR(300.0, 50 * units.fs, rng)
        return TrajCast(atoms, model, thermostat=thermostat, guards=[], **options)

    whole = run(liquid())
    whole.run(6)
    half = run(liquid())
    half.run(3)
    half.checkpoint(tmp_path / "half")
    rest = TrajCast.restart(
        tmp_path / "half",
        model,
        thermostat=MolecularCSVR(300.0, 50 * units.fs, np.random.default_rng(9)),
        guards=[],
    )
    rest.run(3)
    assert (rest.atoms.get_momenta() == whole.atoms.get_momenta()).all()


def argon():
    return bulk("Ar", cubic=True) * (2, 2, 2)


def one_molecule():
    return Atoms("OH2", [[0, 0, 0], [0, 0, 1], [1, 0, 0]], cell=[9, 9, 9], pbc=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            paracetamol,
            "with 54 thermal degrees of freedom is isolated",
        ),
        (quartz, "needs molecules, but of system 0 bonds lead from atom"),
        (argon, "of 32 atoms is single atoms, which .* use CSVR"),
        (one_molecule, "of 3 atoms is one molecule, which .* use CSVR"),
    ],
)
def test_what_has_no_molecules_that_move_freely_is_refused(make, message):
    atoms = make()
    draw_momenta(atoms, 300.0, np.random.default_rng(1), RULE)
    with pytest.raises(ValueError, match=message):
        TrajCast(
            atoms, Ballistic(horizon_fs=5.0), thermostat=MolecularCSVR(300.0, 50.3)
        )


def test_fixed_atoms_are_refused():
    atoms = liquid()
    atoms.set_constraint(FixAtoms([0]))
    motion = thermal_motion(state_from_atoms(atoms), RULE, constraints_of(atoms))
    with pytest.raises(ValueError, match="constraints hold some of it"):
        MolecularCSVR(300.0, 50.3).check_start(motion)


def test_molecules_at_rest_cannot_be_scaled():
    atoms = liquid()
    masses = atoms.get_masses().reshape(N_MOLECULES, -1, 1)
    momenta = atoms.get_momenta().reshape(N_MOLECULES, -1, 3)
    centers = momenta.sum(axis=1) / masses.sum(axis=1)
    atoms.set_velocities(atoms.get_velocities() - np.repeat(centers, 3, axis=0))
    motion = thermal_motion(state_from_atoms(atoms), RULE)
    with pytest.raises(ValueError, match="cannot be rescaled"):
        MolecularCSVR(300.0, 50.3).check_start(motion)


def test_a_model_file_can_recommend_it():
    setting = ThermostatSetting(({"kind": "MolecularCSVR", "time_constant_fs": 50.0},))
    (made,) = thermostats_of(setting, 300.0)
    assert type(made) is MolecularCSVR
    assert made.taut == pytest.approx(50.0 * units.fs)
    assert str(setting) == "MolecularCSVR 50 fs"


@by_either_engine
def test_isotopes_keep_their_molecules_and_get_their_masses():
    atoms = liquid()
    bath = MolecularCSVR(300.0, 70 * units.fs, np.random.default_rng(3))
    dynamics = TrajCast(atoms, Ballistic(5.0), thermostat=bath)
    dynamics.run(1)
    molecules = bath._partition.molecule
    atoms.set_masses(np.where(atoms.numbers == 1, 2.014, atoms.get_masses()))
    dynamics.run(1)
    motion = thermal_motion(state_from_atoms(atoms), RULE)
    assert bath._partition.molecule is molecules
    assert bath._partition.masses.flatten().tolist() == pytest.approx([20.027] * 64)
    parts = bath.partition(motion).parts(motion)
    assert float(sum(part.kinetic for part in parts)) == pytest.approx(
        float(motion.kinetic_energies), rel=1e-12
    )
