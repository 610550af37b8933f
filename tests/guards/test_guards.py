"""Guards of single strides: each objects where it should, and not to sound runs."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from driver_helpers import Springs, crystal, water
from helpers import BUNDLED, by_either_engine

from trajcast_ase import CSVR, Replicas, TrajCast, load_model
from trajcast_ase.data import paracetamol, quartz
from trajcast_ase.data import water as liquid
from trajcast_ase.dynamics.domain import OutsideTrainingWarning, warn_outside_training
from trajcast_ase.guards import (
    BondLimits,
    EnergyChange,
    Finding,
    KeptBonds,
    LargestKick,
    LargestSpeed,
    LeastDistance,
    NeighborNumbers,
    TemperatureWindow,
    default_guards,
)
from trajcast_ase.guards.bonds import bonds_of
from trajcast_ase.guards.distances import least_distances
from trajcast_ase.guards.watch import Watch
from trajcast_ase.kinetics import kinetic_energies
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import state_from_atoms
from trajcast_ase.stride import stride
from trajcast_ase.testing import Ballistic
from trajcast_ase.units import EV_PER_AMU_A2_FS2, KB

FREE = Ballistic(5.0)


def state(atoms):
    return state_from_atoms(atoms)


def moved(atoms, atom, vector):
    other = atoms.copy()
    other.positions[atom] += vector
    return other


def faster(one, factor, rows=slice(None)):
    velocities = one.velocities.clone()
    velocities[rows] *= factor
    return one.moved(one.positions, velocities)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("ethanol-gfn2", 100),
        ("paracetamol-7fs", 100),
        ("quartz-30fs", 20),
        ("quartz-30fs-bulk", 20),
        ("water-5fs", 20),
    ],
)
def test_sound_runs_of_the_bundled_models_are_left_alone(name, strides):
    model, atoms, rng = load_model(name), BUNDLED[name](), np.random.default_rng(7)
    draw_momenta(atoms, 300.0, rng, model.conservation)
    bath = model.recommended_thermostat(300.0, rng)
    guards = default_guards(atoms, model, bath)
    assert [type(one) for one in guards] == [
        LargestKick,
        LargestSpeed,
        KeptBonds,
        LeastDistance,
        NeighborNumbers,
        TemperatureWindow,
    ]
    often = [guards[0], LargestSpeed(every=1), guards[2], *guards[4:]]
    dynamics = TrajCast(
        atoms, model, thermostat=bath, guards=[*often, LeastDistance({}, every=5)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dynamics.run(strides)
    assert dynamics.tally.found == {}


def test_a_bond_that_breaks():
    atoms = water()
    guard = KeptBonds.of(atoms)
    start = state(atoms)
    assert guard.find(FREE, start, start) == []
    (found,) = guard.find(FREE, start, state(moved(atoms, 1, [0.6, 0, 0])))
    assert found.system == 0
    assert found.text == (
        "the O-H bond of atoms 0 and 1 is 1.56 Å long, the limit is 1.51 Å"
    )
    # By a reference whose longest bond is 1.1 Å the limit is 1.43 Å.
    strict = KeptBonds.of(atoms, longest_A={"H-O": 1.1})
    (found,) = strict.find(FREE, start, state(moved(atoms, 1, [0.5, 0, 0])))
    assert found.limit == pytest.approx(1.43)


def test_a_proton_that_changes_hands():
    near = Atoms("OH2OH2", np.concatenate([water().positions, water().positions]))
    near.positions[3:] += [2.6, 0.0, 0.0]
    guard = KeptBonds.of(near)
    # Proton 1 between both oxygens, no bond beyond its limit.
    stretched = near.copy()
    stretched.positions[1] = [1.3, 0.1, 0.0]
    assert guard.find(FREE, state(near), state(stretched)) == []
    stretched.positions[1] = [1.4, 0.0, 0.0]
    (found,) = guard.find(FREE, state(near), state(stretched))
    assert "nearer to another such partner" in found.text


def test_bonds_of_each_system_of_a_batch():
    ammonia, hydrogen = molecule("NH3"), molecule("H2")
    joined = KeptBonds.joined({0: KeptBonds.of(ammonia), 1: KeptBonds.of(hydrogen)}, 2)
    broken = moved(hydrogen, 1, [0, 0, -1.5])
    before = state([ammonia, hydrogen])
    (found,) = joined.find(FREE, before, state([ammonia, broken]))
    assert (found.atom, found.system) == (4, 1)
    assert "atoms 0 and 1" in found.text
    with pytest.raises(ValueError, match=r"of other atoms .* KeptBonds\.of"):
        KeptBonds.of(ammonia).find(FREE, before, before)


def test_bonds_across_the_cell_are_not_broken_by_unwrapped_atoms():
    atoms = quartz()
    guard = KeptBonds.of(atoms)
    assert len(guard.systems[0].limits) == 4 * 54
    atoms.positions += [7.0, -30.0, 55.0]
    atoms.positions[::2] += atoms.cell[0] - 3 * atoms.cell[1]
    assert guard.find(FREE, state(atoms), state(atoms)) == []
    (found,) = guard.find(FREE, state(atoms), state(moved(atoms, 3, [3.5, 0, 0])))
    assert found.value > found.limit


def test_metals_and_cells_of_few_atoms_have_no_bonds_to_keep():
    assert len(bonds_of(bulk("Cu", cubic=True) * (4, 4, 4)).pairs) == 0
    assert len(bonds_of(bulk("NaCl", "rocksalt", a=5.6) * (4, 4, 4)).pairs) == 0
    assert len(bonds_of(bulk("Si", cubic=True)).pairs) == 0
    assert len(bonds_of(bulk("Si", cubic=True) * (2, 2, 2)).pairs) == 2 * 64
    nothing = KeptBonds([BondLimits.of(bonds_of(bulk("Cu")))])
    assert nothing.find(FREE, state(bulk("Cu")), state(bulk("Cu"))) == []


def test_atoms_that_come_too_near():
    atoms = water()
    start = state(atoms)
    guard = LeastDistance({})
    assert guard.find(FREE, start, start) == []
    near = atoms.copy()
    near.positions[1] = [0.5, 0.0, 0.0]
    (found,) = guard.find(FREE, start, state(near))
    assert "as near as 0.5 Å, the limit is 0.582 Å" in found.text
    stated = LeastDistance.trained({"H-O": 0.95, "H-H": 3.0})
    assert stated.limits_A == {"H-O": pytest.approx(0.76), "H-H": pytest.approx(0.62)}
    near.positions[1] = [0.7, 0.0, 0.0]
    (found,) = stated.find(FREE, start, state(near))
    assert "the limit is 0.76 Å" in found.text


def test_least_distances_of_a_structure():
    found = least_distances(state(water()), 3.0)
    assert found == {
        "H-O": pytest.approx(0.960, abs=2e-3),
        "H-H": pytest.approx(water().get_distance(1, 2)),
    }


def test_distances_in_a_batch_are_named_by_system():
    atoms = water()
    near = moved(atoms, 1, [-0.5, 0, 0])
    (found,) = LeastDistance({}).find(FREE, state([atoms] * 2), state([atoms, near]))
    assert found.system == 1
    assert found.atom in (3, 4)
    assert "atoms 0 (O) and 1 (H)" in found.text


def test_numbers_of_neighbors():
    atoms = bulk("Cu", cubic=True)
    one = state(atoms)
    assert NeighborNumbers(3.0, 11, 12).find(FREE, one, one) == []
    (found,) = NeighborNumbers(3.0, 5, 7).find(FREE, one, one)
    assert "has 12 neighbors within 3 Å, in the training data it was 5 to 7" in (
        found.text
    )
    (found,) = NeighborNumbers(3.0, 20, 24).find(FREE, one, one)
    assert found.limit == 16.0


def test_numbers_of_neighbors_that_a_file_states():
    model = load_model("water-5fs")
    header = replace(
        model.header, training={"neighbors": [10, 60], "run_temperatures_K": [300.0]}
    )
    atoms = liquid()
    (found,) = [
        one
        for one in default_guards(atoms, SimpleNamespace(header=header))
        if isinstance(one, NeighborNumbers)
    ]
    assert (found.least, found.most, found.cutoff_A) == (10, 60, header.cutoff_A)
    lone = liquid()[:3]
    with pytest.warns(OutsideTrainingWarning, match=r"atom 0 \(O\) has 2 neighbors"):
        warn_outside_training(lone, header, ())
    kinds = [type(o) for o in default_guards(lone, SimpleNamespace(header=header))]
    assert NeighborNumbers not in kinds


def test_energy_that_is_not_conserved():
    model, atoms = crystal(2)
    calculator = Springs(model)
    start = state(atoms)
    after = stride(model, start)
    guard = EnergyChange(calculator, 1e-3)
    assert guard.find(model, start, after) == []
    assert calculator.calls == 2
    (found,) = guard.find(model, after, faster(after, 1.5))
    assert calculator.calls == 2  # nothing has moved
    kinetic = float(kinetic_energies(after))
    assert found.value == pytest.approx(1.25 * kinetic)
    assert "the total energy changes by +" in found.text
    with pytest.raises(ValueError, match="limit_eV = 0"):
        EnergyChange(calculator, 0.0)


def test_an_atom_that_is_too_fast():
    model, atoms = load_model("paracetamol-7fs"), paracetamol()
    draw_momenta(atoms, 300.0, np.random.default_rng(1), model.conservation)
    start = state(atoms)
    assert LargestSpeed().find(model, start, start) == []
    drifting = start.moved(start.positions, start.velocities + 1.0)
    assert LargestSpeed().find(model, drifting, drifting) == []
    (found,) = LargestSpeed().find(model, start, faster(start, 20.0, [4]))
    assert found.atom == 4
    assert "atom 4 (" in found.text
    assert LargestSpeed().find(FREE, start, faster(start, 20.0)) == []


def hot(n_side=3, temperature_K=300.0):
    _, atoms = crystal(n_side)
    draw_momenta(atoms, temperature_K, np.random.default_rng(3), FREE.conservation)
    return state(atoms)


def test_a_stride_that_leaves_the_window_of_temperature():
    start, guard = hot(), TemperatureWindow(300.0)
    assert guard.find(FREE, start, start) == []
    (found, *_) = guard.find(FREE, start, faster(start, 2.5))
    assert found.value > found.limit > 450.0
    assert "the temperature becomes" in found.text
    (found, *_) = guard.find(FREE, start, faster(start, 0.2))
    assert found.value < found.limit <= 100.0
    # A drift is no heat.
    drifting = start.moved(start.positions, start.velocities + 1.0)
    assert guard.find(FREE, start, drifting) == []


def test_a_hot_start_is_the_users_business():
    start = faster(hot(), 2.5)
    assert TemperatureWindow(300.0).find(FREE, start, faster(start, 1.1)) == []


def test_one_element_that_leaves_its_window():
    atoms = liquid()
    draw_momenta(atoms, 300.0, np.random.default_rng(3), FREE.conservation)
    start = state(atoms)
    oxygens = np.flatnonzero(atoms.numbers == 8)
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    # Heat moves from hydrogen to oxygen: the total stays.
    after = faster(faster(start, 2**0.5, oxygens), 0.5**0.5, hydrogens)
    found = TemperatureWindow(300.0).find(FREE, start, after)
    assert ["of all O atoms" in one.text for one in found] == [True]


def test_odds_of_the_window():
    rng, guard = np.random.default_rng(1), TemperatureWindow(300.0, probability=1e-3)
    start, outside = hot(2), 0
    widths = torch.sqrt(KB * 300.0 / (EV_PER_AMU_A2_FS2 * start.masses))[:, None]
    for _ in range(400):
        drawn = torch.from_numpy(rng.standard_normal((8, 3))) * widths
        outside += bool(guard.find(FREE, start, start.moved(start.positions, drawn)))
    # Room beyond chance makes these odds upper ones: at most 4e-3 a look.
    assert outside <= 6


def test_fixed_atoms_have_no_temperature():
    _, atoms = crystal(3)
    atoms.set_constraint(FixAtoms(list(range(9))))
    draw_momenta(atoms, 300.0, np.random.default_rng(3), FREE.conservation)
    start, guard = state(atoms), TemperatureWindow(300.0)
    assert not start.velocities[:9].any()
    guard.find(FREE, start, start)
    assert guard._windows.groups.dof[0] == 3 * 18


@by_either_engine
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.filterwarnings("ignore:9 of 27 atoms are fixed")
def test_atoms_that_are_fixed_after_their_momenta_were_drawn(together):
    _, atoms = crystal(3)
    draw_momenta(atoms, 300.0, np.random.default_rng(3), FREE.conservation)
    atoms.set_constraint(FixAtoms(list(range(9))))
    guard = TemperatureWindow(300.0)
    if together:
        dynamics = Replicas([atoms], FREE, guards=[guard])
    else:
        dynamics = TrajCast(atoms, FREE, guards=[guard])
    dynamics.run(1)
    assert guard._windows.groups.dof[0] == 3 * 18


class Objects:
    """A guard that objects at some strides."""

    def __init__(self, every=1, systems=(0,)):
        self.every, self.systems, self.looks = every, systems, 0

    def find(self, model, before, after):
        del model, before, after
        self.looks += 1
        return [Finding(None, k, 2.0, 1.0, "it is wrong") for k in self.systems]


def test_guards_look_at_their_strides():
    guard = Objects(every=3)
    atoms = water()
    dynamics = TrajCast(atoms, FREE, guards=[guard], on_finding="warn")
    with pytest.warns(UserWarning, match="Objects objects to the forecast of step 3"):
        dynamics.run(10)
    assert guard.looks == 3
    assert dynamics.tally.found == {"Objects": 3}


def test_what_is_no_guard_is_refused():
    with pytest.raises(TypeError, match="lacks the method find"):
        Watch([3])
    with pytest.raises(ValueError, match="every 0 strides"):
        Watch([Objects(every=0)])
    with pytest.raises(ValueError, match="on_finding = 'pray'"):
        TrajCast(water(), FREE, on_finding="pray")


def test_only_the_systems_that_are_due():
    watch = Watch([Objects(every=2, systems=(0, 1))])
    both = state([water(1), water(2)])
    (found,) = watch.look(FREE, both, both, (3, 4))
    assert found.finding.system == 1


def test_a_system_that_is_not_finite_is_not_shown_to_guards():
    both = state([water(1), water(2)])
    broken = both.moved(both.positions.clone(), both.velocities)
    broken.positions[4] = torch.nan
    watch = Watch([LeastDistance({}, every=1), KeptBonds.of(water())])
    (found,) = watch.look(FREE, both, broken, (1, 1))
    assert (found.guard, found.finding.atom, found.finding.system) == ("Finite", 4, 1)


def test_an_edit_by_hand_renews_the_bonds():
    model, atoms = load_model("paracetamol-7fs"), paracetamol()
    draw_momenta(atoms, 300.0, np.random.default_rng(1), model.conservation)
    dynamics = TrajCast(atoms, model)
    dynamics.run(2)
    first = dynamics._watch(atoms)
    atoms.set_momenta(0.9 * atoms.get_momenta())
    dynamics.run(1)
    assert dynamics._watch(atoms) is first
    atoms.positions *= 1.0001
    dynamics.run(1)
    assert dynamics._watch(atoms) is not first


def test_replicas_share_their_looks():
    model = load_model("paracetamol-7fs")
    starts = [paracetamol() for _ in range(3)]
    for k, atoms in enumerate(starts):
        draw_momenta(atoms, 300.0, np.random.default_rng(k), model.conservation)
    replicas = Replicas(
        starts, model, thermostat=lambda rng: CSVR(300.0, 70 * units.fs, rng)
    )
    replicas.run(3)
    batch = replicas._batches[0]
    assert len(batch._watch.bonds.systems) == 3
    laid_out = batch._watch.bonds._laid_out
    replicas.run(3)
    assert batch._watch.bonds._laid_out is laid_out


def test_systems_of_a_batch_may_have_other_guards():
    wrong, near = Objects(systems=(0, 1, 2)), LeastDistance({}, every=1)
    watch = Watch.joined([Watch([near]), Watch([wrong, near]), Watch([wrong])])
    assert watch.guards == (near, wrong)  # each looks once at all
    atoms = water()
    states = state([atoms] * 3), state([moved(atoms, 1, [-0.6, 0, 0])] * 3)
    found = watch.look(FREE, *states, (1, 1, 1))
    assert [(one.guard, one.finding.system) for one in found] == [
        ("LeastDistance", 0),
        ("LeastDistance", 1),
        ("Objects", 1),
        ("Objects", 2),
    ]
    strict = LeastDistance({"H-O": 0.9}, every=1)
    assert Watch.joined([Watch([near]), Watch([strict])]).guards == (near, strict)
    with pytest.raises(ValueError, match="guards 1 of 2 systems that advance together"):
        Watch.joined([Watch([KeptBonds.of(atoms)]), Watch([LargestKick()])])


@by_either_engine
def test_replicas_of_which_one_has_unusual_numbers_of_neighbors():
    model = load_model("paracetamol-7fs")
    starts = [paracetamol(), molecule("H2O")]
    for k, atoms in enumerate(starts):
        draw_momenta(atoms, 300.0, np.random.default_rng(k), model.conservation)
    with pytest.warns(OutsideTrainingWarning, match="neighbors"):
        replicas = Replicas(starts, model)
    replicas.run(2)
    kinds = [[type(o) for o in d._watch(d.atoms).guards] for d in replicas]
    assert [NeighborNumbers in one for one in kinds] == [True, False]
    starts[0].positions *= 2.0  # now it has none, either
    replicas._batches[0].pull([0])
    assert NeighborNumbers not in [type(o) for o in replicas._batches[0]._watch.guards]


def at_300_kelvin(model, seed=1):
    atoms = paracetamol()
    draw_momenta(atoms, 300.0, np.random.default_rng(seed), model.conservation)
    return atoms


@by_either_engine
@pytest.mark.parametrize("temperature_K", [100.0, 900.0])
def test_the_window_follows_the_thermostat(temperature_K):
    model = load_model("paracetamol-7fs")
    atoms, rng = at_300_kelvin(model), np.random.default_rng(1)
    bath = model.recommended_thermostat(300.0, rng)
    dynamics = TrajCast(atoms, model, thermostat=bath)
    dynamics.run(5)
    *others, _ = dynamics._watch(atoms).guards
    present = dynamics.get_temperature()
    dynamics.set_temperature(temperature_K)
    dynamics.run(150)
    *kept, window = dynamics._watch(atoms).guards
    assert kept == others
    assert window == TemperatureWindow(temperature_K)
    assert window.former_K == (pytest.approx(present),)


def test_a_window_on_the_way_reaches_to_both_temperatures():
    start = hot()
    way = TemperatureWindow(100.0, former_K=(300.0,))
    assert TemperatureWindow(100.0).find(FREE, faster(start, 0.5), start)
    assert way.find(FREE, faster(start, 0.5), start) == []
    assert way.find(FREE, start, faster(start, 2.5))
    assert way.find(FREE, start, faster(start, 0.1))
    both = state([crystal(2)[1]] * 2)
    joined = TemperatureWindow.joined({1: way}, 2)
    assert joined.former_K == (100.0, 300.0)
    joined.find(FREE, both, both)
    assert joined._windows.groups.high[1] == 3.0 * joined._windows.groups.high[0]


def test_windows_of_replicas_follow_their_thermostat():
    model = load_model("paracetamol-7fs")
    starts = [at_300_kelvin(model, seed) for seed in range(2)]
    replicas = Replicas(
        starts, model, thermostat=lambda rng: CSVR(300.0, 70 * units.fs, rng)
    )
    replicas.run(2)
    replicas[0].set_temperature(900.0)  # all of a batch share their thermostats
    replicas.run(60)
    window = replicas._batches[0]._watch.guards[-1]
    assert window == TemperatureWindow(900.0)
    assert len(window.former_K) == 2


def test_a_schedule_has_no_window_and_guards_of_ones_own_follow_too():
    model = load_model("paracetamol-7fs")
    atoms, bath = at_300_kelvin(model), CSVR(300.0, 70 * units.fs)
    of_start, own = TemperatureWindow(300.0, every=2), TemperatureWindow(500.0)
    given = TrajCast(atoms, model, thermostat=bath, guards=[of_start, own])
    default = TrajCast(atoms, model, thermostat=bath)
    bath.set_temperature(320.0)
    assert set(given._watch(atoms).guards) == {
        own,
        TemperatureWindow(320.0, every=2),
    }
    bath.set_temperature(lambda time: 320.0 + time)
    assert TemperatureWindow not in map(type, default._watch(atoms).guards)
    assert given._watch(atoms).guards == (own,)
    bath.set_temperature(310.0)
    assert TemperatureWindow(310.0) in default._watch(atoms).guards


def test_a_restart_knows_where_the_temperature_came_from(tmp_path):
    model = load_model("paracetamol-7fs")
    atoms, bath = at_300_kelvin(model), CSVR(300.0, 70 * units.fs)
    dynamics = TrajCast(atoms, model, thermostat=bath)
    dynamics.run(1)
    dynamics.set_temperature(250.0)
    dynamics.run(1)
    dynamics.checkpoint(tmp_path / "a.checkpoint")
    bath = CSVR(250.0, 70 * units.fs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = TrajCast.restart(tmp_path / "a.checkpoint", model, thermostat=bath)
    former = dynamics._watch(atoms).guards[-1].former_K
    assert again._watch(again.atoms).guards[-1].former_K == former


class Charged(Calculator):
    """Energies that only what Atoms tell beside their places makes: an eV each."""

    implemented_properties = ("energy",)

    def calculate(self, atoms=None, properties=(), changes=all_changes):
        super().calculate(atoms, properties, changes)
        ionic = abs(atoms.get_initial_charges().sum()) + atoms.info.get("spin", 0)
        self.results = {"energy": ionic * float(atoms.positions[0, 0])}


@by_either_engine
def test_energies_of_the_species_that_runs():
    atoms = Atoms("He", velocities=[[0.5, 0.0, 0.0]])
    guard = EnergyChange(Charged(), 0.1)
    path = 0.5 * 5.0 * units.fs
    dynamics = TrajCast(atoms, FREE, guards=[guard], on_finding="warn")
    dynamics.run(2)
    assert dynamics.tally.found == {}
    atoms.set_initial_charges([1.0])
    with pytest.warns(UserWarning, match=f"changes by \\+{path:.3g} eV"):
        dynamics.run(1)
    assert dynamics.tally.found == {"EnergyChange": 1}


@by_either_engine
def test_energies_of_each_species_of_a_batch():
    starts = [Atoms("He", velocities=[[0.5, 0.0, 0.0]]) for _ in range(3)]
    starts[1].info["spin"] = 1
    replicas = Replicas(starts, FREE, guards=[EnergyChange(Charged(), 0.1)])
    with pytest.warns(UserWarning, match="replica 1 is lost"):
        replicas.run(2)
    del starts[1][0]  # of a run that is over, a matter of the user alone
    replicas.run(2)
    assert [one.number for one in replicas.lost] == [1]
