"""The run loop, files, exactness and arguments of the driver."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io import Trajectory, read
from ase.md.logger import MDLogger
from ase.md.verlet import VelocityVerlet
from driver_helpers import (
    HORIZON,
    STRIDE,
    CountingCalculator,
    FreeFlight,
    crystal,
    snapshot,
    water,
)
from helpers import by_either_engine

from trajcast_ase.dynamics.arguments import prepared_model
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.replicas import Replicas
from trajcast_ase.models.model_file import save_model
from trajcast_ase.state import state_from_atoms
from trajcast_ase.stride import stride
from trajcast_ase.testing import Ballistic, HarmonicCrystal
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.trajectory import read_frames

INTERVALS = (1, 2, 3, 0, -1, -4, -100)


def make_verlet(atoms, **kwargs):
    atoms.calc = FreeFlight()
    return VelocityVerlet(atoms, STRIDE, **kwargs)


def make_trajcast(atoms, **kwargs):
    return TrajCast(atoms, Ballistic(HORIZON), **kwargs)


DRIVERS = (make_verlet, make_trajcast)


def run_both(use):
    """Return what `use` gives for ASE's dynamics and for ours."""
    return [use(make, water()) for make in DRIVERS]


def each_step(dyn, steps):
    for _ in range(steps):
        dyn.run(1)


def exhaust(dyn, steps):
    for _ in dyn.irun(steps):
        pass


WAYS = (TrajCast.run, each_step, exhaust)


@by_either_engine
def test_free_flight_is_that_of_velocity_verlet():
    ours, theirs = water(), water()
    make_trajcast(ours).run(20)
    make_verlet(theirs).run(20)
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.get_momenta(), theirs.get_momenta(), atol=1e-14)


@by_either_engine
@pytest.mark.parametrize("way", WAYS)
def test_observers_fire_as_in_velocity_verlet(way):
    def use(make, atoms):
        dyn = make(atoms)
        calls = []
        for interval in INTERVALS:
            dyn.attach(lambda i=interval: calls.append((i, dyn.nsteps)), interval)
        dyn.insert_observer(lambda: calls.append(("first", dyn.nsteps)), interval=2)
        way_of = {TrajCast.run: type(dyn).run}.get(way, way)
        way_of(dyn, 7)
        way_of(dyn, 2)
        return calls, dyn.nsteps, dyn.get_time(), dyn.get_number_of_steps()

    theirs, ours = run_both(use)
    assert ours == theirs
    assert len(ours[0]) == 27


@by_either_engine
def test_irun_yields_as_velocity_verlet():
    def use(make, atoms):
        dyn = make(atoms)
        seen = [(done, dyn.nsteps) for done in dyn.irun(3)]
        return seen + [(done, dyn.nsteps) for done in dyn.irun(2)]

    theirs, ours = run_both(use)
    assert ours == theirs
    assert ours[:4] == [(False, 0), (False, 1), (False, 2), (True, 3)]


@by_either_engine
def test_first_yield_precedes_motion_and_each_yield_is_current():
    model, atoms = crystal()
    expected = [state_from_atoms(atoms)]
    for _ in range(3):
        expected.append(stride(model, expected[-1]))
    dyn = TrajCast(atoms, model)
    for state, _ in zip(expected, dyn.irun(3), strict=True):
        np.testing.assert_allclose(atoms.positions, state.positions, atol=1e-13)


@by_either_engine
def test_run_of_no_steps_looks_once():
    dyn = make_trajcast(water())
    calls = []
    dyn.attach(lambda: calls.append(dyn.nsteps))
    before = snapshot(dyn.atoms)
    assert dyn.run(0) is True
    assert dyn.run(0) is True
    assert calls == [0, 0]  # as ASE: nsteps is still 0
    assert snapshot(dyn.atoms) == before


@by_either_engine
def test_run_returns_true_and_counts_on():
    dyn = make_trajcast(water())
    assert dyn.run(3) is True
    assert dyn.run(4) is True
    assert dyn.nsteps == 7
    assert dyn.get_time() == pytest.approx(49 * units.fs)
    assert dyn.converged()


@by_either_engine
def test_step_leaves_nsteps_alone():
    dyn = make_trajcast(water())
    before = snapshot(dyn.atoms)
    dyn.step()
    assert dyn.nsteps == 0
    assert snapshot(dyn.atoms) != before


