from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import Trajectory
from helpers import kinetic_energy, small_model
from rich.console import Console
from typer.testing import CliRunner

import trajcast_ase
from trajcast_ase import Forecaster, Replicas, load_model, save_model
from trajcast_ase.cli import app
from trajcast_ase.conservation import Conservation, angular_momentum
from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.losses import LostReplicaWarning
from trajcast_ase.guards.reversal import reversal_limits
from trajcast_ase.kinetics import degrees_of_freedom, temperature
from trajcast_ase.models import published
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network.backend import BackendError
from trajcast_ase.network.cpu.build import find_compiler
from trajcast_ase.progress import RolloutProgress, TrainingProgress
from trajcast_ase.state import state_from_atoms
from trajcast_ase.units import KB
from trajcast_ase.validation.inputs import stated_temperature

COMMANDS = (
    "run",
    "ensemble",
    "new",
    "train",
    "evaluate",
    "validate",
    "inspect",
    "import",
    "models",
    "demo",
    "recommend",
)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Return the file of a small network with random weights."""
    path = tmp_path_factory.mktemp("model") / "tiny.trajcast"
    network = small_model("thermal", torch.float32, n_layers=1)
    training = {"pairs": 7, "runs": [{"seed": 1}, {"seed": 2}], "seeds": [1, 2]}
    save_model(network, path, metadata={"licence": "CC0-1.0", "training": training})
    return path


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a structure file without velocities, in the working directory."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("ethanol.xyz", molecule("CH3CH2OH"))
    return "ethanol.xyz"


def call(*arguments, status=0):
    """Return standard output and error of a command that ends with `status`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def write_moving(start, name):
    """Return the structure of a file with velocities, which are written to another."""
    atoms = ase.io.read(start)
    draw_momenta(atoms, 250.0, np.random.default_rng(1))
    ase.io.write(name, atoms)
    return atoms


def error_of(*arguments, status=1):
    """Return the one line with which a command fails."""
    stdout, stderr = call(*arguments, status=status)
    assert stderr.count("\n") == 1
    assert stderr.startswith("error: ")
    assert "Traceback" not in stdout + stderr
    return stderr.removeprefix("error: ").strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    stdout, _ = call(command, "--help")
    assert f"Example: trajcast {command}" in stdout


def test_without_a_command_the_help_lists_all():
    stdout, _ = call()
    for command in COMMANDS:
        assert command in stdout


def test_version():
    stdout, _ = call("--version")
    assert stdout.startswith("trajcast-ase ")


def test_the_backend_of_a_run_can_be_chosen(model_file, start):
    options = ("--model", model_file, "--temperature", 300, "--steps", 2, "--seed", 3)
    call("run", start, *options, "--backend", "reference", "--out", "one")
    call("run", start, *options, "--out", "two")
    one, two = (ase.io.read(f"{name}.traj").positions for name in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=1e-4)
    message = error_of("run", start, *options, "--backend", "triton", "--out", "three")
    assert "model is on cpu, where the backend 'triton' does not compute" in message


def test_a_backend_that_fails_here_is_one_line(model_file, start, monkeypatch):
    monkeypatch.setattr(
        "trajcast_ase.network.cpu.backend.Cpp.check",
        Mock(side_effect=BackendError("no")),
    )
    message = error_of(
        *("run", start, "--model", model_file, "--temperature", 300, "--steps", 2),
        *("--backend", "cpp"),
    )
    assert message == "--backend cpp: no"


def test_a_mean_temperature_that_is_off_has_the_last_word(model_file, start):
    write_moving(start, "cold.xyz")  # at 250 K, which a slow thermostat leaves
    stdout, _ = call(
        *("run", "cold.xyz", "--model", model_file, "--temperature", 500),
        *("--thermostat", "csvr", "--taut", 1e5, "--steps", 5, "--seed", 3),
    )
    *_, before, last = " ".join(stdout.split()).split("warning: ")
    assert last.startswith("1 of 1 mean temperatures are more than")
    assert "mean temperature" in before
    assert stdout.rstrip().endswith("does not know these states")


def test_run_writes_trajectory_and_log(model_file, start):
    stdout, _ = call(
        *("run", start, "--model", model_file, "--temperature", 300, "--steps", 20),
        *("--interval", 5, "--seed", 3, "--out", "runs/first"),
    )
    frames = ase.io.read("runs/first.traj", index=":")
    assert len(frames) == 5
    rows = np.loadtxt("runs/first.log", skiprows=1)
    assert np.allclose(rows[:, 0], np.arange(5) * 5 * 7e-3, atol=1e-4)
    assert np.isnan(rows[:, 1]).all()
    rule = Conservation()
    mean = np.mean([temperature(frame, rule) for frame in frames])
    assert "velocities drawn at 300 K: ethanol.xyz has none" in stdout
    assert f"mean temperature {mean:.1f} K over 21 degrees of freedom" in stdout
    assert "0.14 ps at" in stdout
    assert "ns/day" in stdout
    assert "wrote runs/first.traj, runs/first.log" in stdout


