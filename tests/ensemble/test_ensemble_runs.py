"""Ensembles in threads: plans, folders, shares, stops, failures and results."""

import json
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.constraints import FixBondLength, FixCom
from ase.io import read
from helpers import small_model

from trajcast_ase import Replicas, load_model
from trajcast_ase.dynamics.losses import LostReplicaWarning
from trajcast_ase.dynamics.rollout import Limits
from trajcast_ase.ensemble import (
    EnsembleError,
    SharesFailedError,
    UnfinishedError,
    ensemble,
    read_ensemble,
)
from trajcast_ase.ensemble import share as share_module
from trajcast_ase.ensemble.folder import Folder, bare, identity, read_plan
from trajcast_ase.ensemble.plan import default_batch
from trajcast_ase.ensemble.share import read_end
from trajcast_ase.files import sole_writer
from trajcast_ase.models.model_file import save_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.streams import Purpose, random_stream
from trajcast_ase.thermostats.recommended import setting_of, thermostats_of
from trajcast_ase.thermostats.setting import ThermostatSetting

MODEL = "tiny.trajcast"
SETTINGS = {
    "temperatures_K": [250.0, 300.0],
    "strides": 8,
    "replicas": 3,
    "batch": 2,
    "interval": 2,
    "seed": 5,
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / MODEL
    save_model(small_model("thermal", torch.float32, n_layers=1), path)
    return path


@pytest.fixture(autouse=True)
def workplace(model_file, tmp_path, monkeypatch):
    """Work in a folder with a small network."""
    monkeypatch.chdir(tmp_path)
    Path(MODEL).write_bytes(model_file.read_bytes())


def made(folder, **changes):
    with ThreadPoolExecutor(2) as executor:
        given = {"executor": executor} | SETTINGS | changes
        starts = given.pop("starts", molecule("CH3OH"))
        return ensemble(starts, given.pop("model", MODEL), folder, **given)


def files(folder):
    found = [*Path(folder).glob("*K/*"), *Path(folder).glob("ensemble.*")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


class Interrupts:
    """Stops or fails a share at its first word of progress beyond a stride."""

    def __init__(self, monkeypatch, share, stride, action):
        self.left = 1
        lock, say = threading.Lock(), share_module._Beat.__call__

        def interrupted(beat, strides):
            say(beat, strides)
            if beat._path.name == f"share-{share:04d}.progress" and strides >= stride:
                with lock:
                    due, self.left = self.left, 0
                if due:
                    action(beat._path)

        monkeypatch.setattr(share_module._Beat, "__call__", interrupted)


def test_shares_are_replicas_of_one_temperature():
    result = made("many")
    assert [one.number for one in result.replicas] == list(range(6))
    assert [one.temperature_K for one in result.replicas] == [250.0] * 3 + [300.0] * 3
    plan = read_plan(Folder(Path("many")))
    assert [list(one.replicas) for one in plan.shares] == [[0, 1], [2], [3, 4], [5]]
    network = load_model(MODEL)
    systems = [molecule("CH3OH") for _ in range(2)]
    for number, atoms in enumerate(systems, start=3):
        rng = random_stream(5, number, Purpose.VELOCITIES)
        draw_momenta(atoms, 300.0, rng, network.conservation)
    with Replicas(
        systems,
        network,
        thermostat=lambda rng: thermostats_of(setting_of(network), 300.0, rng),
        seed=5,
        first_replica=3,
        trajectory="own-{replica}.traj",
        loginterval=2,
    ) as replicas:
        replicas.run(8)
    for number in (3, 4):
        ours = read(f"many/300K/replica-{number:04d}.traj", ":")
        theirs = read(f"own-{number}.traj", ":")
        assert len(ours) == len(theirs) == 5
        assert np.array_equal(ours[-1].positions, theirs[-1].positions)
        assert np.array_equal(ours[-1].get_momenta(), theirs[-1].get_momenta())


def test_the_same_call_makes_nothing_anew(monkeypatch):
    made("many")
    before = files("many")
    monkeypatch.setattr(share_module, "load_model", None)  # no share is to run
    made("many")
    assert files("many") == before


def test_more_strides_prolong_an_ensemble():
    made("whole", strides=8)
    made("parts", strides=4)
    assert files("parts") != files("whole")
    made("parts", strides=8)
    assert files("parts") == files("whole")


def test_strides_on_a_device_go_on_from_their_checkpoints():
    made("host")
    made("device", engine="device")
    made("parts", engine="device", strides=5)
    made("parts", engine="device")
    assert files("parts") == files("device") != files("host")


def test_a_backend_that_does_not_work_fails_the_shares():
    with pytest.raises(SharesFailedError, match="on cpu, where the backend 'triton'"):
        made("many", backend="triton")
    made("many", backend="reference")
    assert read_end(Folder(Path("many")), read_plan(Folder(Path("many"))).shares[0])


def stop_all(_path):
    Path("STOP").touch()


def test_a_stop_file_ends_in_order(monkeypatch):
    made("whole", strides=40)
    Interrupts(monkeypatch, 0, 6, stop_all)
    limits = Limits(stop_file=Path("STOP"))
    with pytest.raises(UnfinishedError, match="the file STOP; the same call") as caught:
        made("parts", strides=4000, limits=limits)
    assert caught.value.ending.exit_status == 75
    with pytest.raises(EnsembleError, match="parts is not at its end"):
        read_ensemble("parts")
    assert not Path("STOP").exists()


def test_the_wall_time_ends_in_order():
    with pytest.raises(UnfinishedError, match="the limit of 0 s"):
        made("parts", limits=Limits(wall_s=0.0))
    made("whole")
    made("parts")
    assert files("parts") == files("whole")


def fail(_path):
    raise OSError(28, "No space left on device")


def test_a_share_that_fails_does_not_stop_the_others(monkeypatch):
    made("whole")
    with monkeypatch.context() as patch:
        # An observer of all replicas: none is to blame, so the share fails.
        Interrupts(patch, 2, 4, fail)
        with pytest.raises(SharesFailedError) as caught:
            made("parts", checkpoint_minutes=0.0)
    text = str(caught.value)
    assert text.startswith("1 of 4 shares have failed; the same command goes on with")
    assert "share 2 (replicas 3 to 4, 300 K): [Errno 28] No space left" in text
    ends = list(Path("parts/shares").glob("*.end"))
    assert len(ends) == 3
    made("parts")
    assert files("parts") == files("whole")


class Fragile(Executor):
    """Threads that are lost as processes are: one that fails breaks the pool."""

    def __init__(self):
        self._threads = ThreadPoolExecutor(2)

    def submit(self, function, *args, **kwargs):
        given = Future()

        def run():
            try:
                given.set_result(function(*args, **kwargs))
            except Exception:  # noqa: BLE001
                given.set_exception(BrokenExecutor("a process died"))

        self._threads.submit(run)
        return given

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


def test_a_pool_that_breaks_is_replaced(monkeypatch):
    made("whole")
    with monkeypatch.context() as patch:
        Interrupts(patch, 2, 4, fail)
        made("parts", executor=Fragile, checkpoint_minutes=0.0)
    assert files("parts") == files("whole")


def test_a_pool_of_another_is_not_replaced(monkeypatch):
    made("whole")
    with monkeypatch.context() as patch, Fragile() as pool:
        Interrupts(patch, 2, 4, fail)
        with pytest.raises(BrokenExecutor, match="or give a function that makes"):
            made("parts", executor=pool, checkpoint_minutes=0.0)
    made("parts")
    assert files("parts") == files("whole")


def test_a_pool_that_always_breaks_is_given_up(monkeypatch):
    monkeypatch.setattr(share_module, "read_start", lambda *_: fail(None))
    with pytest.raises(BrokenExecutor, match="lost 4 times"):
        made("parts", executor=Fragile)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "with seed = 5, but 6 was asked for"),
        ({"temperatures_K": [250.0]}, r"temperatures_K = \[250.0, 300.0\], but"),
        ({"starts": molecule("CH3CHO")}, "starts = "),
        ({"batch": 3}, "batch = 2"),
        ({"strides": 4}, "of 8 strides, more than the 4"),
        ({"thermostat": None}, "thermostat = "),
        ({"engine": "device"}, "engine = 'host', but 'device'"),
    ],
)
def test_other_settings_do_not_go_on(change, message):
    made("many")
    before = files("many")
    with pytest.raises(EnsembleError, match=message):
        made("many", **change)
    assert files("many") == before