def test_call_order_with_replaced_methods():
    dyn = make_trajcast(water())
    calls = []
    names = ("step", "_refresh_properties", "log", "call_observers")
    for name in names:
        setattr(dyn, name, lambda n=name: calls.append(n))
    dyn.run(2)
    look = ["_refresh_properties", "log", "call_observers"]
    assert calls == look + ["step", *look] * 2


@by_either_engine
def test_overridden_step_is_called_each_time():
    class Recorder(TrajCast):
        count = 0

        def step(self):
            self.count += 1
            super().step()

    dyn = Recorder(water(), Ballistic(HORIZON))
    dyn.run(5)
    assert (dyn.count, dyn.nsteps) == (5, 5)


@by_either_engine
@pytest.mark.parametrize("way", [TrajCast.run, exhaust])
def test_observer_can_stop_a_run(way):
    dyn = make_trajcast(water())

    def stop():
        dyn.max_steps = dyn.nsteps

    dyn.attach(stop, interval=-4)
    way(dyn, 10)
    assert dyn.nsteps == 4
    way(dyn, 3)
    assert dyn.nsteps == 7


@by_either_engine
@pytest.mark.parametrize("way", [TrajCast.run, exhaust])
def test_exception_in_observer_leaves_atoms_at_nsteps(way):
    model, atoms = crystal()
    _, twin = crystal()
    dyn, reference = TrajCast(atoms, model), TrajCast(twin, model)

    def fail():
        raise LookupError("from the observer")

    dyn.attach(fail, interval=-3)
    with pytest.raises(LookupError):
        way(dyn, 10)
    reference.run(3)
    assert dyn.nsteps == 3
    assert snapshot(atoms) == snapshot(twin)
    way(dyn, 2)
    reference.run(2)
    assert snapshot(atoms) == snapshot(twin)


@by_either_engine
def test_observers_may_attach_others():
    dyn = make_trajcast(water())
    late = []
    dyn.attach(
        lambda: dyn.attach(lambda: late.append(dyn.nsteps), interval=2), interval=-3
    )
    dyn.run(8)
    assert late == [4, 6, 8]


@by_either_engine
def test_run_transfers_only_when_an_observer_is_due(monkeypatch):
    dyn = make_trajcast(water())
    pushes = []
    push = dyn._mirror.push
    monkeypatch.setattr(dyn._mirror, "push", lambda a: (pushes.append(1), push(a)))
    dyn.attach(lambda: None, interval=5)
    dyn.run(12)
    assert len(pushes) == 3  # after steps 5, 10 and 12


def thermostats(name):
    rng = np.random.default_rng(3)
    return {
        "none": None,
        "csvr": CSVR(300, 10 * STRIDE, rng=rng),
        "langevin": Langevin(300, 0.1 / STRIDE, rng=rng),
    }[name]


@by_either_engine
@pytest.mark.parametrize("name", ["none", "csvr", "langevin"])
def test_all_ways_to_run_agree_to_the_last_bit(name):
    results = set()
    for way in WAYS:
        model, atoms = crystal(3)
        dyn = TrajCast(atoms, model, thermostat=thermostats(name))
        way(dyn, 25)
        results.add(snapshot(atoms))
    assert len(results) == 1


@by_either_engine
@pytest.mark.parametrize("name", ["none", "csvr", "langevin"])
@pytest.mark.parametrize("split", [1, 50, 99])
def test_fresh_driver_continues_to_the_last_bit(name, split):
    model, atoms = crystal()
    TrajCast(atoms, model, thermostat=thermostats(name)).run(100)
    _, again = crystal()
    thermostat = thermostats(name)
    TrajCast(again, model, thermostat=thermostat).run(split)
    again = again.copy()
    TrajCast(again, model, thermostat=thermostat).run(100 - split)
    assert snapshot(again) == snapshot(atoms)


@by_either_engine
def test_network_continues_to_the_last_bit(thermal_model):
    atoms = water()
    TrajCast(atoms, thermal_model).run(6)
    again = water()
    for _ in range(6):
        again = again.copy()
        TrajCast(again, thermal_model).run(1)
    assert snapshot(again) == snapshot(atoms)


