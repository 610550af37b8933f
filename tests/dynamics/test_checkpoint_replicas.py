import numpy as np
import pytest
from ase.io import Trajectory
from helpers import by_either_engine
from test_checkpoint import adaptive, noise, start

from trajcast_ase import Replicas, TrajCast
from trajcast_ase.dynamics.checkpoint import read_checkpoint
from trajcast_ase.dynamics.file_marks import CheckpointError
from trajcast_ase.dynamics.losses import LostReplicaWarning
from trajcast_ase.testing import Ballistic

N = 12
GIVEN = {"thermostat": adaptive, "noise": noise}


def record(folder):
    folder.mkdir(exist_ok=True)
    return {
        "trajectory": f"{folder}/run-{{replica}}.traj",
        "logfile": f"{folder}/run-{{replica}}.log",
    }


def files(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.glob("run-*"))}


def starts(count=3):
    systems = [start() for _ in range(count)]
    for k, atoms in enumerate(systems):
        atoms.positions += k
    return systems


@by_either_engine
@pytest.mark.parametrize("k", [0, 1, N - 1])
def test_continued_replicas_are_the_uninterrupted_ones(tmp_path, k):
    one, two, path = tmp_path / "one", tmp_path / "two", tmp_path / "run.checkpoint"
    options = GIVEN | {"seed": 4, "first_replica": 7}
    with Replicas(starts(), Ballistic(7.0), **options, **record(one)) as whole:
        whole.run(N)
    with Replicas(starts(), Ballistic(7.0), **options, **record(two)) as first:
        first.run(k)
        first.checkpoint(path)
        first.run(min(2, N - k))
    with Replicas.restart(path, Ballistic(7.0), **GIVEN, **record(two)) as again:
        assert (again.nsteps, again.first_replica) == (k, 7)
        again.run(N - k)
    assert files(one) == files(two)


class FailsLate(Ballistic):
    """Free flight that fails for atoms beyond 50 Å."""

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        displacements[state.positions[:, 0] > 50] = float("nan")
        return displacements, velocities


@by_either_engine
def test_lost_replicas_stay_lost(tmp_path):
    path = tmp_path / "run.checkpoint"
    replicas = Replicas(starts(), FailsLate(7.0), **GIVEN, **record(tmp_path / "a"))
    with replicas:
        replicas.run(2)
        replicas[1].atoms.positions += 60
        with pytest.warns(LostReplicaWarning, match="replica 1"):
            replicas.run(2)
        replicas.checkpoint(path)
    assert [run.nsteps for run in read_checkpoint(path)] == [4, 2, 4]
    again = Replicas.restart(path, FailsLate(7.0), **GIVEN, **record(tmp_path / "a"))
    with again:
        assert [one.number for one in again.lost] == [1]
        assert "not finite" in again.lost[0].reason
        again.run(3)
    assert [driver.nsteps for driver in again] == [7, 2, 7]
    lengths = []
    for k in range(3):
        with Trajectory(tmp_path / "a" / f"run-{k}.traj") as frames:
            lengths.append(len(frames))
    assert lengths == [8, 3, 8]


def test_one_run_is_no_replicas(tmp_path):
    path = tmp_path / "run.checkpoint"
    Replicas(starts(), Ballistic(7.0)).checkpoint(path)
    with pytest.raises(CheckpointError, match=r"3 replicas; use Replicas\.restart"):
        TrajCast.restart(path, Ballistic(7.0))


@by_either_engine
def test_checkpoints_as_an_observer(tmp_path):
    path = tmp_path / "run.checkpoint"
    replicas = Replicas(starts(), Ballistic(7.0))
    replicas.attach(replicas.checkpoint, 2, path)
    replicas.run(5)
    assert {run.nsteps for run in read_checkpoint(path)} == {4}
    assert np.all([run.lost is None for run in read_checkpoint(path)])