def test_run_repeats_with_its_seed(model_file, start):
    settings = ("--model", model_file, "--temperature", 300, "--steps", 6)
    positions = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        call("run", start, *settings, "--seed", seed, "--out", name, "--interval", 3)
        positions.append(ase.io.read(f"{name}.traj").positions)
    assert np.array_equal(positions[0], positions[1])
    assert not np.array_equal(positions[0], positions[2])


def test_run_keeps_the_velocities_of_the_file(model_file, start):
    atoms = write_moving(start, "moving.traj")
    stdout, _ = call(
        *("run", "moving.traj", "--model", model_file, "--steps", 1),
        *("--thermostat", "none", "--interval", 1),
    )
    first = ase.io.read("moving-md.traj", index=0)
    assert np.array_equal(first.get_momenta(), atoms.get_momenta())
    assert "drawn" not in stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--thermostat", "csvr"), {"name": "CSVR", "taut_fs": 70.0}),
        (("--thermostat", "csvr", "--taut", 50), {"name": "CSVR", "taut_fs": 50.0}),
        (
            ("--thermostat", "langevin", "--friction", 0.02),
            {"name": "Langevin", "friction_fs": 0.02},
        ),
        (
            ("--thermostat", "adaptive", "--response", 500),
            {"name": "AdaptiveLangevin", "taut_fs": 500.0},
        ),
        ((), {"name": "CSVR", "taut_fs": 70.0}),
        (("--thermostat", "none"), None),
    ],
)
def test_thermostat_settings_reach_the_trajectory(model_file, start, options, expected):
    call(
        *("run", start, "--model", model_file, "--temperature", 310, "--steps", 1),
        *options,
    )
    with ase.io.trajectory.Trajectory("ethanol-md.traj") as frames:
        found = frames.description.get("thermostat")
    if expected is None:
        assert found is None
        return
    assert found["name"] == expected["name"]
    assert found["temperature_K"] == 310
    if "taut_fs" in expected:
        assert found["taut"] / ase.units.fs == pytest.approx(expected["taut_fs"])
    else:
        assert found["friction"] * ase.units.fs == pytest.approx(
            expected["friction_fs"]
        )


def test_the_models_thermostats_are_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paracetamol().write("start.xyz")
    settings = ("--model", "paracetamol-7fs", "--temperature", 310, "--steps", 1)
    for way, options in (("alone", ()), ("batch", ("--replicas", 2))):
        stdout, _ = call("run", "start.xyz", *settings, "--out", way, *options)
        line = (
            "thermostat Langevin 5000 fs, CSVR 70 fs (recommended by the model), seed"
        )
        assert line in stdout
    for name in ("alone.traj", "batch-01.traj"):
        with ase.io.trajectory.Trajectory(name) as frames:
            langevin, csvr = frames.description["thermostat"]
        assert langevin["friction"] * ase.units.fs == pytest.approx(1 / 5000)
        assert csvr["taut"] / ase.units.fs == pytest.approx(70)
        assert stated_temperature(Path(name)) == 310


def test_a_choice_of_two_thermostats(model_file, start):
    options = ("--thermostat", "langevin+csvr", "--friction", 0.001, "--taut", 50)
    settings = ("--model", model_file, "--temperature", 310, "--steps", 1)
    stdout, _ = call("run", start, *settings, *options)
    assert "thermostat langevin+csvr, seed" in stdout
    with ase.io.trajectory.Trajectory("ethanol-md.traj") as frames:
        names = [one["name"] for one in frames.description["thermostat"]]
    assert names == ["Langevin", "CSVR"]


def test_without_a_recommendation_the_papers_thermostat_runs(model_file, start):
    settings = ("--model", model_file, "--temperature", 310, "--steps", 1)
    stdout, _ = call("run", start, *settings)
    assert "thermostat CSVR 70 fs (the paper's; the model recommends none)" in stdout