@by_either_engine
def test_drifting_molecule_is_never_wrapped():
    model, atoms = crystal()
    kick = 0.05 / units.fs  # Å/fs, 2 cells in 50 strides
    atoms.set_velocities(atoms.get_velocities() + np.array([kick, 0, 0]))
    start = atoms.get_center_of_mass()
    TrajCast(atoms, model).run(50)
    moved = atoms.get_center_of_mass() - start
    np.testing.assert_allclose(moved, [0.05 * HORIZON * 50, 0, 0], atol=1e-9)


@by_either_engine
def test_files_have_the_frames_and_rows_of_velocity_verlet(tmp_path):
    def use(make, atoms):
        name = tmp_path / make.__name__
        options = {"trajectory": f"{name}.traj", "logfile": f"{name}.log"}
        with make(atoms, loginterval=2, **options) as dyn:
            dyn.run(7)
            dyn.run(3)
        rows = (tmp_path / f"{make.__name__}.log").read_text().splitlines()
        return read(f"{name}.traj", ":"), rows

    (frames, rows), (our_frames, our_rows) = run_both(use)
    assert len(our_frames) == len(frames) == 6
    assert our_rows[0] == rows[0]
    columns = [row.split() for row in rows[1:]]
    ours = [row.split() for row in our_rows[1:]]
    # Time and kinetic energy; the temperature counts other degrees of freedom.
    assert [[r[0], r[3]] for r in ours] == [[r[0], r[3]] for r in columns]
    assert all(r[1:3] == ["nan", "nan"] for r in ours)


@by_either_engine
def test_frames_hold_the_state_exactly(tmp_path):
    model, atoms = crystal()
    seen = []
    with TrajCast(atoms, model, trajectory=tmp_path / "a.traj") as dyn:
        dyn.attach(lambda: seen.append(snapshot(atoms)))
        dyn.run(5)
    assert [snapshot(frame) for frame in read(tmp_path / "a.traj", ":")] == seen


@by_either_engine
def test_append_trajectory_does_not_repeat_the_last_frame(tmp_path):
    model, atoms = crystal()
    path, whole = tmp_path / "a.traj", tmp_path / "whole.traj"
    start = atoms.copy()
    for _ in range(2):
        with TrajCast(atoms, model, trajectory=path, append_trajectory=True) as dyn:
            dyn.run(3)
    with TrajCast(start, model, trajectory=whole) as dyn:
        dyn.run(6)
    assert [snapshot(one) for one in read(path, ":")] == [
        snapshot(one) for one in read(whole, ":")
    ]
    assert read_frames(path).n_frames == 7
    atoms.set_momenta(-atoms.get_momenta())
    with TrajCast(atoms, model, trajectory=path, append_trajectory=True) as dyn:
        dyn.run(1)
    assert len(read(path, ":")) == 9  # the new start is no frame of the file
    with TrajCast(atoms, model, trajectory=str(path)) as dyn:
        dyn.run(1)
    assert len(read(path, ":")) == 2


def test_append_trajectory_refuses_the_file_of_another_run(tmp_path):
    model, atoms = crystal()
    path = tmp_path / "a.traj"
    with TrajCast(atoms, model, trajectory=path, loginterval=2) as dyn:
        dyn.run(4)
    before = path.read_bytes()
    slower = replace(model, horizon_fs=2 * model.horizon_fs)
    other = atoms.copy()
    other.numbers = other.numbers[::-1] + 1
    for given, forecaster, interval, message in (
        (atoms, model, 3, "has a frame every 2 steps, loginterval = 3"),
        (atoms, slower, 2, "those of this run are"),
        (other, model, 2, "these Atoms are"),
    ):
        with pytest.raises(ValueError, match=f"{message}.* another name"):
            TrajCast(
                given,
                forecaster,
                trajectory=path,
                loginterval=interval,
                append_trajectory=True,
            )
    assert path.read_bytes() == before


def test_append_trajectory_begins_a_file_without_frames(tmp_path):
    model, atoms = crystal()
    Trajectory(tmp_path / "opened.traj", "w").close()
    (tmp_path / "empty.traj").touch()
    for name in ("opened.traj", "empty.traj", "new.traj"):
        path = tmp_path / name
        with TrajCast(atoms, model, trajectory=path, append_trajectory=True) as dyn:
            dyn.run(2)
        assert read_frames(path).n_frames == 3