def test_seed_and_batch_are_those_of_the_folder():
    made("many")
    before = files("many")
    made("many", seed=None, batch=None)
    assert files("many") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperatures_K": []}, "temperatures_K is empty"),
        ({"temperatures_K": [0.0]}, "0 K has no motion"),
        ({"temperatures_K": [float("nan")]}, "must be a finite number"),
        ({"temperatures_K": [300, 300.00001]}, "not distinct"),
        ({"temperatures_K": np.array([[280.0, 300.0]])}, "must be a finite number"),
        ({"strides": 0}, "strides = 0"),
        ({"replicas": 0}, "replicas = 0"),
        ({"replicas": True}, "replicas = True"),
        ({"replicas": np.float64(3)}, r"replicas = 3\.0 must be an integer"),
        ({"seed": -1}, "seed = -1"),
        ({"engine": "gpu"}, "choose 'host' or 'device'"),
        ({"dtype": "float16"}, "choose 'float32' or 'float64'"),
        ({"thermostat": "warm"}, "give 'recommended'"),
        ({"starts": []}, "at least one start"),
        ({"starts": [molecule("CH3OH"), molecule("CH4")]}, "start 1 is CH4"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        made("many", **change)
    assert not Path("many").exists()


@pytest.mark.parametrize(
    "temperatures",
    [np.array([250, 300]), [np.float32(250), np.int64(300)], range(250, 301, 50)],
)
def test_numbers_of_numpy_are_numbers(temperatures):
    made("whole")
    counts = {
        name: np.int64(SETTINGS[name])
        for name in ("strides", "replicas", "batch", "interval", "seed")
    }
    flags = {"noise": np.False_, "draw_velocities": np.False_}
    made("many", temperatures_K=temperatures, threads=np.int32(1), **counts, **flags)
    assert files("many") == files("whole")


@pytest.mark.parametrize("kelvin", [np.float32(300), np.array(300)])
def test_a_number_of_numpy_is_one_temperature(kelvin):
    result = made("many", temperatures_K=kelvin, batch=None, workers=np.int64(2))
    assert {one.temperature_K for one in result.replicas} == {300.0}


def held():
    atoms = molecule("CH3OH")
    atoms.set_constraint(FixBondLength(0, 1))
    return atoms


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (molecule("CH3SH"), r"^start 0: element S \(atomic number 16\) is unknown"),
        ([molecule("CH3OH"), held()], "start 1: the constraint FixBondLength"),
    ],
)
def test_starts_that_no_worker_could_run_are_refused_at_once(starts, message):
    with pytest.raises(EnsembleError, match=message):
        made("many", starts=starts)
    assert not Path("many").exists()


