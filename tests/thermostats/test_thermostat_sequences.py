"""Several thermostats at once, on several systems at once."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCom
from driver_helpers import HORIZON, STRIDE, crystal, draw_momenta, snapshot, water

from trajcast_ase import (
    CSVR,
    AdaptiveLangevin,
    Langevin,
    LinearRamp,
    Replicas,
    TrajCast,
)
from trajcast_ase.analysis.kinetic import kinetic_shares
from trajcast_ase.conservation import Conservation
from trajcast_ase.constraints import Constraints, constraints_of
from trajcast_ase.dynamics.joined_states import joined, split
from trajcast_ase.kinetics import ThermalSpace, kinetic_energies, thermal_motion
from trajcast_ase.state import state_from_atoms
from trajcast_ase.streams import Streams
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.thermostat import thermalize
from trajcast_ase.validation.inputs import stated_temperature

RULE = Conservation()
FRICTION = 0.1 / STRIDE


def three(rng=None, target=300):
    """Return one thermostat of each kind."""
    return [
        Langevin(target, FRICTION, rng),
        AdaptiveLangevin(target, FRICTION, 10 * STRIDE, rng),
        CSVR(target, 10 * STRIDE, rng),
    ]


def held(seed, *constraints):
    atoms = Atoms("OH2N", np.diag([1.0, 2, 3, 0])[:, :3])
    atoms.set_constraint(constraints)
    return draw_momenta(atoms, np.random.default_rng(seed))


SYSTEMS = [
    water(0),
    crystal()[1],
    draw_momenta(
        Atoms("CO2", [[0, 0, 0], [1, 1, 0], [2.5, 2.5, 0]]), np.random.default_rng(2)
    ),
    held(3, FixAtoms([2])),
    held(4, FixCom()),
    held(5, FixAtoms([0]), FixCom()),
    water(6),
]


def generators(seed=7):
    return np.random.default_rng(seed).spawn(len(SYSTEMS))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_batch_moves_as_each_system_alone(kind):
    """Random numbers, projections and constraints of a system are its own."""
    states = [state_from_atoms(atoms) for atoms in SYSTEMS]
    parts = [constraints_of(atoms) for atoms in SYSTEMS]
    together = three(Streams(generators()))[kind]
    alone = [three(rng)[kind] for rng in generators()]
    batch, one_by_one = joined(states), list(states)
    options = {"time": 0.0, "timestep": STRIDE}
    for _ in range(4):
        batch = thermalize(
            [together],
            batch,
            RULE,
            constraints=Constraints.joined(parts, states),
            **options,
        )
        one_by_one = [
            thermalize([thermostat], state, RULE, constraints=part, **options)
            for thermostat, state, part in zip(alone, one_by_one, parts, strict=True)
        ]
    for found, expected, start in zip(
        split(batch, states), one_by_one, states, strict=True
    ):
        torch.testing.assert_close(
            found.velocities, expected.velocities, rtol=1e-9, atol=1e-14
        )
        assert not torch.allclose(found.velocities, start.velocities, atol=1e-4)
    energies = torch.cat([thermostat.transferred_energy for thermostat in alone])
    torch.testing.assert_close(together.transferred_energy, energies)


def test_a_sequence_acts_in_its_order():
    state = state_from_atoms(water())
    ways = set()
    for order in ((0, 2), (2, 0)):
        members = three(np.random.default_rng(1))
        chosen = [members[k] for k in order]
        after = thermalize(chosen, state, RULE, time=0.0, timestep=STRIDE)
        members, step_by_step = three(np.random.default_rng(1)), state
        for k in order:
            step_by_step = thermalize(
                [members[k]], step_by_step, RULE, time=0.0, timestep=STRIDE
            )
        torch.testing.assert_close(after.velocities, step_by_step.velocities)
        ways.add(tuple(after.velocities.flatten().tolist()))
    assert len(ways) == 2


@pytest.mark.parametrize("constraint", [None, FixAtoms([1]), FixCom()])
@pytest.mark.filterwarnings("ignore:.*are fixed:UserWarning")
def test_the_account_of_all_is_the_change_of_the_kinetic_energy(constraint):
    """Free flight keeps its energy: what is gained, the thermostats have given."""
    atoms = draw_momenta(crystal()[1], np.random.default_rng(1))
    atoms.set_constraint(constraint)
    model = Ballistic(HORIZON)
    dyn = TrajCast(atoms, model, thermostat=three(np.random.default_rng(2)))
    dyn.run(1)
    start, given = atoms.get_kinetic_energy(), dyn.transferred_energy
    dyn.run(40)
    gained = atoms.get_kinetic_energy() - start
    assert dyn.transferred_energy - given == pytest.approx(gained, abs=1e-10)
    each = [float(one.transferred_energy) for one in dyn.thermostats]
    assert sum(each) == pytest.approx(dyn.transferred_energy)
    assert min(map(abs, each)) > 1e-3


def test_replicas_keep_an_account_each():
    starts = [water(k) for k in range(5)]
    before = kinetic_energies(state_from_atoms(starts)).numpy()
    replicas = Replicas(starts, Ballistic(HORIZON), thermostat=three, batch_atoms=9)
    replicas.run(20)
    after = kinetic_energies(state_from_atoms(starts)).numpy()
    given = [one.transferred_energy for one in replicas]
    np.testing.assert_allclose(given, after - before, rtol=0, atol=1e-10)
    assert replicas[0].thermostats[0] is replicas[2].thermostats[0]
    assert replicas[0].thermostats[0] is not replicas[3].thermostats[0]


def test_numbers_of_a_replica_do_not_depend_on_the_others():
    def ends(numbers, batch_atoms):
        replicas = Replicas(
            [water(k) for k in numbers],
            Ballistic(HORIZON),
            thermostat=three,
            seed=3,
            first_replica=numbers[0],
            batch_atoms=batch_atoms,
        )
        replicas.run(30)
        return [one.atoms.get_velocities() for one in replicas]

    all_five = ends(range(5), 1000)
    np.testing.assert_allclose(all_five, ends(range(5), 6), rtol=0, atol=1e-9)
    np.testing.assert_allclose(all_five[3:], ends(range(3, 5), 1000), atol=1e-9)


def test_a_replica_does_not_run_alone():
    replicas = Replicas([water(0), water(1)], Ballistic(HORIZON), thermostat=three)
    with pytest.raises(
        ValueError, match=r"for 2 system\(s\) cannot act on 1; .*Replicas"
    ):
        replicas[0].run(1)


def test_a_sequence_continues_to_the_last_bit():
    """With the same objects: generators and frictions go on."""
    results = set()
    for lengths in ([30], [1] * 30, [11, 19]):
        model, atoms = crystal()
        thermostats = three(np.random.default_rng(5))
        for n in lengths:
            TrajCast(atoms, model, thermostat=thermostats).run(n)
        results.add(snapshot(atoms))
    assert len(results) == 1
    # Frictions that start anew are another run.
    model, atoms = crystal()
    rng = np.random.default_rng(5)
    for n in (11, 19):
        TrajCast(atoms, model, thermostat=three(rng)).run(n)
    assert snapshot(atoms) not in results


def test_what_a_restart_in_another_process_needs():
    model, atoms = crystal()
    first = three(np.random.default_rng(5))
    TrajCast(atoms, model, thermostat=first).run(11)
    saved = first[0].streams.generators[0].bit_generator.state
    frictions = first[1].frictions.clone()
    again = atoms.copy()
    TrajCast(atoms, model, thermostat=first).run(19)
    rng = np.random.default_rng()
    rng.bit_generator.state = saved
    fresh = three(rng)
    fresh[1].frictions = frictions
    TrajCast(again, model, thermostat=fresh).run(19)
    assert snapshot(again) == snapshot(atoms)


def test_description_lists_the_members(tmp_path):
    path = tmp_path / "a.traj"
    ramp = LinearRamp(300, 310, 5.0)
    for thermostat, kelvin in ((three(), 300), (three(target=ramp), None)):
        with TrajCast(
            water(), Ballistic(HORIZON), thermostat=thermostat, trajectory=path
        ) as dyn:
            dyn.run(1)
            settings = json.loads(json.dumps(dyn.todict()))["thermostat"]
        names = [one["name"] for one in settings]
        assert names == ["Langevin", "AdaptiveLangevin", "CSVR"]
        assert stated_temperature(path) == kelvin
    assert settings[1]["taut"] == pytest.approx(10 * STRIDE)
    with TrajCast(water(), Ballistic(HORIZON), trajectory=path) as dyn:
        dyn.run(1)
    assert stated_temperature(path) is None


def test_sequences_that_make_no_sense_are_refused():
    def start(*thermostats):
        TrajCast(water(), Ballistic(HORIZON), thermostat=thermostats)

    csvr = CSVR(300, STRIDE)
    with pytest.raises(ValueError, match=r"thermostat = \(\) is an empty sequence"):
        start()
    with pytest.raises(ValueError, match="same CSVR object stands twice"):
        start(csvr, Langevin(300, FRICTION), csvr)
    ramp = LinearRamp(300, 280, 100.0)
    with pytest.raises(
        ValueError,
        match=r"CSVR has the temperature 300.*Langevin before it .*LinearRamp",
    ):
        start(Langevin(ramp, FRICTION), csvr)
    with pytest.raises(ValueError, match=r"temperature 310.0, but CSVR before it 300"):
        start(csvr, Langevin(310, FRICTION))
    with pytest.raises(TypeError, match="apply and todict"):
        start(csvr, 300)
    with pytest.raises(ValueError, match=r"replica 0: .*empty sequence"):
        Replicas([water()], Ballistic(HORIZON), thermostat=lambda _: [])
    start(Langevin(ramp, FRICTION), CSVR(LinearRamp(300, 280, 100.0), STRIDE))


@pytest.mark.parametrize("number", range(len(SYSTEMS)))
def test_degrees_of_freedom_of_the_atoms_are_those_of_the_system(number):
    atoms = SYSTEMS[number]
    space = ThermalSpace.of(state_from_atoms(atoms), RULE, constraints_of(atoms))
    assert float(space.atom_dof().sum()) == pytest.approx(int(space.n_dof), abs=1e-9)


@pytest.mark.parametrize("atoms", [SYSTEMS[0], SYSTEMS[2], held(1)])
def test_degrees_of_freedom_of_elements_are_the_exact_expectation(atoms):
    found = ThermalSpace.of(state_from_atoms(atoms), RULE).atom_dof().numpy()
    frames = np.repeat(atoms.positions[None], 10, axis=0)
    velocities = frames + 1.0  # any; of none does it follow that an atom is fixed
    shares = kinetic_shares(
        frames, velocities, atoms.get_masses(), atoms.numbers, molecules=False
    )
    for symbol in set(atoms.symbols):
        expected = shares[symbol].n_dof if symbol in shares else 0.0
        assert found[atoms.symbols == symbol].sum() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_settings_of_adaptive_langevin_are_checked(value):
    for name, settings in (
        ("friction", (300, value, 1.0)),
        ("taut", (300, 1.0, value)),
    ):
        with pytest.raises(ValueError, match=f"{name} = .* must be positive"):
            AdaptiveLangevin(*settings)


def test_adaptive_langevin_needs_a_temperature_above_zero():
    with pytest.raises(ValueError, match="0 K has no kinetic energy"):
        AdaptiveLangevin(0, 1.0, 1.0)
    motion = thermal_motion(state_from_atoms(water()), RULE)
    quenched = AdaptiveLangevin(LinearRamp(300, 0, 1.0), 1.0, 1.0)
    with pytest.raises(ValueError, match="0 K has no kinetic energy"):
        quenched.apply(motion, 2.0, STRIDE)


def test_friction_follows_the_kinetic_energy_of_its_element():
    """Hot hydrogen is damped, cold oxygen heated; the sign of both."""
    atoms = water()
    momenta = atoms.get_momenta()
    momenta[1:] *= 3
    momenta[0] = -momenta[1:].sum(axis=0)
    atoms.set_momenta(momenta)
    state = state_from_atoms(atoms)
    thermostat = AdaptiveLangevin(300, 1e-9, STRIDE, np.random.default_rng(1))
    motion = thermal_motion(state, RULE)
    thermostat.apply(motion, 0.0, 1e-3 * STRIDE)
    twice = atoms.get_masses() * motion.state.velocities.square().sum(1).numpy()
    excess = twice / units.fs**2 / (300 * units.kB) - motion.space.atom_dof().numpy()
    for number, chosen in ((1, [1, 2]), (8, [0])):
        rate = excess[chosen].sum() / (3 * len(chosen) * STRIDE**2)
        found = float(thermostat.frictions[0, number]) - 1e-9
        assert found == pytest.approx(1e-3 * STRIDE * rate, rel=0.02)