def test_trajectory_is_opened_once(tmp_path):
    model, atoms = crystal()
    with TrajCast(atoms, model, trajectory=str(tmp_path / "a.traj")) as dyn:
        assert hasattr(dyn.trajectory, "write")
        dyn.run(2)


def test_objects_of_the_user_stay_open(tmp_path):
    stream = io.StringIO()
    with Trajectory(tmp_path / "a.traj", "w") as writer:
        with make_trajcast(water(), trajectory=writer, logfile=stream) as dyn:
            dyn.run(2)
        writer.write(dyn.atoms)
    assert len(read(tmp_path / "a.traj", ":")) == 4
    assert len(stream.getvalue().splitlines()) == 4


def test_frames_of_md_with_forces_are_a_start(tmp_path):
    """They bring their energies along, which ASE does not give for other positions."""
    atoms = water()
    atoms.calc = LennardJones()
    with Trajectory(tmp_path / "md.traj", "w", atoms) as trajectory:
        atoms.get_forces()
        trajectory.write()
    start = read(tmp_path / "md.traj")
    assert isinstance(start.calc, SinglePointCalculator)
    stream = io.StringIO()
    path = tmp_path / "run.traj"
    with make_trajcast(start, trajectory=path, logfile=stream) as dyn:
        dyn.run(3)
    assert start.calc is None
    assert [line.split()[1] for line in stream.getvalue().splitlines()[1:]] == [
        "nan"
    ] * 4
    assert len(read(path, ":")) == 4


def test_log_to_standard_output(capsys):
    make_trajcast(water(), logfile="-").run(1)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_description_states_model_and_thermostat(tmp_path, thermal_model):
    atoms = water()
    thermostat = CSVR(300, STRIDE, rng=np.random.default_rng(0))
    options = {"trajectory": tmp_path / "a.traj", "loginterval": 2}
    with TrajCast(atoms, thermal_model, thermostat=thermostat, **options) as dyn:
        dyn.run(2)
        settings = json.loads(json.dumps(dyn.todict()))
    with Trajectory(tmp_path / "a.traj") as reader:
        description = reader.description
    assert description == settings | {"interval": 2}
    assert settings["md-type"] == "TrajCast"
    assert settings["horizon_fs"] == 7.0
    assert settings["model"]["hash"] == thermal_model.content_hash
    assert settings["thermostat"]["temperature_K"] == 300


@by_either_engine
@pytest.mark.parametrize("way", WAYS)
def test_energy_is_evaluated_only_for_observers(way, tmp_path):
    model, atoms = crystal()
    atoms.calc = CountingCalculator()
    path, log = tmp_path / "a.traj", tmp_path / "a.log"
    files = {"trajectory": path, "logfile": log, "loginterval": 4}
    with TrajCast(atoms, model, **files) as dyn:
        way(dyn, 10)
    assert atoms.calc.n_calls == 3  # steps 0, 4 and 8
    energies = [frame.get_potential_energy() for frame in read(path, ":")]
    assert energies == [1, 2, 3]
    assert [float(row.split()[2]) for row in log.read_text().splitlines()[1:]] == [
        1,
        2,
        3,
    ]


@by_either_engine
def test_calculator_is_never_asked_without_observers_and_does_not_matter():
    model, atoms = crystal()
    _, twin = crystal()
    atoms.calc = CountingCalculator()
    TrajCast(atoms, model).run(5)
    TrajCast(twin, model).run(5)
    assert atoms.calc.n_calls == 0
    assert snapshot(atoms) == snapshot(twin)


def test_plain_logger_without_calculator_raises_as_in_ase():
    dyn = make_trajcast(water())
    dyn.attach(MDLogger(dyn, dyn.atoms, io.StringIO()))
    with pytest.raises(RuntimeError, match="no calculator"):
        dyn.run(1)


