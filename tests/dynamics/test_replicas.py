"""Replicas in one batch against each of them alone."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.io import Trajectory, read
from driver_helpers import water
from helpers import by_either_engine, small_model

from trajcast_ase import CSVR, ForecastNoise, Langevin, Replicas, TrajCast
from trajcast_ase.dynamics.losses import of_replica
from trajcast_ase.dynamics.replica_arguments import batches
from trajcast_ase.streams import Streams
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.noise import ResidualCovariance

STRIDE = 5.0


@pytest.fixture(scope="module")
def model():
    return small_model("thermal", torch.float64, n_layers=1)


def csvr(rng: Streams) -> CSVR:
    return CSVR(300.0, 50 * units.fs, rng)


def systems() -> list[Atoms]:
    """Return molecules and a crystal of different sizes."""
    boxed = water(3)
    boxed.set_cell([9.0, 9.0, 9.0])
    boxed.set_pbc(True)
    pair = water(1)
    pair += water(2)
    pair.positions[3:] += 4.0
    return [water(0), pair, boxed]


def ends(replicas: Replicas) -> list[np.ndarray]:
    return [
        np.concatenate([one.atoms.positions, one.atoms.get_velocities()])
        for one in replicas
    ]


@by_either_engine
@pytest.mark.parametrize("batch_atoms", [1, 7, 1000])
def test_batch_moves_as_each_alone(model, batch_atoms):
    replicas = Replicas(
        systems(), model, thermostat=csvr, seed=4, batch_atoms=batch_atoms
    )
    assert replicas.run(12)
    for number, (atoms, together) in enumerate(
        zip(systems(), ends(replicas), strict=True)
    ):
        alone = Replicas([atoms], model, thermostat=csvr, seed=4, first_replica=number)
        alone.run(12)
        np.testing.assert_allclose(together, ends(alone)[0], rtol=0, atol=1e-9)


@by_either_engine
def test_without_random_numbers_a_replica_is_a_driver(model):
    replicas = Replicas(systems(), model)
    replicas.run(8)
    for atoms, together in zip(systems(), ends(replicas), strict=True):
        with TrajCast(atoms, model) as driver:
            driver.run(8)
        alone = np.concatenate([atoms.positions, atoms.get_velocities()])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-10)


@by_either_engine
def test_streams_differ_between_replicas_and_purposes():
    drawn = []
    covariances = dict.fromkeys("HO", ResidualCovariance(1e-6, 0.0, 1e-8))

    def langevin(rng: Streams) -> Langevin:
        drawn.extend(rng.normals(2).tolist())
        return Langevin(300.0, 0.01 / units.fs, rng)

    def noise(rng: Streams) -> ForecastNoise:
        drawn.extend(rng.normals(2).tolist())
        return ForecastNoise(covariances, rng)

    same = [water(0), water(0)]
    replicas = Replicas(same, Ballistic(STRIDE), thermostat=langevin, noise=noise)
    assert len(set(drawn)) == 4
    replicas.run(3)
    first, second = ends(replicas)
    assert not np.allclose(first, second, atol=1e-4)


@by_either_engine
def test_noise_of_a_replica_does_not_depend_on_the_others():
    covariances = dict.fromkeys("HO", ResidualCovariance(1e-6, 1e-8, 1e-8))

    def noise(rng: Streams) -> ForecastNoise:
        return ForecastNoise(covariances, rng)

    both = Replicas([water(0), water(1)], Ballistic(STRIDE), noise=noise, seed=2)
    both.run(5)
    second = Replicas(
        [water(1)], Ballistic(STRIDE), noise=noise, seed=2, first_replica=1
    )
    second.run(5)
    np.testing.assert_allclose(ends(both)[1], ends(second)[0], rtol=0, atol=1e-12)


@by_either_engine
def test_each_replica_has_files_and_observers_of_its_own(tmp_path):
    seen = []
    with Replicas(
        systems(),
        Ballistic(STRIDE),
        trajectory=str(tmp_path / "run-{replica:02d}.traj"),
        logfile=str(tmp_path / "run-{replica:02d}.log"),
        loginterval=2,
        first_replica=5,
    ) as replicas:
        replicas[1].attach(lambda: seen.append(replicas.nsteps), interval=3)
        replicas.run(4)
        replicas.run(2)
    assert seen == [0, 3, 6]
    for number, atoms in enumerate(systems(), 5):
        with Trajectory(tmp_path / f"run-{number:02d}.traj") as trajectory:
            assert [len(frame) for frame in trajectory] == [len(atoms)] * 4
        log = (tmp_path / f"run-{number:02d}.log").read_text().splitlines()
        assert len(log) == 5
        last = read(tmp_path / f"run-{number:02d}.traj")
        np.testing.assert_array_equal(
            last.positions, replicas[number - 5].atoms.positions
        )


@by_either_engine
@by_either_engine
def test_a_copy_goes_on_by_itself():
    model = Ballistic(5.0)
    systems = [water(seed) for seed in (1, 2)]
    replicas = Replicas(systems, model)
    replicas.run(1)
    twin = copy.deepcopy(replicas)
    for one in (replicas, twin):
        one.run(2)
    for mine, its in zip(replicas, twin, strict=True):
        assert mine.atoms is not its.atoms
        np.testing.assert_array_equal(mine.atoms.positions, its.atoms.positions)


def test_edits_between_runs_count():
    replicas = Replicas([water(0), water(1)], Ballistic(STRIDE))
    replicas.run(2)
    replicas[0].atoms.set_momenta(np.zeros((3, 3)) + 1e-9)
    before = replicas[0].atoms.get_positions()
    replicas.run(2)
    np.testing.assert_allclose(replicas[0].atoms.get_positions(), before, atol=1e-6)
    assert not np.allclose(replicas[1].atoms.get_positions(), before, atol=1e-3)


def test_batches_hold_at_most_the_limit():
    assert batches([3, 3, 3, 10, 1], 6) == [
        range(2),
        range(2, 3),
        range(3, 4),
        range(4, 5),
    ]


def test_bad_input_is_refused(model):
    with pytest.raises(ValueError, match="at least one Atoms"):
        Replicas([], model)
    with pytest.raises(ValueError, match="at least one Atoms"):
        Replicas(water(0), model)
    one = water(0)
    with pytest.raises(ValueError, match="stands twice"):
        Replicas([one, one], model)
    with pytest.raises(ValueError, match=r"'a\.traj' is the same for every replica"):
        Replicas([water(0)], model, trajectory="a.traj")
    with pytest.raises(TypeError, match="has no random numbers for each replica"):
        Replicas([water(0)], model, thermostat=[CSVR(300.0, 1.0)])
    with pytest.raises(ValueError, match="batch_atoms = 0"):
        Replicas([water(0)], model, batch_atoms=0)
    with pytest.raises(ValueError, match="replica 1: "):
        Replicas([water(0), Atoms("Xe", momenta=[[1, 0, 0]])], model)


def test_an_error_of_any_class_gets_its_replica_number():
    odd = UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")
    named = of_replica(odd, 3)
    assert type(named) is ValueError
    assert str(named).startswith("replica 3: 'utf-8' codec")
