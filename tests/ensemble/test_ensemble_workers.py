"""Ensembles on worker processes, some of which are killed: dask's, and a pool's."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from ase.io import write
from helpers import small_model
from test_cli import call, error_of

from trajcast_ase.dynamics.checkpoint import read_checkpoint
from trajcast_ase.dynamics.rollout import Limits
from trajcast_ase.ensemble import EnsembleError, UnfinishedError, engine, ensemble
from trajcast_ase.ensemble.dask_pool import local_workers, workers_at
from trajcast_ase.ensemble.share import _Beat
from trajcast_ase.models.model_file import save_model

STRIDES = 40
SETTINGS = {
    "temperatures_K": [250.0, 300.0],
    "strides": STRIDES,
    "replicas": 2,
    "batch": 1,
    "interval": 2,
    "seed": 5,
    "checkpoint_minutes": 0.0,  # one after each leap
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.trajcast"
    save_model(small_model("thermal", torch.float32, n_layers=1), path)
    return path


@pytest.fixture(scope="module")
def undisturbed(model_file, tmp_path_factory):
    """Return the files of an ensemble that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "whole"
    with ThreadPoolExecutor(2) as executor:
        ensemble(molecule("CH3OH"), model_file, folder, executor=executor, **SETTINGS)
    return files(folder)


def files(folder):
    found = [*folder.glob("*K/*"), *folder.glob("ensemble.*")]
    assert found
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def make_mortal(marker):
    """Let this process be killed once, in the middle of the first share."""
    say = _Beat.__call__

    def mortal(beat, strides):
        say(beat, strides)
        first = beat._path.name == "share-0000.progress"
        if first and strides == STRIDES // 2 and not Path(marker).exists():
            kept = read_checkpoint(beat._path.with_suffix(".checkpoint"))
            Path(marker).write_text(f"{os.getpid()} {kept[0].nsteps}")
            os.kill(os.getpid(), signal.SIGKILL)

    _Beat.__call__ = mortal


@pytest.fixture(scope="module")
def workers():
    """Return two worker processes of dask."""
    pytest.importorskip("distributed")
    with local_workers(2) as executor:
        yield executor


def test_a_killed_worker_loses_nothing(workers, model_file, undisturbed, tmp_path):
    marker, folder = tmp_path / "killed", tmp_path / "disturbed"
    before = workers._client.run(os.getpid)
    workers._client.run(make_mortal, str(marker))
    result = ensemble(
        molecule("CH3OH"), model_file, folder, executor=workers, **SETTINGS
    )
    killed, kept = map(int, marker.read_text().split())
    assert killed in before.values()
    assert 0 < kept < STRIDES // 2  # frames after the checkpoint are cut off
    assert result.lost == ()
    assert files(folder) == undisturbed


def test_the_command_uses_a_cluster_that_runs(
    workers, model_file, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write("methanol.traj", molecule("CH3OH"))
    address = workers._client.scheduler.address
    stdout, _ = call(
        *("ensemble", model_file, "methanol.traj", "--temperature", "250,300"),
        *("--picoseconds", STRIDES * 0.007, "--replicas", 2, "--batch", 1),
        *("--interval", 2, "--seed", 5, "--address", address, "--out", "there"),
    )
    assert "4 replicas in 4 shares, 250, 300 K, 40 strides of 7 fs" in stdout
    assert "wrote there/ensemble.{csv,json}" in stdout
    theirs = files(Path("there"))
    for name in undisturbed:
        if name.endswith((".traj", ".log")):
            assert theirs[name] == undisturbed[name]


def test_nobody_at_the_address():
    pytest.importorskip("distributed")
    with pytest.raises(ConnectionError, match="no scheduler of dask answers"):
        workers_at("tcp://127.0.0.1:1", wait_s=0.5).__enter__()


@pytest.mark.slow
def test_a_pool_of_processes_is_replaced(model_file, undisturbed, tmp_path):
    marker, folder = tmp_path / "killed", tmp_path / "disturbed"
    pool = partial(
        ProcessPoolExecutor,
        2,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=make_mortal,
        initargs=(str(marker),),
    )
    ensemble(molecule("CH3OH"), model_file, folder, executor=pool, **SETTINGS)
    assert marker.exists()
    assert files(folder) == undisturbed


def forking():
    return ProcessPoolExecutor(1, multiprocessing.get_context("fork"))


@pytest.mark.parametrize("make", [lambda: forking, forking])
def test_a_pool_that_forks_is_refused(make, model_file, tmp_path):
    folder = tmp_path / "many"
    with pytest.raises(EnsembleError, match=r"forks .*; give mp_context=.*spawn"):
        ensemble(molecule("CH3OH"), model_file, folder, executor=make(), **SETTINGS)
    assert not folder.exists()


def test_a_pool_that_forks_does_not_go_on(model_file, tmp_path):
    folder, limits = tmp_path / "many", Limits(wall_s=0.0)
    with ThreadPoolExecutor(1) as threads, pytest.raises(UnfinishedError):
        ensemble(
            *(molecule("CH3OH"), model_file, folder),
            **(SETTINGS | {"executor": threads, "limits": limits}),
        )
    with pytest.raises(EnsembleError, match="the executor forks"):
        ensemble(molecule("CH3OH"), model_file, folder, executor=forking, **SETTINGS)


def test_workers_that_hang_do_not_outlive_a_stop(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "STOP_S", -1.0)
    made, hang_s = [], 60.0

    def hanging():
        context = multiprocessing.get_context("spawn")
        made.append(ProcessPoolExecutor(1, context, time.sleep, (hang_s,)))
        return made[-1]

    begun = time.monotonic()
    with pytest.raises(UnfinishedError, match=r"the limit of 0\.1 s"):
        ensemble(
            *(molecule("CH3OH"), model_file, tmp_path / "many"),
            **(SETTINGS | {"executor": hanging, "limits": Limits(wall_s=0.1)}),
        )
    assert len(made) == 1
    assert time.monotonic() - begun < hang_s / 2


def test_workers_or_an_address(tmp_path):
    write(tmp_path / "a.xyz", molecule("CH3OH"))
    message = error_of(
        *("ensemble", "paracetamol-7fs", tmp_path / "a.xyz", "--temperature", 300),
        *("--picoseconds", 1, "--out", tmp_path / "b", "--workers", 2),
        *("--address", "tcp://127.0.0.1:1"),
    )
    assert message == "--workers starts workers, --address uses some; give one"