def moving():
    atoms = molecule("CH3OH")
    draw_momenta(atoms, 200.0, np.random.default_rng(1))
    return atoms


def test_replicas_need_chance():
    with pytest.raises(EnsembleError, match="one run many times"):
        made("many", starts=moving(), thermostat=None)
    langevin = {"kind": "Langevin", "time_constant_fs": 500.0}
    result = made("many", starts=moving(), thermostat=ThermostatSetting((langevin,)))
    first = [read(one.trajectory, 0) for one in result.replicas]
    assert all(np.array_equal(a.get_momenta(), moving().get_momenta()) for a in first)


def test_a_folder_of_something_else_is_refused():
    Path("many").mkdir()
    Path("many/thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"many holds thesis\.tex"):
        made("many")


def test_two_calls_do_not_carry_out_the_same():
    made("many")
    with (
        sole_writer(Path("many/plan.json")),
        pytest.raises(FileExistsError, match="by another process"),
    ):
        made("many")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda: Path("many/plan.json").write_text("{"), "plan.json is damaged"),
        (lambda: edit("many/plan.json", seed="5"), "seed = '5' must be an integer"),
        (lambda: edit("many/plan.json", more=1), "is no trajcast-ensemble-1"),
        (lambda: edit("many/plan.json", noise=1), "noise = 1 must be true or false"),
        (lambda: edit("many/plan.json", starts=[1]), "a start = 1 must be a dict"),
        (
            lambda: Path("many/model.trajcast").write_bytes(b"other"),
            "model.trajcast is not the model",
        ),
        (
            lambda: edit("many/shares/share-0001.end", lost=1),
            "share-0001.end is damaged",
        ),
    ],
)
def test_damaged_folders_are_refused(damage, message):
    made("many")
    damage()
    with pytest.raises(EnsembleError, match=message):
        made("many", strides=12)


