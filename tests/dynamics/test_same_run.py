"""What must be the same when a run goes on, and what is told of instead."""

import warnings

import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from test_checkpoint import csvr, record, start
from test_checkpoint_replicas import record as record_many
from test_checkpoint_replicas import starts

from trajcast_ase import Replicas, TrajCast
from trajcast_ase.dynamics.fallback import ForceFallback
from trajcast_ase.dynamics.file_marks import CheckpointError
from trajcast_ase.dynamics.same_run import ChangedRunWarning
from trajcast_ase.guards import LargestKick
from trajcast_ase.testing import Ballistic
from trajcast_ase.units import FS


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


EVERY = {"loginterval": 2, "logfile_interval": 3}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loginterval": 1, "logfile_interval": 3}, r"run.traj .* loginterval = 2"),
        ({"loginterval": 2}, r"run.log .* logfile_interval = 3"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_other_intervals_are_refused_and_change_nothing(tmp_path, given, message, many):
    path, place = tmp_path / "a.checkpoint", tmp_path / "files"
    place.mkdir()
    kind, systems = (Replicas, starts()) if many else (TrajCast, start())
    outputs = (record_many if many else record)(place)
    with kind(systems, Ballistic(7.0), **outputs, **EVERY) as first:
        first.run(6)
        first.checkpoint(path)
        first.run(3)
    before = files_of(place)
    message = message.replace("run.", r"run-0.") if many else message
    with pytest.raises(CheckpointError, match=message):
        kind.restart(path, Ballistic(7.0), **outputs, **given)
    assert files_of(place) == before
    with kind.restart(path, Ballistic(7.0), **outputs, **EVERY) as again:
        again.run(3)
    assert files_of(place) == before


def test_a_new_file_may_have_another_interval(tmp_path):
    path = tmp_path / "a.checkpoint"
    with TrajCast(start(), Ballistic(7.0), **record(tmp_path)) as first:
        first.checkpoint(path)
    (tmp_path / "run.traj").unlink()
    outputs = {"trajectory": str(tmp_path / "run.traj"), "loginterval": 5}
    with TrajCast.restart(path, Ballistic(7.0), **outputs) as again:
        again.run(1)


def kept(tmp_path, **given):
    path = tmp_path / "a.checkpoint"
    TrajCast(start(), Ballistic(7.0), **given).checkpoint(path)
    return path


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"on_finding": "warn"}, r"on_finding = 'warn' \(was 'stop'\)"),
        ({"guards": [LargestKick(limit=7.0)]}, r"LargestKick = .*7\.0.*was.*10\.0"),
        ({"guards": ()}, "LargestKick = None"),
        ({"calculator": LennardJones()}, "calculator = 'LennardJones'"),
        (
            {"calculator": LennardJones(), "fallback": ForceFallback(0.5 * FS)},
            "fallback = 0.0",
        ),
    ],
)
def test_other_circumstances_are_told(tmp_path, given, named):
    path = kept(tmp_path)
    with pytest.warns(ChangedRunWarning, match=named):
        TrajCast.restart(path, Ballistic(7.0), **given)


def test_another_number_of_threads_is_told(tmp_path):
    path, before = kept(tmp_path), torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with pytest.warns(ChangedRunWarning, match=f"threads = {before + 1}"):
            TrajCast.restart(path, Ballistic(7.0))
    finally:
        torch.set_num_threads(before)


def test_another_batch_is_told_once(tmp_path):
    path = tmp_path / "a.checkpoint"
    Replicas(starts(4), Ballistic(7.0)).checkpoint(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Replicas.restart(path, Ballistic(7.0), batch_atoms=45)
    assert [str(one.message).split(":")[0] for one in caught] == [
        "the run goes on with batch = 2 (was 4)"
    ]


@pytest.mark.parametrize("many", [False, True])
def test_a_restart_makes_one_driver_of_each_system(tmp_path, monkeypatch, many):
    path, made = tmp_path / "a.checkpoint", []
    kind, systems = (Replicas, starts(3)) if many else (TrajCast, start())
    thermostat = csvr if many else csvr(np.random.default_rng(1))
    kind(systems, Ballistic(7.0), thermostat=thermostat).checkpoint(path)
    begin = TrajCast.__init__

    def counted(self, *args, **given):
        made.append(self)
        begin(self, *args, **given)

    monkeypatch.setattr(TrajCast, "__init__", counted)
    kind.restart(path, Ballistic(7.0), thermostat=thermostat)
    assert len(made) == (3 if many else 1)


def test_a_restart_leaves_evidence_beside_its_trajectory(tmp_path):
    path = kept(tmp_path)
    outputs = {"trajectory": str(tmp_path / "more.traj")}
    with TrajCast.restart(path, Ballistic(7.0), **outputs) as again:
        assert again._guarding.evidence == tmp_path / "more.evidence.extxyz"
