"""Strides by forces in runs on a device, where a forecast is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms
from device_helpers import Lost, Unsure, baths, kicks
from driver_helpers import HORIZON, FreeFlight, snapshot, water

from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.fallback import ForceFallback, SenselessForecastError
from trajcast_ase.dynamics.replicas import Replicas
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.testing import Ballistic

pytestmark = pytest.mark.filterwarnings("ignore:.*atoms are fixed")


class Far:
    """A guard that objects where an atom goes more than 1 Å."""

    def __init__(self, every=1):
        self.every, self._looks = every, 0

    def find(self, _, before, after):
        self._looks += 1
        moved = (after.positions - before.positions).norm(dim=1)
        found = {}
        for atom in (moved > 1.0).nonzero()[:, 0].tolist():
            system = int(before.system_index[atom])
            found.setdefault(system, Finding(atom, system, 9.0, 1.0, "goes far"))
        return list(found.values())


def pair(speed=0.008):
    """Return two atoms that fly along x, with a calculator."""
    atoms = Atoms("H2", [[0, 0, 0], [0.1, 5, 5]], cell=[40] * 3, pbc=True)
    atoms.set_velocities(
        np.array([[speed, 0, 0], [0.7 * speed, 0.1 * speed, 0]]) / units.fs
    )
    atoms.calc = FreeFlight()
    return atoms


def made(atoms=None, model=Unsure, **settings):
    """Return a run on a device whose wild forecasts are answered by forces."""
    given = {
        "guards": [Far()],
        "fallback": ForceFallback(3.5 * units.fs),
        "engine": "device",
    } | settings
    return TrajCast(pair() if atoms is None else atoms, model(HORIZON), **given)


@pytest.mark.parametrize("model", [Unsure, Lost])
def test_strides_by_forces_join_those_of_the_model(model):
    told = {"host": [], "device": []}
    ends = {}
    for engine, steps in told.items():
        report = ForceFallback(3.5 * units.fs, steps.append)
        dyn = made(model=model, fallback=report, engine=engine)
        dyn.run(60)
        ends[engine] = dyn
    assert [one.step for one in told["device"]] == [one.step for one in told["host"]]
    assert 3 < ends["device"].tally.by_forces < 40
    assert ends["device"].tally == ends["host"].tally
    exact = pair()
    TrajCast(exact, Ballistic(HORIZON), guards=()).run(60)
    for dyn in ends.values():
        np.testing.assert_allclose(dyn.atoms.positions, exact.positions, atol=1e-9)


def test_blocks_are_as_long_as_guards_allow():
    rare, never = Far(every=7), Far(every=1000)
    made(model=Ballistic, guards=[rare, never]).run(42)
    assert rare._looks == 6
    assert never._looks == 0
    dyn = made(model=Lost, guards=[])
    dyn.run(60)  # what is not finite is found in blocks of fifty
    assert dyn.tally.by_forces > 3
    assert dyn._engine.n_looks == dyn.tally.by_forces + 2


def settings(model, seed=5):
    """Return thermostats, noise and guards of a run, and who answers."""
    return {
        "guards": [Far(every=1 if model is Unsure else 8)],
        "thermostat": baths("both", 30.0, np.random.default_rng(seed)),
        "noise": kicks(np.random.default_rng(seed + 1)),
        "fallback": ForceFallback(3.5 * units.fs),
        "engine": "device",
    }


@pytest.mark.parametrize("model", [Unsure, Lost])
@pytest.mark.parametrize("constraint", [None, FixAtoms([0])])
def test_whole_interrupted_and_restarted_runs_are_one(model, constraint, tmp_path):
    def start():
        atoms = pair()
        atoms.set_constraint(constraint)
        return made(atoms, model, **settings(model))

    whole, parts = start(), start()
    whole.run(40)
    parts.attach(lambda: None, 7)
    for _ in range(5):
        parts.run(1)
    parts.run(12)
    path = tmp_path / "run.checkpoint"
    parts.checkpoint(path)
    again = TrajCast.restart(
        path, model(HORIZON), calculator=FreeFlight(), **settings(model, 99)
    )
    for one in (parts, again):
        one.run(23)
        assert snapshot(one.atoms) == snapshot(whole.atoms)
        assert one.transferred_energy == whole.transferred_energy
        assert one.tally == whole.tally
        assert int(one.thermostats[0].strides) == 40
        # A stride by forces draws no noise.
        assert int(one.noise.strides) == 40 - one.tally.by_forces
    assert whole.tally.by_forces > 2


class Broken(FreeFlight):
    """Forces that fail when they are asked often."""

    asked = 0

    def calculate(self, *args, **kwargs):
        self.asked += 1
        if self.asked > 9:
            raise ZeroDivisionError("no forces any more")
        super().calculate(*args, **kwargs)


def test_forces_that_fail_leave_the_run_at_its_last_good_stride():
    dyn = made(atoms := pair(), Lost, guards=[], thermostat=baths("langevin", 30.0))
    atoms.calc = Broken()
    with pytest.raises(ZeroDivisionError, match="no forces any more"):
        dyn.run(100)
    assert 0 < dyn.tally.by_forces < 9
    assert int(dyn.thermostats[0].strides) == dyn.nsteps
    whole = made(model=Lost, guards=[], thermostat=baths("langevin", 30.0))
    whole.run(dyn.nsteps)
    assert snapshot(atoms) == snapshot(whole.atoms)
    atoms.calc = FreeFlight()
    dyn.run(20)
    whole.run(20)
    assert snapshot(atoms) == snapshot(whole.atoms)


def test_forces_without_numbers_end_the_run():
    class Nowhere(FreeFlight):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["forces"] = self.results["forces"] + np.nan

    atoms = pair()
    atoms.calc = Nowhere()
    dyn = made(atoms, Lost)
    with pytest.raises(SenselessForecastError, match="neither the forecast nor 2"):
        dyn.run(100)
    assert np.isfinite(atoms.positions).all()
    assert dyn.nsteps > 0


def test_a_replica_by_forces_changes_no_other_and_is_the_same_alone():
    speeds = (0.008, 0.0, 0.011)

    def make(which, first, model=Lost):
        given = {
            "thermostat": lambda rng: baths("both", 30.0, rng),
            "noise": kicks,
            "seed": 4,
            "first_replica": first,
        }
        fallback = ForceFallback(3.5 * units.fs)
        systems = [pair(speeds[k] + 1e-4) for k in which]
        return Replicas(
            systems,
            model(HORIZON),
            guards=[Far(8)],
            fallback=fallback,
            engine="device",
            **given,
        )

    batch = make(range(3), 0)
    batch.run(10)
    batch.run(20)
    counts = [one.tally.by_forces for one in batch]
    assert len(set(counts)) > 1
    for k in range(3):
        alone = make([k], k)
        alone.run(30)
        assert snapshot(alone[0].atoms) == snapshot(batch[k].atoms)
        assert alone[0].tally.by_forces == counts[k]
        assert int(batch[k].noise.strides[k]) == 30 - counts[k]


def test_of_two_refused_replicas_one_goes_on_by_forces_and_one_is_lost():
    def make(*calculators):
        systems = [pair() for _ in calculators]
        for atoms, calculator in zip(systems, calculators, strict=True):
            atoms.calc = calculator
        return Replicas(
            systems,
            Lost(HORIZON),
            guards=[],
            fallback=ForceFallback(3.5 * units.fs),
            engine="device",
        )

    broken = Broken()
    broken.asked = 9
    batch, alone = make(FreeFlight(), broken), make(FreeFlight())
    with pytest.warns(match="replica 1 is lost after stride"):
        batch.run(60)
    alone.run(60)
    assert batch[0].tally.by_forces == alone[0].tally.by_forces > 3
    assert snapshot(batch[0].atoms) == snapshot(alone[0].atoms)
    assert 0 < batch[1].nsteps < 60
    assert np.isfinite(batch[1].atoms.positions).all()


class Interrupting(FreeFlight):
    """Forces during which the user interrupts once."""

    asked = 0

    def calculate(self, *args, **kwargs):
        self.asked += 1
        if self.asked == 4:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)


def test_replicas_that_are_interrupted_among_forces_go_on_as_if_they_were_not():
    def make(*calculators):
        systems = [pair(0.008), pair(0.011)]
        for atoms, calculator in zip(systems, calculators, strict=True):
            atoms.calc = calculator
        return Replicas(
            systems,
            Lost(HORIZON),
            thermostat=lambda rng: baths("both", 30.0, rng),
            noise=kicks,
            guards=[],
            fallback=ForceFallback(3.5 * units.fs),
            engine="device",
        )

    cut, whole = make(FreeFlight(), Interrupting()), make(FreeFlight(), FreeFlight())
    with pytest.raises(KeyboardInterrupt):
        cut.run(24)
    made = cut.nsteps
    assert 0 < made < 24
    assert [one.nsteps for one in cut] == [made, made]
    cut.run(24 - made)
    whole.run(24)
    for one, other in zip(cut, whole, strict=True):
        assert snapshot(one.atoms) == snapshot(other.atoms)
        assert one.transferred_energy == other.transferred_energy
        assert one.tally == other.tally


def test_water_needs_no_calculator_where_nothing_is_refused():
    with pytest.raises(ValueError, match="a fallback needs forces"):
        made(water())