def edit(path, **changes):
    values = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps(values | changes))


def test_damaged_starts_fail_the_shares():
    made("many", strides=4)
    Path("many/starts.traj").write_bytes(b"nothing")
    with pytest.raises(SharesFailedError, match=r"starts\.traj cannot be read"):
        made("many")


def test_starts_keep_what_runs_depend_on():
    atoms = moving()
    atoms.set_masses(atoms.get_masses())
    atoms.set_constraint(FixCom())
    atoms.info["note"] = "not kept"
    assert identity(bare(atoms)) == identity(atoms)
    for change in (
        lambda one: one.set_constraint(),
        lambda one: one.set_masses([3.0] * len(one)),
        lambda one: one.positions.__iadd__(1e-12),
        lambda one: one.set_pbc([True, False, False]),
    ):
        other = atoms.copy()
        change(other)
        assert identity(other) != identity(atoms)
    langevin = ThermostatSetting(({"kind": "Langevin", "time_constant_fs": 500.0},))
    result = made("many", starts=[atoms, atoms], thermostat=langevin, replicas=1)
    frame = read(result.replicas[3].trajectory, -1)
    assert len(frame.constraints) == 1
    assert np.array_equal(frame.get_masses(), atoms.get_masses())


def test_lost_replicas_are_told(monkeypatch):
    look = share_module.Replicas.run

    def fails(self, steps):
        if self.first_replica == 3 and self.nsteps == 0:
            first = self[0]
            first.attach(lambda: first.nsteps == 4 and 1 / 0)
        return look(self, steps)

    with monkeypatch.context() as patch:
        patch.setattr(share_module.Replicas, "run", fails)
        patch.setattr("trajcast_ase.dynamics.rollout._next_leap", lambda *_: 100)
        with pytest.warns(LostReplicaWarning):
            result = made("many")
    (lost,) = result.lost
    assert (lost.number, lost.strides, lost.lost) == (3, 4, "division by zero")
    assert [one.replicas for one in result.mean_temperatures()] == [3, 2]
    assert [one.number for one in result.kept(300)] == [4, 5]
    end = read_end(Folder(Path("many")), read_plan(Folder(Path("many"))).shares[2])
    assert end is not None
    assert end.lost[0].stride == 4
    assert made("many").lost == result.lost


def test_a_share_that_is_lost_as_a_whole_has_ended(monkeypatch):
    def fails(self, steps):
        if self.first_replica == 2:
            self[0].attach(lambda: 1 / 0)
        return Replicas.run(self, steps)

    class Failing(Replicas):
        run = fails

    monkeypatch.setattr(share_module, "Replicas", Failing)
    result = made("many")
    assert [one.number for one in result.lost] == [2]
    assert "ZeroDivisionError" in result.lost[0].lost or "zero" in result.lost[0].lost


