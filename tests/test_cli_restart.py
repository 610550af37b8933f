"""``trajcast run --restart``: the same command again goes on."""

import os
import signal
import tempfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from helpers import small_model
from test_cli import call, error_of

import trajcast_ase.sealed
from trajcast_ase import TrajCast
from trajcast_ase.dynamics.checkpoint import read_checkpoint
from trajcast_ase.dynamics.rollout import Checkpoints, Limits, roll_out
from trajcast_ase.dynamics.same_run import ChangedRunWarning
from trajcast_ase.files import sole_writer
from trajcast_ase.models.model_file import save_model
from trajcast_ase.testing import Ballistic


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with a small network and a structure without velocities."""
    monkeypatch.chdir(tmp_path)
    save_model(small_model("thermal", torch.float32, n_layers=1), "tiny.trajcast")
    ase.io.write("ethanol.xyz", molecule("CH3CH2OH"))


THERMOSTATS = ("langevin+csvr", "adaptive")


def settings(out, *more, steps=12):
    return (
        *("run", "ethanol.xyz", "--model", "tiny.trajcast", "--temperature", 300),
        *("--interval", 2, "--seed", 3, "--steps", steps, "--out", out, *more),
    )


def files(out):
    found = [*Path(out).parent.glob(f"{out}*.traj"), *Path().glob(f"{out}*.log")]
    return {file.name.removeprefix(out): file.read_bytes() for file in found}


@pytest.mark.parametrize("thermostat", THERMOSTATS)
@pytest.mark.parametrize(
    "options",
    [(), ("--replicas", 2), ("--engine", "device", "--replicas", 2)],
)
def test_the_same_command_goes_on(thermostat, options):
    more = ("--thermostat", thermostat, *options)
    call(*settings("whole", *more))
    call(*settings("parts", *more, steps=6))
    stdout, _ = call(*settings("parts", *more, "--restart"))
    assert "going on after stride 6" in stdout
    assert files("whole") == files("parts")
    stdout, _ = call(*settings("parts", *more, "--restart"))
    assert "going on after stride 12" in stdout
    assert files("whole") == files("parts")
    message = error_of(*settings("parts", *more, "--restart", steps=6))
    assert "12 strides are made already" in message
    assert files("whole") == files("parts")


def test_restart_begins_where_there_is_nothing():
    stdout, _ = call(*settings("a", "--restart"))
    assert "going on" not in stdout
    assert len(ase.io.read("a.traj", ":")) == 7
    assert read_checkpoint(Path("a.checkpoint"))[0].nsteps == 12


def test_existing_files_name_the_ways_out():
    call(*settings("a"))
    before = files("a")
    message = error_of(*settings("a"))
    assert message.endswith("or --restart to go on from a checkpoint")
    Path("a.traj").unlink()
    Path("a.log").unlink()
    assert error_of(*settings("a")).startswith("a.checkpoint exists")
    call(*settings("a", "--overwrite"))
    assert files("a") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--thermostat", "langevin"), "written with thermostat"),
        (("--temperature", 310), "written with thermostat"),
        (("--replicas", 2), "a-00.traj"),
    ],
)
def test_other_settings_do_not_go_on(change, message):
    call(*settings("a"))
    before = files("a")
    if change[0] == "--replicas":
        call(*settings("a", *change, "--restart"))  # other files: a new run
        assert Path(message).exists()
    else:
        assert message in error_of(*settings("a", *change, "--restart"))
    assert before.items() <= files("a").items()


def test_another_start_does_not_go_on():
    call(*settings("a"))
    ase.io.write("ethanol.xyz", molecule("CH3OH"))
    message = error_of(*settings("a", "--restart"))
    assert message.startswith("a.checkpoint is of C2OH6, but the start is COH4")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_in_order(monkeypatch, number):
    call(*settings("whole"))
    finish = TrajCast.run

    def warned(self, steps):
        finish(self, min(steps, 3))
        if self.nsteps == 3:
            os.kill(os.getpid(), number)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(TrajCast, "run", warned)
        patch.setattr("trajcast_ase.dynamics.rollout._next_leap", lambda *_: 2)
        stdout, _ = call(*settings("a"), status=128 + number)
    assert f"ended by signal {int(number)} at stride 3 of 12" in stdout
    assert read_checkpoint(Path("a.checkpoint"))[0].nsteps == 3
    call(*settings("a", "--restart"))
    assert files("a") == files("whole")


@pytest.mark.parametrize("options", [(), ("--replicas", 2)])
def test_a_signal_while_files_are_opened_ends_a_run_in_order(monkeypatch, options):
    call(*settings("whole", *options))
    open_log = TrajCast._open_log

    def interrupted(*args, **kwargs):
        if not signals:
            signals.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        open_log(*args, **kwargs)

    signals = []
    with monkeypatch.context() as patch:
        patch.setattr(TrajCast, "_open_log", interrupted)
        stdout, _ = call(*settings("a", *options), status=130)
    assert "ended by signal 2 at stride 1 of 12" in stdout
    call(*settings("a", *options, "--restart"))
    assert files("a") == files("whole")


def test_a_stop_file_ends_a_run_in_order():
    call(*settings("whole"))
    Path("STOP").touch()
    stdout, _ = call(*settings("a", "--stop-file", "STOP"), status=75)
    assert "ended by the file STOP" in stdout
    assert not Path("STOP").exists()
    call(*settings("a", "--restart"))
    assert files("a") == files("whole")


def test_the_wall_time_ends_a_run_in_order():
    stdout, _ = call(*settings("a", "--max-hours", 0), status=75)
    assert "ended by the limit of 0 s at stride 1 of 12" in stdout
    call(*settings("a", "--restart"))
    assert read_checkpoint(Path("a.checkpoint"))[0].nsteps == 12


def test_two_runs_do_not_write_the_same_files():
    with sole_writer(Path("a.traj")):
        message = error_of(*settings("a"))
        assert message.startswith("a.traj is being written by another process")
        call(*settings("b"))
    call(*settings("a"))
    assert not list(Path().glob(".*.lock"))


def test_a_full_disk_leaves_what_was_written(monkeypatch):
    finish = TrajCast.run

    def full(self, steps):
        if self.nsteps >= 4:
            raise OSError(28, "No space left on device")
        finish(self, min(steps, 2))
        self.checkpoint("a.checkpoint")
        return True

    with monkeypatch.context() as patch:
        patch.setattr(TrajCast, "run", full)
        message = error_of(*settings("a"))
    assert "No space left on device; the last checkpoint" in message
    assert len(ase.io.read("a.traj", ":")) == 3
    call(*settings("a", "--restart"))
    call(*settings("whole"))
    assert files("a") == files("whole")


def test_a_full_disk_keeps_the_checkpoint_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    write, sizes = trajcast_ase.sealed.write_atomically, []

    def full(path, data):
        sizes.append(len(data))
        if len(sizes) > 2 and path.parent == Path():
            raise OSError(28, "No space left on device", str(path))
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(trajcast_ase.sealed, "write_atomically", full)
        patch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
        message = error_of(*settings("a", "--checkpoint-minutes", 0))
    (place,) = (tmp_path / "tmp").glob("*/a.checkpoint")
    assert f"is kept as {place}: make room, 'mv {place} a.checkpoint'" in message
    kept = read_checkpoint(place)[0].nsteps
    assert kept > read_checkpoint(Path("a.checkpoint.previous"))[0].nsteps > 0
    place.rename("a.checkpoint")
    stdout, _ = call(*settings("a", "--restart"))
    assert f"going on after stride {kept}" in stdout
    call(*settings("whole"))
    assert files("a") == files("whole")


def test_another_interval_does_not_go_on():
    call(*settings("a", steps=6))
    before = files("a")
    message = error_of(*settings("a", "--restart", "--interval", 3))
    assert "a.traj was written with loginterval = 2" in message
    message = error_of(*settings("a", "--restart", "--log-interval", 3))
    assert "a.log was written with logfile_interval = 2" in message
    assert files("a") == before


def test_other_guards_are_told():
    call(*settings("a", steps=6))
    with pytest.warns(ChangedRunWarning, match="on_finding = 'warn'"):
        call(*settings("a", "--restart", "--guards", "warn"))


def test_leaps_change_nothing():
    runs = []
    for limits in (Limits(), Limits(wall_s=1e9)):
        atoms = molecule("CH3OH")
        atoms.set_velocities(np.random.default_rng(1).normal(size=(6, 3)) * 0.01)
        dynamics = TrajCast(atoms, Ballistic(7.0))
        assert roll_out(dynamics, 40, limits=limits).exit_status == 0
        runs.append(atoms.positions)
    whole = molecule("CH3OH")
    whole.set_velocities(np.random.default_rng(1).normal(size=(6, 3)) * 0.01)
    TrajCast(whole, Ballistic(7.0)).run(40)
    assert all(np.array_equal(positions, whole.positions) for positions in runs)


def test_an_observer_ends_the_run():
    atoms = molecule("CH3OH")
    atoms.set_velocities(np.random.default_rng(1).normal(size=(6, 3)) * 0.01)
    dynamics = TrajCast(atoms, Ballistic(7.0))

    def stop():
        if dynamics.nsteps == 5:
            dynamics.max_steps = 0

    dynamics.attach(stop)
    ending = roll_out(dynamics, 100)
    assert (dynamics.nsteps, ending.reason) == (5, "")


def test_the_first_stride_is_kept(tmp_path):
    atoms = molecule("CH3OH")
    atoms.set_velocities(np.random.default_rng(1).normal(size=(6, 3)) * 0.01)
    dynamics = TrajCast(atoms, Ballistic(7.0))

    def die():
        if dynamics.nsteps > 1:
            raise KeyboardInterrupt

    dynamics.attach(die)
    with pytest.raises(KeyboardInterrupt):
        roll_out(dynamics, 100, checkpoints=Checkpoints(tmp_path / "a.checkpoint"))
    assert read_checkpoint(tmp_path / "a.checkpoint")[0].nsteps == 1


def test_a_restart_without_a_checkpoint_names_the_way_out():
    call(*settings("whole"))
    call(*settings("a"))
    for file in Path().glob("a.checkpoint*"):
        file.unlink()
    message = error_of(*settings("a", "--restart"))
    assert message.endswith("with --restart for where there is no a.checkpoint")
    call(*settings("a", "--restart", "--overwrite"))
    assert files("a") == files("whole")
