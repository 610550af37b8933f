"""Thermostats against forecasts that damp or heat by an amount nobody told them."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import Atoms, units
from driver_helpers import STRIDE, draw_momenta
from jaxtyping import Float
from torch import Tensor

from trajcast_ase import CSVR, AdaptiveLangevin, Langevin, TrajCast
from trajcast_ase.conservation import Conservation
from trajcast_ase.constraints import Constraints
from trajcast_ase.kinetics import (
    ThermalMotion,
    ThermalSpace,
    kinetic_energies,
    thermal_motion,
)
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.streams import Streams
from trajcast_ase.testing import PERIODIC_ONLY, HarmonicCrystal
from trajcast_ase.thermostats.thermostat import thermalize

pytestmark = pytest.mark.statistical

RULE = Conservation()
KT = 300 * units.kB
N_SYSTEMS = 64
N_STRIDES, SETTLED = 1500, 300
FRICTION, TAUT = 0.02 / STRIDE, 20 * STRIDE


def molecules(*, periodic: bool = True) -> State:
    """Return molecules of three elements at 300 K.

    Each has 12 degrees of freedom, or 9 if it is isolated, which costs more time.
    """
    positions = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    box = {"cell": [9, 9, 9], "pbc": True} if periodic else {}
    rng = np.random.default_rng(1)
    return state_from_atoms(
        [draw_momenta(Atoms("CH2OH", positions, **box), rng) for _ in range(N_SYSTEMS)]
    )


def streams(seed: int, n: int = N_SYSTEMS) -> Streams:
    return Streams(np.random.default_rng(seed).spawn(n))


@dataclass
class Disturbance:
    """What a forecast does to velocities in a stride, beside the right thing."""

    factor: float | Float[Tensor, "atoms 1"] = 1.0
    heat: float = 0.0
    rng: np.random.Generator = None

    def __call__(self, state: State) -> State:
        velocities = self.factor * state.velocities
        if self.heat:
            width = (self.heat * KT / state.masses).sqrt()[:, None] * units.fs
            noise = self.rng.standard_normal(velocities.shape)
            velocities = velocities + width * torch.from_numpy(noise)
        return thermal_motion(state.moved(state.positions, velocities), RULE).state


def energies(thermostats, disturbance=None, *, periodic=True):
    """Return K before and after the thermostats over n_dof kT / 2, stride by stride."""
    motion = thermal_motion(molecules(periodic=periodic), RULE)
    state, seen = motion.state, []
    for step in range(N_STRIDES):
        before = state if disturbance is None else disturbance(state)
        state = thermalize(thermostats, before, RULE, time=0.0, timestep=STRIDE)
        if step >= SETTLED:
            seen.append(torch.stack([kinetic_energies(one) for one in (before, state)]))
    n_dof = int(motion.n_dof[0])
    return (torch.stack(seen) / (0.5 * n_dof * KT)).numpy(), n_dof


def z_score(values, expected):
    """Return the deviation of the mean; each system's average is independent."""
    means = values.mean(axis=0)
    return (means.mean() - expected) / (means.std(ddof=1) / math.sqrt(len(means)))


MAKERS = {
    "csvr": lambda rng: [CSVR(300, TAUT, rng)],
    "langevin": lambda rng: [Langevin(300, FRICTION, rng)],
    "langevin, csvr": lambda rng: [Langevin(300, FRICTION, rng), CSVR(300, TAUT, rng)],
    "adaptive": lambda rng: [AdaptiveLangevin(300, FRICTION, TAUT, rng)],
    "adaptive, one": lambda rng: [
        AdaptiveLangevin(300, FRICTION, TAUT, rng, per_element=False)
    ],
}


@pytest.fixture(scope="module", params=MAKERS)
def undisturbed(request):
    thermostats = MAKERS[request.param](streams(2))
    values, n_dof = energies(thermostats, periodic=False)
    return values[:, 1], n_dof, thermostats


def test_each_samples_mean_and_variance_of_the_kinetic_energy(undisturbed):
    """Null: 2 K / kT is chi-squared; 64 averages of 1,200 strides; 4 standard errors.

    False alarm 2 x 1e-4 for each thermostat (t of 63 degrees of freedom).
    """
    values, n_dof, _ = undisturbed
    assert abs(z_score(values, 1)) < 4
    assert abs(z_score((values - 1) ** 2, 2 / n_dof)) < 4


def test_the_same_test_fails_for_wrong_ensembles(undisturbed):
    values, n_dof, _ = undisturbed
    assert n_dof == 9
    assert abs(z_score(values * n_dof / (n_dof + 3), 1)) > 6
    narrow = 1 + 0.8 * (values - 1)
    assert abs(z_score((narrow - 1) ** 2, 2 / n_dof)) > 6


