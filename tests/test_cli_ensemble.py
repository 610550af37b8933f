"""``trajcast ensemble`` and the ensembles of ``trajcast validate``, in threads."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from helpers import small_model
from test_cli import call, error_of

from trajcast_ase.cli.thermostat import Bath, ThermostatName, setting_of_choice
from trajcast_ase.dynamics.losses import LostReplicaWarning
from trajcast_ase.ensemble import read_ensemble
from trajcast_ase.ensemble import share as share_module
from trajcast_ase.ensemble.folder import Folder, read_plan
from trajcast_ase.models.model_file import load_model, save_model


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.trajcast"
    save_model(small_model("thermal", torch.float32, n_layers=1), path)
    return path


@pytest.fixture(autouse=True)
def workplace(model_file, tmp_path, monkeypatch):
    """Work in a folder with a small network, with threads for processes."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.trajcast").write_bytes(model_file.read_bytes())
    ase.io.write("ethanol.xyz", molecule("CH3CH2OH"))

    def threads(_address, workers):
        return lambda: ThreadPoolExecutor(workers)

    monkeypatch.setattr("trajcast_ase.cli.ensemble._pool", threads)


def settings(out, *more, strides=8, kelvin="250,300"):
    return (
        *("ensemble", "tiny.trajcast", "ethanol.xyz", "--temperature", kelvin),
        *("--picoseconds", strides * 0.007, "--replicas", 2, "--seed", 3),
        *("--interval", 2, "--workers", 2, "--out", out, *more),
    )