def test_recommend_writes_the_model_anew(model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--langevin", 1000, "--csvr", 60, "--chosen-by", "a test")
    stdout, _ = call("recommend", model_file, *options, "--out", "new.trajcast")
    assert stdout == "wrote new.trajcast: thermostat Langevin 1000 fs, CSVR 60 fs\n"
    stdout, _ = call("inspect", "new.trajcast")
    rows = dict(line.split(maxsplit=1) for line in stdout.splitlines())
    assert rows["thermostat"] == "Langevin 1000 fs, CSVR 60 fs"
    assert rows["thermostat.chosen_by"] == "a test"
    assert rows["name"] == "new"
    message = error_of("recommend", model_file, *options, "--out", "new.trajcast")
    assert message.startswith("new.trajcast exists; choose another --out")
    message = error_of("recommend", model_file, "--csvr", -1, "--out", "b.trajcast")
    assert message.startswith("time_constant_fs = -1.0 of the thermostat CSVR must be")
    call("recommend", "new.trajcast", "--out", "new.trajcast", "--overwrite")
    stdout, _ = call("inspect", "new.trajcast")
    assert re.search(r"^thermostat +none$", stdout, re.MULTILINE)


def test_run_in_float64(model_file, start):
    settings = ("--model", model_file, "--temperature", 300, "--steps", 1)
    settings = (*settings, "--seed", 1, "--interval", 1)
    call("run", start, *settings, "--out", "single")
    call("run", start, *settings, "--out", "double", "--dtype", "float64")
    single, double = (ase.io.read(f"{name}.traj") for name in ("single", "double"))
    assert not np.array_equal(single.positions, double.positions)
    assert np.allclose(single.positions, double.positions, rtol=0, atol=1e-4)


def test_run_never_replaces_files_unasked(model_file, start):
    settings = ("--model", model_file, "--temperature", 300, "--steps", 1)
    call("run", start, *settings)
    before = Path("ethanol-md.traj").read_bytes()
    message = error_of("run", start, *settings)
    assert message.startswith("ethanol-md.traj exists; choose another --out")
    assert Path("ethanol-md.traj").read_bytes() == before
    call("run", start, *settings, "--overwrite")
    assert Path("ethanol-md.log").read_text().count("Time[ps]") == 1


def test_run_never_replaces_its_start(model_file, start):
    ase.io.write("x.traj", ase.io.read(start))
    settings = ("--model", model_file, "--temperature", 300, "--steps", 1)
    message = error_of("run", "x.traj", *settings, "--out", "x", "--overwrite")
    assert message.startswith("x.traj exists")


def test_interrupted_run_leaves_readable_files(model_file, start, monkeypatch):
    finish = TrajCast.run

    def interrupted(self, _steps):
        finish(self, 4)
        raise KeyboardInterrupt  # as the second signal does

    monkeypatch.setattr(TrajCast, "run", interrupted)
    settings = ("--model", model_file, "--temperature", 300, "--steps", 8)
    stdout, _ = call("run", start, *settings, "--interval", 2, status=130)
    assert "interrupted after 4 strides" in stdout
    assert len(ase.io.read("ethanol-md.traj", index=":")) == 3
    assert len(np.loadtxt("ethanol-md.log", skiprows=1)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nix.xyz", "--temperature", 300), "there is no file nix.xyz"),
        (("ethanol.xyz",), "thermostat recommended needs --temperature"),
        (
            ("ethanol.xyz", "--thermostat", "none"),
            "a start without velocities needs --temperature",
        ),
        (("ethanol.xyz", "--temperature", "-3"), "--temperature -3 must be positive"),
        (("ethanol.xyz", "--temperature", "nan"), "--temperature nan must be"),
        (
            (
                *("ethanol.xyz", "--temperature", 300),
                *("--thermostat", "langevin", "--taut", 70),
            ),
            r"--taut 70 is of --thermostat csvr or .* or langevin\+molecular, but the",
        ),
        (
            ("ethanol.xyz", "--temperature", 300, "--friction", 0.1),
            r"--friction 0\.1 is of --thermostat langevin or langevin\+csvr or",
        ),
        (
            (
                *("ethanol.xyz", "--temperature", 300),
                *("--thermostat", "langevin+csvr", "--response", 500),
            ),
            "--response 500 is of --thermostat adaptive, but the thermostat is",
        ),
        (
            (
                *("ethanol.xyz", "--temperature", 300),
                *("--thermostat", "adaptive", "--response", 0),
            ),
            r"taut = 0\.0 must be positive",
        ),
        (
            (
                *("ethanol.xyz", "--temperature", 300),
                *("--thermostat", "csvr", "--taut", "-1"),
            ),
            r"taut = -0\.09\d* must be zero or positive",
        ),
        (("broken.xyz", "--temperature", 300), "broken.xyz cannot be read as a"),
        (("empty.xyz", "--temperature", 300), "empty.xyz"),
        (("argon.xyz", "--temperature", 300), "element Ar .* unknown to this model"),
        (("nan.xyz", "--temperature", 300), "positions of row 1 are not finite"),
        (
            ("ethanol.xyz", "--temperature", 300, "--device", "abacus"),
            "unknown device 'abacus'",
        ),
    ],
)
def test_bad_starts_end_in_one_line(model_file, start, arguments, message):
    assert Path(start).exists()
    Path("broken.xyz").write_text("3\n\nC 0 0\n")
    Path("empty.xyz").write_text("0\n\n")
    Path("argon.xyz").write_text("1\n\nAr 0 0 0\n")
    Path("nan.xyz").write_text("2\n\nC 0 0 0\nO nan 0 1\n")
    text = error_of("run", *arguments, "--model", model_file, "--steps", 1)
    assert re.match(message, text), text
    assert not list(Path().glob("*-md.*"))


