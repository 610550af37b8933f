"""Thermostats on their own: formulas, conservation, schedules and errors."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCom
from ase.md.bussi import Bussi
from driver_helpers import HORIZON, STRIDE, FreeFlight, crystal, draw_momenta, water
from helpers import kinetic_energy

from trajcast_ase.conservation import Conservation, angular_momentum, com_velocity
from trajcast_ase.constraints import constraints_of
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.kinetics import degrees_of_freedom, thermal_motion
from trajcast_ase.state import state_from_atoms
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.thermostats.schedules import (
    ExponentialQuench,
    LinearRamp,
    temperature_at,
)
from trajcast_ase.thermostats.thermostat import Thermostat, thermalize

ANGULAR = Conservation()
KT = 300 * units.kB
LINE = [[0, 0, 0], [1, 1, 0], [2.5, 2.5, 0]]
LONG = 1e6 * STRIDE


def spinning_water(seed=0):
    """Return a molecule with drift, rotation and vibration."""
    atoms = water(seed)
    atoms.set_velocities(atoms.get_velocities() + np.array([0.2, -0.1, 0.05]))
    return state_from_atoms(atoms)


def make(kind, seed=1):
    rng = np.random.default_rng(seed)
    if kind == "csvr":
        return CSVR(300, 2 * STRIDE, rng=rng)
    return Langevin(300, 0.5 / STRIDE, rng=rng)


def act(thermostat, state, n=1, constraints=None):
    options = {} if constraints is None else {"constraints": constraints}
    for i in range(n):
        state = thermalize(
            [thermostat], state, ANGULAR, time=i * STRIDE, timestep=STRIDE, **options
        )
    return state


def apply(thermostat, state, time=0.0):
    """Return `state` after one stride of a thermostat alone."""
    motion = thermal_motion(state, ANGULAR)
    return thermostat.apply(motion, time, STRIDE).state


@pytest.mark.parametrize("kind", ["csvr", "langevin"])
def test_thermostats_keep_positions_and_conserved_momenta(kind):
    state = spinning_water()
    after = act(make(kind), state, 20)
    assert (after.positions == state.positions).all()
    assert not torch.allclose(after.velocities, state.velocities)
    torch.testing.assert_close(
        com_velocity(after), com_velocity(state), rtol=1e-13, atol=0
    )
    scale = (state.masses * state.velocities.norm(dim=1)).sum()
    change = angular_momentum(after) - angular_momentum(state)
    assert change.abs().max() < 1e-12 * scale


def test_csvr_scales_all_velocities_of_a_resting_system_by_one_number():
    _, atoms = crystal()
    state = state_from_atoms(atoms)
    ratio = act(make("csvr"), state).velocities / state.velocities
    assert float(ratio.std()) < 1e-12
    assert abs(float(ratio.mean()) - 1) > 1e-3


def test_csvr_conserved_quantity():
    state, thermostat = spinning_water(), make("csvr")
    start = kinetic_energy(state)
    transferred = []
    for _ in range(100):
        state = act(thermostat, state)
        transferred.append(float(thermostat.transferred_energy))
        assert abs(kinetic_energy(state) - transferred[-1] - start) < 1e-10
    assert np.ptp(transferred) > 1e-3


class FixedNoise:
    """Gives the same normal and gamma variates each time."""

    def __init__(self, normal, gamma):
        self.normal, self.gamma = normal, gamma

    def standard_normal(self, size=None):
        return self.normal if size is None else np.full(size, self.normal)

    def standard_gamma(self, shape):
        self.shape = shape
        return self.gamma


@pytest.mark.parametrize("normal", [0.3, -1.2])
def test_csvr_factor_is_that_of_ase_bussi_at_equal_degrees_of_freedom(normal):
    noise = FixedNoise(normal, 7.0)
    _, atoms = crystal()
    atoms.calc = FreeFlight()
    reference = Bussi(atoms, STRIDE, temperature_K=300, taut=4 * STRIDE, rng=noise)
    expected = reference.calculate_alpha(atoms.get_kinetic_energy())
    state = state_from_atoms(atoms)
    ours = CSVR(300, 4 * STRIDE, rng=noise)
    motion = thermal_motion(state, ANGULAR)
    space = replace(motion.space, n_dof=torch.tensor([reference.ndof]))
    after = ours.apply(replace(motion, space=space), 0.0, STRIDE).state
    alpha = (after.velocities / state.velocities).mean()
    assert float(alpha) == pytest.approx(expected, rel=1e-13)
    assert noise.shape == 0.5 * (reference.ndof - 1)


def test_csvr_factor_has_the_sign_of_equation_a8():
    state = state_from_atoms(crystal()[1])
    flipped = apply(CSVR(300, STRIDE, rng=FixedNoise(-40.0, 7.0)), state)
    assert (flipped.velocities * state.velocities <= 0).all()


def test_csvr_is_an_exact_ornstein_uhlenbeck_step_for_one_degree_of_freedom():
    molecule = Atoms(
        "H2", [[0, 0, 0], [0.74, 0, 0]], velocities=[[1, 0, 0], [-1, 0, 0]]
    )
    state = state_from_atoms(molecule)
    after = act(CSVR(300, STRIDE, rng=FixedNoise(0.7, 0.0)), state)
    memory, mass = math.exp(-1.0), molecule.get_masses().sum()
    speed = molecule.get_velocities()[0, 0]
    expected = math.sqrt(memory) * speed + math.sqrt((1 - memory) * KT / mass) * 0.7
    assert float(after.velocities[0, 0]) / units.fs == pytest.approx(
        expected, rel=1e-12
    )


def test_langevin_step_is_exact():
    _, atoms = crystal()
    state = thermal_motion(state_from_atoms(atoms), ANGULAR).state
    friction = 0.3 / STRIDE
    after = apply(Langevin(300, friction, rng=np.random.default_rng(5)), state)
    damping = math.exp(-0.3)
    width = np.sqrt((1 - damping**2) * KT / atoms.get_masses())[:, None] * units.fs
    noise = np.random.default_rng(5).standard_normal((len(atoms), 3))
    noise -= noise.mean(axis=0)  # equal masses: what moves the center of mass
    expected = damping * state.velocities + torch.from_numpy(width * noise)
    torch.testing.assert_close(after.velocities, expected, rtol=1e-12, atol=1e-17)


def test_langevin_without_friction_does_nothing():
    state = spinning_water()
    after = act(Langevin(300, 0.0, rng=np.random.default_rng(0)), state)
    torch.testing.assert_close(
        after.velocities, state.velocities, rtol=1e-12, atol=1e-16
    )


def held(*constraints):
    atoms = draw_momenta(
        Atoms("OH2N", np.diag([1.0, 2, 3, 0])[:, :3]), np.random.default_rng(0)
    )
    atoms.set_constraint(constraints)
    return atoms


SYSTEMS = {
    "isolated, odd": water(),
    "isolated, even": draw_momenta(
        Atoms("NH3", np.vstack([np.zeros((1, 3)), np.eye(3)])),
        np.random.default_rng(1),
    ),
    "linear": draw_momenta(Atoms("CO2", LINE), np.random.default_rng(2)),
    "diatomic": draw_momenta(Atoms("OH", LINE[:2]), np.random.default_rng(3)),
    "periodic": crystal()[1],
    "fixed atoms": held(FixAtoms([2])),
    "fixed center": held(FixCom()),
    "fixed atom and center": held(FixAtoms([0]), FixCom()),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", SYSTEMS)
def test_langevin_noise_has_the_counted_degrees_of_freedom(name):
    """Null: the mean is n_dof kT / 2; 300 draws; false alarm 6e-5 (4 standard errors).

    The projections of the noise and the count are independent; three degrees of freedom
    too many are 8 standard errors off for n_dof = 21, one is 6 for n_dof = 4.
    """
    atoms = SYSTEMS[name]
    state, constraints = state_from_atoms(atoms), constraints_of(atoms)
    thermostat = Langevin(300, 100 / STRIDE, rng=np.random.default_rng(7))
    n_dof = degrees_of_freedom(state, ANGULAR, constraints)
    energies = []
    for _ in range(300):
        state = act(thermostat, state, 1, constraints)
        motion = thermal_motion(state, ANGULAR, constraints)
        energies.append(float(motion.kinetic_energies))
    z = (np.mean(energies) / (KT / 2) - n_dof) / math.sqrt(2 * n_dof / 300)
    assert abs(z) < 4


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["isolated, odd", "isolated, even", "diatomic"])
def test_csvr_without_memory_draws_canonical_energies(name):
    """Null: 2 K / kT is chi-squared with n_dof; 1,000 draws; 4 standard errors."""
    state = state_from_atoms(SYSTEMS[name])
    n_dof = degrees_of_freedom(state, ANGULAR)
    thermostat = CSVR(300, 0.0, rng=np.random.default_rng(8))
    energies = np.empty(1000)
    for i in range(1000):
        state = apply(thermostat, state)
        energies[i] = kinetic_energy(state) / (KT / 2)
    z = (energies.mean() - n_dof) / math.sqrt(2 * n_dof / 1000)
    assert abs(z) < 4
    # Fourth central moment of chi-squared: 12 n (n + 4); variance 2 n.
    spread = math.sqrt((12 * n_dof * (n_dof + 4) - (2 * n_dof) ** 2) / 1000)
    assert abs(energies.var() - 2 * n_dof) / spread < 4


@pytest.mark.statistical
@pytest.mark.parametrize("strides_per_tau", [2, 10])
def test_csvr_relaxes_with_its_time_constant(strides_per_tau):
    """Null: E[K'] = c K + (1 - c) K_mean from 4 K_mean on; 4 standard errors."""
    _, atoms = crystal()
    state = state_from_atoms(draw_momenta(atoms, np.random.default_rng(3), 1200))
    memory = math.exp(-1 / strides_per_tau)
    start, mean = kinetic_energy(state), 21 * KT / 2
    rng = np.random.default_rng(9)
    thermostat = CSVR(300, strides_per_tau * STRIDE, rng=rng)
    draws = [apply(thermostat, state) for _ in range(1000)]
    energies = [kinetic_energy(draw) for draw in draws]
    expected = memory * start + (1 - memory) * mean
    assert abs(np.mean(energies) - expected) < 4 * np.std(energies) / math.sqrt(1000)


def test_schedules():
    ramp = LinearRamp(100, 300, 50 * STRIDE)
    assert [ramp(t * STRIDE) for t in (-1, 0, 25, 50, 80)] == [100, 100, 200, 300, 300]
    quench = ExponentialQuench(1000, 100, 10 * STRIDE)
    assert quench(0) == 1000
    assert quench(10 * STRIDE) == pytest.approx(100 + 900 / math.e)
    assert quench(LONG) == 100


@pytest.mark.parametrize("kind", [CSVR, Langevin])
def test_temperature_may_be_a_function_of_the_drivers_time(kind):
    times = []

    def target(time):
        times.append(time)
        return 300.0

    atoms = water()
    thermostat = kind(target, 1.0, rng=np.random.default_rng(0))
    TrajCast(atoms, Ballistic(HORIZON), thermostat=thermostat).run(3)
    assert times == [STRIDE, 2 * STRIDE, 3 * STRIDE]


def test_ramp_heats():
    _, atoms = crystal(3)
    ramp = LinearRamp(300, 900, 60 * STRIDE)
    thermostat = CSVR(ramp, STRIDE, rng=np.random.default_rng(0))
    dyn = TrajCast(atoms, Ballistic(HORIZON), thermostat=thermostat)
    seen = []
    dyn.attach(lambda: seen.append(dyn.get_temperature()))
    dyn.run(200)
    # 140 nearly independent values of relative width 0.16.
    assert np.mean(seen[-140:]) == pytest.approx(900, rel=0.06)
    assert np.mean(seen[:10]) < 500


@pytest.mark.parametrize("kind", [CSVR, Langevin])
def test_settings_are_plain_values(kind):
    ramp = LinearRamp(100, 300, 5.0)
    settings = [kind(t, 2.0).todict() for t in (300, ramp, math.cos, np.float64(3))]
    settings = json.loads(json.dumps(settings))
    described = [s["temperature_K"] for s in settings]
    named = {"name": "LinearRamp", "start_K": 100, "end_K": 300, "duration": 5.0}
    assert described == [300, named, "cos", 3]
    assert {s["name"] for s in settings} == {kind.__name__}


@pytest.mark.parametrize("kind", [CSVR, Langevin])
def test_generators(kind):
    state = spinning_water()

    def after(rng):
        return apply(kind(300, STRIDE, rng=rng), state).velocities

    assert (after(np.random.default_rng(1)) == after(np.random.default_rng(1))).all()
    legacy = [after(np.random.RandomState(1)) for _ in range(2)]
    assert (legacy[0] == legacy[1]).all()
    assert not torch.equal(after(None), after(None))
    with pytest.raises(TypeError, match="default_rng"):
        kind(300, STRIDE, rng=42)


@pytest.mark.parametrize("kind", [CSVR, Langevin])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_settings_are_refused(kind, value):
    with pytest.raises(ValueError, match=r"temperature_K = .* must be zero"):
        kind(value, STRIDE)
    with pytest.raises(ValueError, match=r"(taut|friction) = "):
        kind(300, value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_bad_schedules_are_refused(value):
    with pytest.raises(ValueError, match="duration = "):
        LinearRamp(1, 2, value)
    with pytest.raises(ValueError, match="time_constant = "):
        ExponentialQuench(1, 2, value)
    with pytest.raises(ValueError, match=r"-5.0 K at time 7 fs"):
        temperature_at(lambda _: -5.0, 7 * units.fs)


def test_no_velocities_no_rescaling():
    state = state_from_atoms(Atoms("OH2", np.eye(3)))
    with pytest.raises(ValueError, match="velocities"):
        apply(make("csvr"), state)
    with pytest.raises(ValueError, match="velocities"):
        make("csvr").check_start(thermal_motion(state, ANGULAR))


def test_one_atom_has_no_temperature():
    state = state_from_atoms(Atoms("Ar", momenta=[[1, 2, 3]]))
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        act(make("csvr"), state)


def test_own_thermostat_may_be_careless():
    class Careless:
        """Kicks everything, center of mass and all."""

        transferred_energy = torch.zeros(1)

        def apply(self, motion, time, timestep):
            del time, timestep
            return motion.changed(motion.state.velocities + 0.01)

        def todict(self):
            return {"name": "Careless"}

    assert isinstance(Careless(), Thermostat)
    assert not isinstance(object(), Thermostat)
    state = spinning_water()
    after = act(Careless(), state)
    assert (after.positions == state.positions).all()
    torch.testing.assert_close(
        after.velocities, state.velocities, rtol=1e-11, atol=1e-15
    )