@pytest.mark.parametrize("per_element", [True, False])
def test_friction_is_normal_about_that_of_the_noise(per_element):
    """Null: mean gamma, variance 1 / (3 N tau^2); 64 averages; 4 standard errors."""
    thermostat = AdaptiveLangevin(
        300, FRICTION, TAUT, streams(3), per_element=per_element
    )
    state, seen = molecules(), []
    for step in range(N_STRIDES):
        state = thermalize([thermostat], state, RULE, time=0.0, timestep=STRIDE)
        if step >= SETTLED:
            seen.append(thermostat.frictions.clone())
    frictions = torch.stack(seen).numpy()
    groups = [(1, 3), (6, 1), (8, 1)] if per_element else [(0, 5)]
    for column, n_atoms in groups:
        found, variance = frictions[:, :, column], 1 / (3 * n_atoms * TAUT**2)
        assert abs(z_score(found, FRICTION)) < 4
        assert abs(z_score((found - FRICTION) ** 2, variance)) < 4
        # A thermal mass of twice the atoms would be seen.
        wrong = 1 / (6 * n_atoms * TAUT**2)
        assert abs(z_score((found - FRICTION) ** 2, wrong)) > 6
    assert (frictions < 0).any()


DAMPED, HEATED = {"factor": 0.996}, {"heat": 0.008}


@pytest.mark.parametrize("settings", [DAMPED, HEATED])
@pytest.mark.parametrize("name", ["adaptive", "adaptive, one"])
def test_adaptive_langevin_needs_not_know_the_disturbance(settings, name):
    """Null: the mean of K before and after is that of equilibrium, at any stride.

    64 averages of 1,200 strides; 4 standard errors of at most 1 % in all.
    """
    disturbance = Disturbance(**settings, rng=np.random.default_rng(4))
    values, _ = energies(MAKERS[name](streams(5)), disturbance)
    middle = values.mean(axis=1)
    assert abs(z_score(middle, 1)) < 4
    assert middle.mean(axis=0).std(ddof=1) / 8 < 0.0025


@pytest.mark.parametrize("settings", [DAMPED, HEATED])
def test_plain_langevin_is_wrong_by_a_known_amount(settings):
    """The wrong twin of the above, with the same noise; null: the stationary value."""
    disturbance = Disturbance(**settings, rng=np.random.default_rng(4))
    plain, _ = energies(MAKERS["langevin"](streams(6)), disturbance)
    keep = math.exp(-2 * FRICTION * STRIDE)
    lost = disturbance.factor**2
    known = (keep * disturbance.heat + 1 - keep) / (1 - keep * lost)
    assert abs(known - 1) > 0.1
    assert abs(z_score(plain[:, 1], known)) < 4
    assert abs(z_score(plain[:, 1], 1)) > 6


def test_a_count_without_projections_gives_a_wrong_temperature(monkeypatch):
    """The wrong twin of the above: 3 degrees of freedom for each atom, 15 for 12."""
    monkeypatch.setattr(
        ThermalSpace,
        "atom_dof",
        lambda self: torch.full_like(self.state.masses, 3.0),
    )
    values, n_dof = energies(MAKERS["adaptive"](streams(7)))
    assert n_dof == 12
    assert values.mean() == pytest.approx(15 / 12, rel=0.03)


def test_damped_hydrogen_keeps_its_temperature_by_element_only():
    """Null: each element has its expectation; 64 averages; 4 standard errors.

    Hydrogen alone loses 2 % of its kinetic energy a stride. CSVR returns it to all,
    and nothing couples free atoms but the conserved momentum.
    """
    state = molecules()
    light = (state.atomic_numbers == 1)[:, None]
    disturbance = Disturbance(torch.where(light, 0.99, 1.0))
    share = {}
    for name in ("adaptive", "adaptive, one", "csvr"):
        thermostats = MAKERS[name](streams(8))
        moving, seen = state, []
        for step in range(N_STRIDES):
            before = disturbance(moving)
            moving = thermalize(thermostats, before, RULE, time=0.0, timestep=STRIDE)
            if step >= SETTLED:
                seen.append(0.5 * (hydrogen(before) + hydrogen(moving)))
        share[name] = torch.stack(seen).numpy()
    assert abs(z_score(share["adaptive"], 1)) < 4
    assert z_score(share["adaptive, one"], 1) < -6
    assert share["csvr"][-1].mean() < 0.3


def hydrogen(state: State) -> Float[Tensor, " systems"]:
    """Return the kinetic energy of hydrogen over its expectation, by system."""
    chosen = (state.atomic_numbers == 1).double()
    space = ThermalSpace.of(state, RULE)
    twice = state.masses * state.velocities.square().sum(1) / units.fs**2 / KT
    count = (chosen * space.atom_dof()).reshape(N_SYSTEMS, -1).sum(1)
    return (chosen * twice).reshape(N_SYSTEMS, -1).sum(1) / count