def test_means_have_errors_over_replicas():
    result = made("many", strides=20)
    for average in result.mean_temperatures():
        own = [one.mean_temperature_K for one in result.kept(average.temperature_K)]
        assert average.mean == pytest.approx(np.mean(own))
        expected = np.std(own, ddof=1) / np.sqrt(3)
        assert average.standard_error == pytest.approx(expected)
    summary = json.loads(Path("many/ensemble.json").read_text())
    assert [one["temperature_K"] for one in summary["temperatures"]] == [250.0, 300.0]
    rows = Path("many/ensemble.csv").read_text().splitlines()
    assert len(rows) == 7
    assert rows[4].startswith("3,300.0,start 0,20,11,")
    assert rows[4].endswith(",300K/replica-0003.traj,300K/replica-0003.log")


def test_logs_and_trajectories_tell_the_same():
    result = made("many", strides=20)
    later = read_ensemble("many", skip_ps=0.056)
    n_dof = 3 * 6 - 6

    def kelvin(frames):
        energy = 0.5 * frames.masses[:, None] * frames.velocities**2
        return 2 * energy.sum(axis=(1, 2)).mean() * 103.642697 / (n_dof * 8.617333e-5)

    for one, expected in ((result, 11), (later, 7)):
        assert {row.frames for row in one.replicas} == {expected}
        pairs = zip(one.averages(kelvin), one.mean_temperatures(), strict=True)
        for ours, theirs in pairs:
            assert ours.mean == pytest.approx(theirs.mean, abs=0.1)  # the log's digits
    with pytest.raises(EnsembleError, match="no rows after the first 1 ps"):
        read_ensemble("many", skip_ps=1.0)
    with pytest.raises(EnsembleError, match="temperatures are 250, 300 K"):
        result.kept(310.0)


def test_one_replica_has_no_error():
    result = made("many", replicas=1)
    assert all(np.isnan(one.standard_error) for one in result.mean_temperatures())
    summary = json.loads(Path("many/ensemble.json").read_text())
    assert summary["temperatures"][0]["standard_error_K"] is None


def test_a_worker_waits_for_one_that_still_writes(monkeypatch):
    made("whole")
    made("many", strides=4)
    place = Folder(Path("many"))
    path = place.checkpoint(read_plan(place).shares[1])
    monkeypatch.setattr(share_module, "BEAT_S", 0.01)
    released = threading.Event()

    def waits(_seconds):
        if not released.is_set():
            released.set()
            held.__exit__(None, None, None)

    held = sole_writer(path)
    held.__enter__()
    monkeypatch.setattr(share_module.time, "sleep", waits)
    made("many")
    assert released.is_set()
    assert files("many") == files("whole")


def test_a_worker_does_not_wait_for_ever(monkeypatch):
    made("many", strides=4)
    place = Folder(Path("many"))
    path = place.checkpoint(read_plan(place).shares[1])
    monkeypatch.setattr(share_module, "PATIENCE_S", -1.0)
    with sole_writer(path), pytest.raises(SharesFailedError, match="another process"):
        made("many")


def test_default_batches_leave_no_worker_idle():
    assert default_batch(20, replicas=8, cells=1, workers=2) == 4
    assert default_batch(20, replicas=8, cells=3, workers=2) == 8
    assert default_batch(20, replicas=500, cells=3, workers=2) == 100
    assert default_batch(5000, replicas=8, cells=1, workers=2) == 1
    assert default_batch(20, replicas=2, cells=1, workers=16) == 1


def test_progress_is_reported():
    seen = []
    made("many", report=seen.append)
    assert (seen[0].strides, seen[0].total, seen[0].shares) == (0, 48, 4)
    assert (seen[-1].strides, seen[-1].ended) == (48, 4)
    seen.clear()
    made("many", strides=16, report=seen.append)
    assert (seen[0].strides, seen[-1].strides) == (48, 96)