def test_run_from_a_frame_with_an_energy(model_file, start):
    atoms = ase.io.read(start)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    ase.io.write("energy.traj", atoms)
    settings = ("--model", model_file, "--temperature", 300, "--steps", 4)
    call("run", "energy.traj", *settings, "--interval", 2)
    assert np.isnan(np.loadtxt("energy-md.log", skiprows=1)[:, 1]).all()


def test_velocities_are_drawn_anew_on_request(model_file, start):
    write_moving(start, "moving.traj")
    stdout, _ = call(
        *("run", "moving.traj", "--model", model_file, "--temperature", 300),
        *("--steps", 1, "--draw-velocities"),
    )
    first = ase.io.read("moving-md.traj", index=0)
    assert "velocities drawn at 300 K\n" in stdout
    assert not np.allclose(
        first.get_momenta(), ase.io.read("moving.traj").get_momenta()
    )
    message = error_of(
        *("run", "moving.traj", "--model", model_file, "--steps", 1, "--out", "b"),
        *("--thermostat", "none", "--draw-velocities"),
    )
    assert message == "--draw-velocities needs --temperature, in K"


def test_replicas_write_files_of_their_own(model_file, start):
    stdout, _ = call(
        *("run", start, "--model", model_file, "--temperature", 300, "--steps", 20),
        *("--interval", 5, "--seed", 3, "--out", "runs/{first}", "--replicas", 3),
    )
    rule, means, starts = Conservation(), [], []
    for number in range(3):
        frames = ase.io.read(f"runs/{{first}}-0{number}.traj", index=":")
        assert len(frames) == 5
        rows = np.loadtxt(f"runs/{{first}}-0{number}.log", skiprows=1)
        assert np.allclose(rows[:, 0], np.arange(5) * 5 * 7e-3, atol=1e-4)
        starts.append(frames[0])
        means.append(np.mean([temperature(frame, rule) for frame in frames]))
    assert len(list(Path("runs").iterdir())) == 8  # and two checkpoints
    assert np.array_equal(starts[0].positions, starts[1].positions)
    assert not np.allclose(starts[0].get_momenta(), starts[1].get_momenta())
    assert "tiny: 3 replicas of 9 atoms, 20 strides of 7 fs" in stdout
    assert "velocities drawn at 300 K: ethanol.xyz has none" in stdout
    assert re.search(r"^20/20 .* ns/day in all$", stdout, re.MULTILINE)
    assert re.search(r"^3 x 0\.14 ps at [0-9.]+ ns/day in all; ", stdout, re.MULTILINE)
    spread = f"({min(means):.1f} to {max(means):.1f} K) over 21 degrees of freedom each"
    assert f"mean temperature {np.mean(means):.1f} K {spread}" in stdout
    last = "runs/{first}-02.traj, runs/{first}-02.log"
    assert f"wrote runs/{{first}}-00.traj, runs/{{first}}-00.log to {last}" in stdout