def test_temperature_counts_only_thermal_degrees_of_freedom():
    model, atoms = crystal(3)
    dyn = TrajCast(atoms, model)
    assert dyn.n_dof == 3 * 27 - 3
    before = dyn.get_temperature()
    assert before / atoms.get_temperature() == pytest.approx(27 / 26, rel=1e-12)
    atoms.set_velocities(atoms.get_velocities() + np.array([0.3, 0, 0]))
    assert dyn.get_temperature() == pytest.approx(before, rel=1e-12)
    assert atoms.get_temperature() > 10 * before


def test_rotation_of_an_isolated_molecule_has_no_temperature():
    atoms = water()
    dyn = make_trajcast(atoms)
    assert dyn.n_dof == 3
    before = dyn.get_temperature()
    arms = atoms.positions - atoms.get_center_of_mass()
    atoms.set_velocities(atoms.get_velocities() + np.cross([0.0, 0.3, 0.2], arms))
    assert dyn.get_temperature() == pytest.approx(before, rel=1e-10)


def test_timestep_must_be_the_horizon():
    atoms = water()
    assert make_trajcast(atoms, timestep=7 * units.fs).dt == STRIDE
    with pytest.raises(ValueError, match=r"71\.26\d* fs, .* covers 7 fs"):
        make_trajcast(atoms, timestep=7)
    with pytest.raises(ValueError, match="timestep"):
        make_trajcast(atoms, timestep=math.nan)
    bath = CSVR(300.0, 70 * units.fs)
    with pytest.raises(TypeError, match=r"timestep = \[CSVR.*as thermostat=\.\.\."):
        make_trajcast(atoms, timestep=[bath])


def test_bad_arguments_leave_existing_files_alone(tmp_path):
    path = tmp_path / "a.traj"
    with make_trajcast(water(), trajectory=path) as dyn:
        dyn.run(2)
    content = path.read_bytes()
    bad = [
        (TypeError, "fmax", water(), {"fmax": 0.1}),
        (ValueError, "timestep", water(), {"timestep": 1.0}),
        (TypeError, "apply and todict", water(), {"thermostat": 300}),
        (ValueError, "empty", Atoms(), {}),
        (TypeError, "Filter", FrechetCellFilter(water()), {}),
    ]
    for error, match, atoms, options in bad:
        with pytest.raises(error, match=match):
            make_trajcast(atoms, trajectory=path, **options)
    assert path.read_bytes() == content


def test_unknown_element_is_named():
    with pytest.raises(ValueError, match=r"element O .*knows H"):
        TrajCast(water(), Ballistic(HORIZON, elements=(1,)))


def test_keywords_of_the_base_class_pass(tmp_path):
    class Quiet:
        rank, size = 1, 1

    path = tmp_path / "a.traj"
    with make_trajcast(water(), trajectory=path, comm=Quiet(), master=False) as dyn:
        dyn.run(1)
    assert not path.exists()


def test_noise_is_that_of_rank_zero():
    class SecondRank:
        rank, size = 1, 2

        def broadcast(self, values, root):
            assert root == 0
            values[:] = 0.25

    dyn = make_trajcast(water(), thermostat=thermostats("csvr"), comm=SecondRank())
    dyn.run(1)
    velocities = dyn.atoms.get_velocities() * units.fs
    np.testing.assert_allclose(velocities, 0.25, rtol=1e-14)


def test_atoms_without_momenta_warn_and_run():
    atoms = Atoms("ArAr", [[0, 0, 0], [3, 0, 0]])
    with pytest.warns(UserWarning, match="missing velocities.*draw momenta"):
        dyn = make_trajcast(atoms)
    dyn.run(2)
    assert not atoms.get_momenta().any()


@by_either_engine
def test_single_atom_flies_straight(thermal_model):
    atoms = Atoms("O", momenta=[[1.0, 2.0, 3.0]])
    velocity = atoms.get_velocities()
    TrajCast(atoms, thermal_model).run(10)
    np.testing.assert_allclose(atoms.positions, velocity * 10 * STRIDE, rtol=1e-12)