def files(out):
    found = [*Path(out).glob("*K/*"), *Path(out).glob("ensemble.*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in found}


def test_an_ensemble():
    stdout, _ = call(*settings("many", "--skip", 0.014))
    assert "tiny: 4 replicas in 2 shares, 250, 300 K, 8 strides of 7 fs" in stdout
    assert "standard error" in stdout
    assert "wrote many/ensemble.{csv,json}" in stdout
    summary = json.loads(Path("many/ensemble.json").read_text())
    assert summary["skip_ps"] == 0.014
    assert [one["frames"] for one in summary["replicas"]] == [4] * 4
    assert summary["replicas"][0]["start"] == "ethanol.xyz"
    before = files("many")
    call(*settings("many", "--skip", 0.014))
    assert files("many") == before


def test_an_ensemble_on_a_device():
    call(*settings("many", "--engine", "device", "--backend", "reference"))
    assert read_plan(Folder(Path("many"))).engine == "device"
    said = error_of(*settings("many"))
    assert "engine = 'device', but 'host' was asked for" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_order(monkeypatch, number):
    call(*settings("whole", strides=16))
    say, sent = share_module._Beat.__call__, []

    def warned(beat, strides):
        say(beat, strides)
        if strides >= 4 and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(share_module._Beat, "__call__", warned)
        patch.setattr("trajcast_ase.dynamics.rollout._next_leap", lambda *_: 2)
        stdout, _ = call(*settings("parts", strides=4000), status=128 + number)
    assert f"ended by signal {int(number)}; the same command again goes on" in stdout
    assert not list(Path("parts/shares").glob("*.end"))
    assert list(Path("parts/shares").glob("*.checkpoint"))


def test_limits_end_in_order():
    stdout, _ = call(*settings("many", "--max-hours", 0), status=75)
    assert "ended by the limit of 0 s" in stdout
    Path("STOP").touch()
    stdout, _ = call(*settings("many", "--stop-file", "STOP"), status=75)
    assert "ended by the file STOP" in stdout
    call(*settings("many"))
    call(*settings("whole"))
    assert files("many") == files("whole")


def test_bad_input():
    assert "is no list of numbers" in error_of(*settings("a", kelvin="280;300"))
    assert "must be positive" in error_of(*settings("a", strides=-1))
    message = error_of(*settings("a", "--taut", 50))
    assert "--taut 50 is of --thermostat csvr" in message
    assert not Path("a").exists()
    Path("a").mkdir()
    Path("a/else").touch()
    assert error_of(*settings("a")).startswith("a holds else and no plan.json")
    call(*settings("b"))
    message = error_of(*settings("b", "--thermostat", "csvr"))
    assert "the folder holds an ensemble with thermostat" in message


def test_choices_are_the_thermostats_of_a_run():
    network = load_model("tiny.trajcast")
    both = Bath(ThermostatName.LANGEVIN_CSVR, None, taut=50.0, friction=0.001)
    assert str(setting_of_choice(both, network)) == "Langevin 1000 fs, CSVR 50 fs"
    alone = Bath(ThermostatName.LANGEVIN, None)
    assert str(setting_of_choice(alone, network)) == "Langevin 100 fs"
    adaptive = Bath(ThermostatName.ADAPTIVE, None)
    found = str(setting_of_choice(adaptive, network))
    assert found == "AdaptiveLangevin 2000/1000 fs"
    assert setting_of_choice(Bath(ThermostatName.NONE, None), network) is None
    with pytest.raises(ValueError, match="--friction 0 must be positive"):
        setting_of_choice(Bath(ThermostatName.LANGEVIN, None, friction=0.0), network)


def fail_first(monkeypatch):
    """Let the second replica of each ensemble fail."""

    class Failing(share_module.Replicas):
        def run(self, steps):
            if self.first_replica == 0 and self.nsteps == 0:
                self[1].attach(lambda: 1 / 0)
            return super().run(steps)

    monkeypatch.setattr(share_module, "Replicas", Failing)


def test_lost_replicas_are_named(monkeypatch):
    fail_first(monkeypatch)
    with pytest.warns(LostReplicaWarning):
        stdout, _ = call(*settings("many"), status=1)
    assert "replica 1 is lost after stride 0: division by zero" in stdout


def test_ensembles_are_validated(monkeypatch):
    call(*settings("two", strides=4))
    result, read, judged = read_ensemble("two"), [], []

    def noted(path, *, temperature_K, **_others):
        read.append((path, temperature_K))
        return path

    monkeypatch.setattr("trajcast_ase.validation.inputs.read_run", noted)
    monkeypatch.setattr(
        "trajcast_ase.cli.validate._judge", lambda *a, **_: judged.append(a)
    )
    reference = ("--reference", "water")
    call("validate", "two", "--temperature", 300, *reference)
    expected = [one.trajectory for one in result.replicas if one.temperature_K == 300]
    assert read == [(path, 300.0) for path in expected]
    assert judged[0][0] == expected
    read.clear()
    call(*settings("one", kelvin="250", strides=4))
    call("validate", "one", "more.traj", *reference)
    assert [kelvin for _, kelvin in read] == [250.0, 250.0, None]


@pytest.mark.slow
def test_an_ensemble_is_validated_to_its_report():
    more = ("--interval", 1, "--thermostat", "csvr")
    call(*settings("many", *more, strides=810, kelvin="300"))
    # Beside one of its own replicas, which nothing may tell from them.
    reference = ("--reference", "many/300K/replica-0001.traj")
    stdout, _ = call("validate", "many", *reference, "--out", "report")
    assert "11.2 ps in 2 runs (8 pieces of 1.4 ps)" in " ".join(stdout.split())
    assert "rows pass; wrote report/report" in " ".join(stdout.split())
    assert Path("report/report.md").read_text().count("| pass |") > 5


def test_ensembles_that_cannot_be_validated():
    call(*settings("two", strides=4))
    reference = ("--reference", "water")
    message = error_of("validate", "two", *reference)
    assert "holds replicas at 250, 300 K" in message
    message = error_of("validate", "two", "--temperature", 310, *reference)
    assert "its temperatures are 250, 300 K" in message
    Path("empty").mkdir()
    message = error_of("validate", "empty", *reference)
    assert message.startswith("empty holds no ensemble")


def test_lost_replicas_are_left_out_of_a_validation(monkeypatch):
    fail_first(monkeypatch)
    with pytest.warns(LostReplicaWarning):
        call(*settings("many", "--batch", 2, kelvin="300"), status=1)
    monkeypatch.setattr("trajcast_ase.cli.validate._judge", lambda *_a, **_: None)
    read = []
    monkeypatch.setattr(
        "trajcast_ase.validation.inputs.read_run", lambda path, **_: read.append(path)
    )
    stdout, _ = call("validate", "many", "--reference", "water")
    assert stdout == "replica 1 is lost and left out: division by zero\n"
    assert [path.name for path in read] == ["replica-0000.traj"]


def test_several_starts():
    ase.io.write("other.xyz", molecule("CH3CH2OH"))
    rng = np.random.default_rng(1)
    moved = molecule("CH3CH2OH")
    moved.rattle(0.01, rng=rng)
    ase.io.write("other.xyz", moved)
    call(
        *("ensemble", "tiny.trajcast", "ethanol.xyz", "other.xyz"),
        *("--temperature", 300, "--picoseconds", 0.028, "--out", "many"),
        *("--replicas", 2, "--interval", 1, "--workers", 1),
    )
    result = read_ensemble("many")
    names = [one.start for one in result.replicas]
    assert names == ["ethanol.xyz"] * 2 + ["other.xyz"] * 2
    assert read_plan(Folder(Path("many"))).strides == 4
    first = [ase.io.read(one.trajectory, 0).positions for one in result.replicas]
    assert np.array_equal(first[0], first[1])
    assert np.allclose(first[2], moved.positions, atol=1e-6)