@dataclass(frozen=True)
class Pump:
    """A harmonic crystal that damps some of its modes at each stride."""

    crystal: HarmonicCrystal
    factors: Float[Tensor, " modes"]
    conservation: Conservation = PERIODIC_ONLY
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    @property
    def horizon_fs(self):
        return self.crystal.horizon_fs

    def check_elements(self, atomic_numbers):
        self.crystal.check_elements(atomic_numbers)

    def raw_forecast(self, state):
        moved, velocities = self.crystal.raw_forecast(state)
        root = self.crystal.masses.sqrt()[:, None]
        momenta = self.factors * (self.crystal.modes.T @ (root * velocities).flatten())
        return moved, (self.crystal.modes @ momenta).reshape(-1, 3) / root


def mode_temperatures(make, n_strides=3000):
    """Return the mean kinetic energy of stiff and of soft modes over kT / 2."""
    crystal, atoms = HarmonicCrystal.cubic(4)
    stiff = crystal.frequencies > crystal.frequencies.median()
    model = Pump(crystal, torch.where(stiff, 0.998, 1.0))
    rng = np.random.default_rng(9)
    draw_momenta(atoms, rng)
    modes = crystal.frequencies.numpy() / units.fs
    amplitude = np.divide(
        rng.standard_normal(len(modes)) * math.sqrt(KT),
        modes,
        out=np.zeros_like(modes),
        where=modes > 0,
    )
    moved = (crystal.modes.numpy() @ amplitude).reshape(-1, 3)
    atoms.positions += moved / np.sqrt(atoms.get_masses())[:, None]
    dyn = TrajCast(atoms, model, thermostat=make(rng))
    seen = []

    def look():
        momenta = atoms.get_momenta() / np.sqrt(atoms.get_masses())[:, None]
        seen.append((crystal.modes.numpy().T @ momenta.ravel()) ** 2 / KT)

    dyn.attach(look)
    dyn.run(n_strides)
    means = np.array(seen[n_strides // 5 :]).mean(axis=0)
    soft = ~stiff.numpy() & (modes > 0)
    return means[stiff.numpy()].mean(), means[soft].mean(), means[modes > 0].mean()


@pytest.mark.slow
def test_a_weak_bath_beside_csvr_cures_the_pump():
    """Null: all modes at 300 K but for 4 %, which the bath leaves: 0.1 / (0.1 + 0.004).

    80 or more modes in a group, 2,400 strides of correlation 40: errors below 2 %.
    CSVR alone keeps the mean, and lets the damped modes die.
    """

    def both(rng):
        return [Langevin(300, 0.05 / STRIDE, rng), CSVR(300, 10 * STRIDE, rng)]

    def csvr(rng):
        return CSVR(300, 10 * STRIDE, rng)

    stiff, soft, mean = mode_temperatures(both)
    assert stiff == pytest.approx(1, abs=0.08)
    assert soft == pytest.approx(1, abs=0.08)
    assert mean == pytest.approx(1, abs=0.03)
    stiff, soft, mean = mode_temperatures(csvr)
    assert mean == pytest.approx(1, abs=0.03)
    assert stiff < 0.5
    assert soft > 1.3


def test_the_exact_step_of_a_given_friction():
    """The mean decay and the variance of the noise, about zero friction too."""
    _, atoms = HarmonicCrystal.cubic(2)
    space = ThermalSpace.of(state_from_atoms(atoms), RULE, Constraints())
    for friction in (-0.3, -1e-9, 0.0, 1e-9, 0.3):
        thermostat = AdaptiveLangevin(
            300, 0.2, 1e9, np.random.default_rng(1), per_element=False
        )
        thermostat.frictions = torch.tensor([[friction]], dtype=torch.float64)
        rest = ThermalMotion(space.state, space)
        start = rest.changed(draw(atoms, 3))
        noise = thermostat.apply(rest, 0.0, 2.0).state.velocities
        thermostat.streams = Streams([np.random.default_rng(1)])
        after = thermostat.apply(start, 0.0, 2.0).state.velocities
        decay = math.exp(-2.0 * friction)
        torch.testing.assert_close(after - noise, decay * start.state.velocities)
        drawn = torch.from_numpy(np.random.default_rng(1).standard_normal((8, 3)))
        drawn = drawn - drawn.mean(0)
        span = 4.0 if friction == 0 else -math.expm1(-4.0 * friction) / friction
        width = math.sqrt(0.2 * KT / atoms.get_masses()[0] * span) * units.fs
        torch.testing.assert_close(noise, width * drawn, rtol=1e-7, atol=1e-15)


def draw(atoms, seed):
    draw_momenta(atoms, np.random.default_rng(seed))
    return torch.from_numpy(atoms.get_velocities() * units.fs)