class Exploding(Ballistic):
    """Gives NaN at one stride."""

    __slots__ = ("strides",)

    def to(self, device):
        moved = super().to(device)
        object.__setattr__(moved, "strides", [])
        return moved

    def raw_forecast(self, state):
        self.strides.append(1)
        displacements, velocities = super().raw_forecast(state)
        if len(self.strides) == 4:
            velocities = velocities.clone()
            velocities[1, 2] = torch.nan
        return displacements, velocities


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["none", "csvr"])
def test_nan_forecast_names_the_step_and_keeps_the_last_good_state(way, name):
    atoms, twin = water(), water()
    model = Exploding(HORIZON)
    object.__setattr__(model, "strides", [])
    dyn = TrajCast(atoms, model, thermostat=thermostats(name))
    with pytest.raises(RuntimeError, match=r"forecast of step 4 .* atom \d \(\w\)"):
        way(dyn, 10)
    make_trajcast(twin, thermostat=thermostats(name)).run(3)
    assert dyn.nsteps == 3
    assert snapshot(atoms) == snapshot(twin)


def test_nan_of_a_thermostat_is_caught():
    class Broken:
        transferred_energy = torch.zeros(1)

        def apply(self, motion, time, timestep):
            del time, timestep
            return motion.changed(motion.state.velocities * math.nan)

        def todict(self):
            return {}

    dyn = make_trajcast(water(), thermostat=Broken())
    before = snapshot(dyn.atoms)
    with pytest.raises(RuntimeError, match="thermostat of step 1"):
        dyn.run(1)
    assert snapshot(dyn.atoms) == before


@by_either_engine
def test_resting_atoms_with_csvr_are_refused():
    atoms = Atoms("ArAr", [[0, 0, 0], [3, 0, 0]])
    with pytest.raises(ValueError, match="velocities"):
        make_trajcast(atoms, thermostat=thermostats("csvr"))
    drifting = Atoms("ArAr", [[0, 0, 0], [3, 0, 0]], velocities=[[1, 2, 3]] * 2)
    with pytest.raises(ValueError, match="velocities"):
        make_trajcast(drifting, thermostat=thermostats("csvr"))


def test_model_of_the_caller_is_not_moved(thermal_model, monkeypatch):
    # "meta" stands for a card, and is no device of a run.
    monkeypatch.setattr("trajcast_ase.models.model_file.checked_device", torch.device)
    for model in (Ballistic(HORIZON), crystal()[0], thermal_model):
        assert TrajCast(atoms_for(model), model, device="cpu").model is model
        moved = prepared_model(model, "meta")
        assert moved.device.type == "meta"
        assert model.device.type == "cpu"


def atoms_for(model):
    return crystal()[1] if isinstance(model, HarmonicCrystal) else water()


def test_model_may_be_a_path(tmp_path, thermal_model):
    path = tmp_path / "small.trajcast"
    save_model(thermal_model, path)
    for name in (path, str(path)):
        dyn = TrajCast(water(), name)
        assert dyn.todict()["model"]["name"] == "small"
        assert dyn.dt == STRIDE


@by_either_engine
def test_whole_floats_are_numbers_of_strides():
    model, atoms = crystal(2)
    dynamics, seen = TrajCast(atoms, model, loginterval=2e0), []
    dynamics.attach(lambda: seen.append(dynamics.nsteps), interval=np.float64(4.0))
    dynamics.run(1e1)
    assert list(dynamics.irun(2.0)) == [False, False, True]
    assert (dynamics.nsteps, seen) == (12, [0, 4, 8, 12])
    replicas = Replicas([atoms.copy()], model)
    replicas.attach(seen.clear, interval=1e1)
    replicas.run(1e1)
    assert (replicas.nsteps, seen) == (10, [])


@pytest.mark.parametrize("steps", [2.5, -1, float("nan"), float("inf")])
def test_what_is_no_number_of_strides(steps, tmp_path):
    model, atoms = crystal(2)
    dynamics, replicas = TrajCast(atoms, model), Replicas([atoms.copy()], model)
    for run in (dynamics.run, replicas.run, lambda n: next(dynamics.irun(n))):
        with pytest.raises(ValueError, match=r"steps = .* whole number of at least 0"):
            run(steps)
    assert dynamics.nsteps == 0
    for one in (dynamics, replicas):
        with pytest.raises(TypeError, match="interval = '2' must be a whole number"):
            one.attach(print, "2")
    path = tmp_path / "a.traj"
    with pytest.raises(ValueError, match=r"loginterval = 2\.5 must be a whole number"):
        TrajCast(atoms, model, trajectory=path, loginterval=2.5)
    assert not path.exists()