@pytest.mark.parametrize(
    "options",
    [("--thermostat", "csvr"), ("--thermostat", "langevin"), ("--noise",)],
    ids=" ".join,
)
def test_a_replica_alone_moves_as_in_its_batch(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    paracetamol().write("start.xyz")
    settings = ("run", "start.xyz", "--model", "paracetamol-7fs", "--steps", 6)
    settings += ("--temperature", 300, "--dtype", "float64", "--seed", 11, "--interval")
    settings += (3, *options)
    call(*settings, "--replicas", 8, "--out", "batch")
    call(*settings, "--replicas", 1, "--first-replica", 5, "--out", "alone")
    ends = {path.stem: ase.io.read(path) for path in Path().glob("*.traj")}
    assert len(ends) == 9
    alone = ends["alone-05"]
    for found, expected in (
        (ends["batch-05"].positions, alone.positions),
        (ends["batch-05"].get_velocities(), alone.get_velocities()),
    ):
        assert np.allclose(found, expected, rtol=0, atol=1e-9)
    assert not np.allclose(ends["batch-04"].positions, alone.positions, atol=1e-3)


def test_replicas_keep_the_velocities_of_the_file(model_file, start):
    momenta = write_moving(start, "moving.traj").get_momenta()
    stdout, _ = call(
        *("run", "moving.traj", "--model", model_file, "--steps", 5, "--interval", 5),
        *("--temperature", 300, "--thermostat", "langevin", "--replicas", 2),
    )
    assert "all replicas start with the velocities of moving.traj" in stdout
    first, second = (ase.io.read(f"moving-md-0{k}.traj", index=":") for k in range(2))
    for frames in (first, second):
        assert np.array_equal(frames[0].get_momenta(), momenta)
    assert not np.allclose(first[1].get_momenta(), second[1].get_momenta())


def test_replicas_that_cannot_be_are_refused(model_file, start):
    write_moving(start, "x-01.traj")
    settings = ("--model", model_file, "--steps", 1)
    message = error_of(
        "run", "x-01.traj", *settings, "--thermostat", "none", "--replicas", 4
    )
    assert message.startswith("--replicas 4 from the velocities of the start with")
    assert "pass --draw-velocities, --noise or a thermostat" in message
    message = error_of("run", start, *settings, "--first-replica", 4)
    assert message.startswith("--first-replica 4 numbers the replicas of --replicas")
    message = error_of("run", start, *settings, "--replicas", 0, status=2)
    assert message.startswith("Invalid value for '--replicas'")
    settings += ("--temperature", 300, "--replicas", 2, "--out", "x")
    assert error_of("run", start, *settings).startswith("x-01.traj exists; choose")
    message = error_of("run", "x-01.traj", *settings, "--overwrite")
    assert message.startswith("x-01.traj exists; choose")
    assert [path.name for path in Path().glob("x-*")] == ["x-01.traj"]
    call("run", start, *settings, "--overwrite")


def test_wrong_settings_touch_no_file(model_file, start):
    settings = ("--model", model_file, "--temperature", 300, "--steps", 1)
    call("run", start, *settings, "--replicas", 2)
    before = Path("ethanol-md-01.log").read_bytes()
    settings += ("--replicas", 2, "--overwrite")
    wrong = ("--thermostat", "csvr", "--taut", -1)
    assert error_of("run", start, *settings, *wrong).startswith("taut = ")
    message = error_of("run", start, *settings, "--noise")
    assert "carries no residual covariances" in message
    assert Path("ethanol-md-01.log").read_bytes() == before


def test_interrupted_replicas_leave_readable_files(model_file, start, monkeypatch):
    finish = Replicas.run

    def interrupted(self, _steps):
        finish(self, 4)
        raise KeyboardInterrupt  # as the second signal does

    monkeypatch.setattr(Replicas, "run", interrupted)
    settings = ("--model", model_file, "--temperature", 300, "--steps", 8)
    settings += ("--interval", 2, "--replicas", 2)
    stdout, _ = call("run", start, *settings, status=130)
    assert "interrupted after 4 strides" in stdout
    for number in range(2):
        assert len(ase.io.read(f"ethanol-md-0{number}.traj", index=":")) == 3


def test_lost_replicas_are_named_last(model_file, start, monkeypatch):
    forecast, calls = Forecaster.raw_forecast, []

    def spoilt(self, state):
        moved, changed = forecast(self, state)
        calls.append(len(moved))
        if len(calls) == 4:
            moved = torch.where(state.system_index[:, None] == 1, torch.nan, moved)
        return moved, changed

    monkeypatch.setattr(Forecaster, "raw_forecast", spoilt)
    settings = ("--model", model_file, "--temperature", 300, "--steps", 8)
    settings += ("--interval", 2, "--replicas", 2)
    with pytest.warns(LostReplicaWarning, match="replica 1 is lost after stride 3"):
        stdout, stderr = call("run", start, *settings, status=1)
    assert "1 x 0.06 ps at" in stdout
    assert "1 of 2 replicas is lost: replica 1 after stride 3" in stderr
    assert "--debug" not in stderr  # it is no fault of the package
    for number, n_frames in ((0, 5), (1, 2)):
        frames = ase.io.read(f"ethanol-md-0{number}.traj", index=":")
        assert len(frames) == n_frames
        assert len(np.loadtxt(f"ethanol-md-0{number}.log", skiprows=1)) == n_frames


def test_wrong_use_names_the_help(model_file):
    assert error_of("runn", status=2).startswith("No such command 'runn'")
    message = error_of("run", "x.xyz", "--steps", 1, status=2)
    assert message.startswith("Missing option '--model'")
    assert message.endswith("run --help")
    message = error_of(*("run", "x.xyz", "--model", model_file, "--steps", 0), status=2)
    assert message.startswith("Invalid value for '--steps'")


def test_debug_shows_the_traceback(model_file):
    with pytest.raises(ValueError, match="there is no file"):
        CliRunner().invoke(
            app,
            ["--debug", "run", "nix.xyz", "--model", str(model_file), "--steps", "1"],
            catch_exceptions=False,
        )


def test_inspect_prints_the_header(model_file):
    stdout, _ = call("inspect", model_file)
    rows = dict(line.split(None, 1) for line in stdout.splitlines())
    assert rows["name"] == "tiny"
    assert rows["elements"] == "H, C, O"
    assert rows["horizon_fs"] == "7"
    assert rows["training.pairs"] == "7"
    assert rows["training.runs.1.seed"] == "2"
    assert rows["training.seeds"] == "1, 2"
    assert rows["licence"] == "CC0-1.0"
    assert rows["citation"] == "unknown"
    assert rows["config.fixed_angular_momentum"] == "none"
    assert rows["sha256"] == load_model(model_file).content_hash


def test_inspect_needs_no_torch(model_file):
    code = (
        "import sys\n"
        "from trajcast_ase.cli import app\n"
        "try:\n"
        "    app(['inspect', sys.argv[1]])\n"
        "except SystemExit as end:\n"
        "    print('status', end.code)\n"
        "print([name for name in ('torch', 'e3nn', 'ase') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, model_file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["status 0", "[]"]


def test_inspect_refuses_damage(model_file, tmp_path):
    bad = tmp_path / "bad.trajcast"
    bad.write_bytes(model_file.read_bytes()[:-1])
    assert "truncated" in error_of("inspect", bad)
    assert "unknown model 'nix'" in error_of("inspect", "nix")


def test_models_lists_the_bundled_ones(model_file, monkeypatch):
    monkeypatch.setattr(
        "trajcast_ase.cli.models.bundled_models", lambda: {"tiny": model_file}
    )
    stdout, _ = call("models")
    assert stdout.splitlines()[1].split() == [
        *("tiny", "H", "C", "O", "7", "fs"),
        f"{small_model(n_layers=1).n_parameters:,}",
        "CC0-1.0",
    ]
    monkeypatch.setattr("trajcast_ase.cli.models.bundled_models", dict)
    assert call("models")[0] == "no models are bundled with this installation\n"


@pytest.fixture
def training(tmp_path, monkeypatch):
    """Return a short training of vibrating ethanol, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    rest = molecule("CH3CH2OH")
    amplitudes, phases = rng.normal(0, 0.05, (9, 3)), rng.uniform(0, 6, (9, 3))
    frames = []
    for t in np.arange(80) * 7.0:
        angle = 0.05 * t + phases
        frame = rest.copy()
        frame.positions += amplitudes * np.sin(angle)
        velocities = 0.05 * amplitudes * np.cos(angle) / ase.units.fs
        frame.set_velocities(velocities)
        frames.append(frame)
    ase.io.write("md.traj", frames)
    Path("short.toml").write_text(
        """
        [data]
        train = ["md.traj"]
        horizon_fs = 7.0
        stride_fs = 7.0
        [network]
        cutoff = 3.0
        n_channels = 4
        lmax = 1
        n_layers = 1
        edge_mlp = [4]
        velocity_mlp = [4]
        [optimizer]
        steps = 6
        warmup_steps = 2
        batch_size = 2
        [run]
        name = "short"
        directory = "out"
        threads = 1
        validate_every = 3
        log_every = 2
        """
    )
    return "short.toml"


def test_train_then_evaluate(training):
    stdout, _ = call("train", training)
    lines = stdout.splitlines()
    assert lines[0] == "reading 1 trajectories"
    assert re.fullmatch(
        r"9 atoms, \d+ pairs to train on and 8 held out; \d+ parameters", lines[1]
    )
    assert re.fullmatch(
        r"6 steps of 2 pairs, [\d.]+ ms each on cpu \(threads: 1\): about 0:00:\d\d",
        lines[2],
    )
    assert lines[3].startswith("1/6  loss ")  # at once
    assert any(line.startswith("step 3: validation displacement ") for line in lines)
    assert any(line.startswith("6/6  loss ") for line in lines)
    assert lines[-1] == "wrote out/short.trajcast"
    model = load_model("out/short.trajcast")
    assert model.header.training["steps"] == 6
    stdout, _ = call(
        *("evaluate", "out/short.trajcast", "md.traj", "--stride", 7, "--max-pairs", 40)
    )
    assert "no limits of going back from 40 pairs" in stdout
    lines = filter(str.strip, stdout.splitlines())
    rows = {line.split()[0]: line.split()[1:] for line in list(lines)[:5]}
    assert "40" in rows
    assert set(rows) >= {"all", "H", "C", "O"}
    weighted = sum(
        count * float(rows[symbol][0])
        for symbol, count in (("H", 6), ("C", 2), ("O", 1))
    )
    assert float(rows["all"][0]) == pytest.approx(weighted / 9, rel=1e-3)


def test_evaluation_in_full(training):
    call("train", training)
    frames = ase.io.read("md.traj", ":60")
    for frame in frames:
        frame.positions += 1e-6
    ase.io.write("twin.traj", frames)
    stdout, _ = call(
        *("evaluate", "out/short.trajcast", "md.traj", "--stride", 7, "--strides", 6),
        *("--twin", "twin.traj", "--out", "report", "--write-model", "new.trajcast"),
    )
    assert "twins: Å" in stdout
    for suffix in ("png", "pdf"):
        assert Path(f"report/evaluation.{suffix}").stat().st_size > 1000
    found = json.loads(Path("report/evaluation.json").read_text("utf-8"))
    assert found["growth"]["time_fs"] == [7.0, 14.0, 21.0, 28.0, 35.0, 42.0]
    apart = found["divergence_of_twins"]["displacement_A"]
    np.testing.assert_allclose(apart, 1e-6, rtol=1e-3)
    model = load_model("new.trajcast")
    assert model.header.errors == found["errors"]
    assert model.header.training == load_model("out/short.trajcast").header.training
    stdout, _ = call(
        *("run", "md.traj", "--model", "new.trajcast", "--steps", 3, "--noise"),
        *("--temperature", 12.5, "--out", "noisy"),
    )
    assert "calibrated noise" in stdout
    with Trajectory("noisy.traj") as trajectory:
        assert set(trajectory.description["noise"]) == {"H", "C", "O"}


def test_evaluation_measures_what_going_back_misses(training):
    call("train", training)
    stdout, _ = call(
        *("evaluate", "out/short.trajcast", "md.traj", "md.traj", "--stride", 7),
        *("--strides", 0, "--write-model", "new.trajcast", "--out", "report"),
    )
    assert "limits for 9 atoms at one false alarm in 1,000,000 looks" in stdout
    limits = reversal_limits("new.trajcast")
    assert limits.n_pairs == 158
    assert limits.n_atoms == 9
    shown = stdout[stdout.index("forth and back") :]
    for symbol, scale in limits.elements.items():
        assert f"{scale.displacement:.3e}" in shown, symbol
    found = json.loads(Path("report/evaluation.json").read_text("utf-8"))
    assert found["errors"] == load_model("new.trajcast").header.errors
    assert found["errors"]["reversal"]["n_pairs"] == 158
    stdout, _ = call("inspect", "new.trajcast")
    assert "errors.reversal.atom.threshold" in stdout


def test_finished_training_resumes_and_restarts(training):
    first = call("train", training)[0]
    resumed = call("train", training)[0]
    assert "step 3:" not in resumed
    assert resumed.splitlines()[-2:] == first.splitlines()[-2:]
    assert call("train", training, "--anew")[0].count("step 3:") == 1


def test_an_interrupted_training_says_how_to_go_on(training, monkeypatch):
    show = TrainingProgress.__call__

    def terminated(progress, step):
        show(progress, step)
        if step.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "__call__", terminated)
        stdout, _ = call("train", training, status=128 + signal.SIGTERM)
    assert "interrupted at step 2 of 6; out/checkpoint.safetensors holds" in stdout
    assert "3/6" not in stdout
    assert call("train", training)[0].splitlines()[-1] == "wrote out/short.trajcast"


def test_bad_training_input_ends_in_one_line(training, model_file):
    text = Path(training).read_text()
    for old, new, message in (
        ("steps = 6", "steps = 0", r"short\.toml: optimizer\.steps: .*greater than 0"),
        ("steps = 6", "stepz = 6", r"short\.toml: optimizer\."),
        ("md.traj", "other.traj", r"short\.toml: data\.train: other\.traj matches no"),
        ("[data]", "[data", r"short\.toml is not TOML"),
        ("horizon_fs = 7.0", "horizon_fs = 8.0", r"md\.traj.* 8 fs"),
    ):
        Path(training).write_text(text.replace(old, new, 1))
        assert re.match(message, error_of("train", training))
    assert error_of("train", "nix.toml") == "nix.toml: No such file or directory"
    ase.io.write("still.traj", [molecule("CH3CH2OH")] * 3)
    assert "velocities" in error_of("evaluate", model_file, "still.traj", "--stride", 7)
    assert "nix.h5" in error_of("evaluate", model_file, "nix.h5")


def test_evaluation_refuses_what_gives_no_errors(training):
    call("train", training)
    frames = ase.io.read("md.traj", ":")
    for frame in frames:
        frame.set_momenta(np.zeros((9, 3)))
    ase.io.write("still.traj", frames)
    Path("empty.traj").touch()
    for name, message in (("still", "temperature of 0 K"), ("empty", "cannot be read")):
        options = ("out/short.trajcast", f"{name}.traj", "--stride", 7)
        found = error_of("evaluate", *options)
        assert found.startswith(f"{name}.traj")
        assert message in found
    assert "empty.traj" in error_of("validate", "empty.traj", "--reference", "water")


def write_published(network):
    """Write `network` as published files do: config.yaml and state_dict.pt."""
    config, parameters = network.config, dict(network.named_parameters())
    tensors = {
        theirs: parameters[ours].detach().flatten()
        for ours, theirs in published._renamed(network.config)
    }
    rms = torch.tensor([config.displacement_rms, config.velocity_rms]).double()
    tensors["rms_targets"] = rms
    tensors["avg_num_neighbors"] = torch.tensor(config.avg_num_neighbors).double()
    torch.save(tensors, "state_dict.pt")
    options = {
        "num_chem_elements": len(config.elements),
        "edge_cutoff": config.cutoff,
        "num_edge_rbf": config.n_edge_rbf,
        "num_edge_poly_cutoff": config.edge_poly_cutoff,
        "edge_mlp_kwargs": {"n_neurons": list(config.edge_mlp)},
        "num_vel_rbf": config.n_velocity_rbf,
        "vel_max": config.velocity_max,
        "vel_mlp_kwargs": {"n_neurons": list(config.velocity_mlp)},
        "max_rotation_order": config.lmax,
        "num_hidden_channels": config.n_channels,
        "num_mp_layers": config.n_layers,
        "conserve_ang_mom": config.conserve_angular_momentum,
    }
    Path("config.yaml").write_text(json.dumps({"model": options}))


def test_import_published_weights(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # Powers of two: exact in the single precision of the file.
    scales = {"displacement_rms": 2.0**-5, "velocity_rms": 2.0**-8}
    source = small_model("direction", torch.float64, n_layers=1, **scales)
    write_published(source)
    arguments = ("import", "config.yaml", "state_dict.pt", "--elements", "H, C,O")
    arguments = (*arguments, "--horizon", 7, "--out", "x.trajcast")
    stdout, _ = call(*arguments, "--licence", "Apache-2.0")
    assert stdout.startswith("wrote x.trajcast: ")
    model = load_model("x.trajcast")
    for name, parameter in source.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], parameter)
    assert model.config == source.config
    assert model.header.licence == "Apache-2.0"
    assert model.header.training == {"imported_from": ["config.yaml", "state_dict.pt"]}
    assert "x.trajcast exists" in error_of(*arguments)
    call(*arguments, "--overwrite", "--dtype", "float32")
    assert load_model("x.trajcast").dtype == torch.float32


def test_import_names_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.pt").write_bytes(b"nothing")
    Path("c.yaml").write_text("model: {}")
    arguments = ("--elements", "H", "--horizon", 7, "--out", "x.trajcast")
    assert error_of("import", "c.yaml", "s.pt", *arguments).startswith("s.pt")
    assert "nix.pt" in error_of("import", "c.yaml", "nix.pt", *arguments)


def test_demo_passes_its_options_and_fails_on_broken_bonds(monkeypatch):
    calls = []

    def run_demo(out, **options):
        calls.append((out, options))
        return SimpleNamespace(intact=options["seed"] == 1)

    monkeypatch.setattr("trajcast_ase.demo.run_demo", run_demo)
    call("demo", "--out", "here", "--picoseconds", 15)
    call("demo", "--seed", 2, status=1)
    assert calls[0] == (Path("here"), {"picoseconds": 15.0, "seed": 1})
    assert "a report needs at least 14" in " ".join(call("demo", "--help")[0].split())
    assert "'--picoseconds'" in error_of("demo", "--picoseconds", 13.9, status=2)
    assert trajcast_ase.cli.demo.SHORTEST_PS == trajcast_ase.demo.SHORTEST_PS
    assert len(calls) == 2


def test_command_line_as_a_process(start, model_file):
    arguments = ["run", start, "--model", str(model_file), "--temperature", "300"]
    done = subprocess.run(
        [sys.executable, "-m", "trajcast_ase", *arguments, "--steps", "3"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(trajcast_ase.__file__).parents[1])},
    )
    assert "wrote ethanol-md.traj, ethanol-md.log" in done.stdout
    assert "\x1b" not in done.stdout
    if find_compiler() is None:
        assert re.fullmatch("no C\\+\\+ compiler found: .*\n", done.stderr)
    else:
        assert done.stderr == ""


def test_bars_on_a_terminal_and_lines_in_a_pipe(monkeypatch):
    monkeypatch.setattr("trajcast_ase.progress.LINE_INTERVAL_S", 0.0)
    texts = {}
    for terminal in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=120)
        with RolloutProgress(4, 7.0, console=console) as progress:
            for done, kelvin in ((0, 290.0), (2, 310.0), (4, 330.0)):
                progress.update(done, kelvin)
        texts[terminal] = stream.getvalue()
    assert "━" in texts[True]
    assert "\x1b[" in texts[True]
    lines = texts[False].splitlines()
    assert lines[0] == "0/4  0.0 of 0.0 ps  T 290 K, mean 290 K"
    assert lines[1].startswith("2/4  0.0 of 0.0 ps  T 310 K, mean 300 K")
    assert lines[1].endswith("ns/day  0:00:00 left")
    assert lines[2].startswith("4/4  0.0 of 0.0 ps  T 330 K, mean 310 K")
    assert "left" not in lines[2]
    assert "\x1b" not in texts[False]


def test_drawn_momenta_are_canonical_and_at_rest():
    # Mean of K over 300 draws of 27 - 6 degrees of freedom has a standard error of
    # 1.8 %. Four of them: false alarm once in 15 000 runs; 27 would be 29 % too high.
    rng, rule, atoms = np.random.default_rng(8), Conservation(), molecule("CH3CH2OH")
    kinetic = []
    for _ in range(300):
        draw_momenta(atoms, 300.0, rng, rule)
        kinetic.append(kinetic_energy(state_from_atoms(atoms)))
    n_dof = degrees_of_freedom(atoms, rule)
    assert n_dof == 21
    expected = 0.5 * n_dof * KB * 300.0
    assert abs(np.mean(kinetic) / expected - 1) < 4 * np.sqrt(2 / n_dof / 300)
    assert np.abs(atoms.get_momenta().sum(0)).max() < 1e-12
    assert angular_momentum(state_from_atoms(atoms)).abs().max() < 1e-12
