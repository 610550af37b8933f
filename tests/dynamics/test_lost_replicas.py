"""Replicas that stop or fail while the others go on, and steps that are undone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.io import Trajectory
from driver_helpers import snapshot, water
from helpers import by_either_engine, small_model

from trajcast_ase import (
    CSVR,
    AdaptiveLangevin,
    ForecastNoise,
    Langevin,
    LinearRamp,
    Replicas,
    TrajCast,
)
from trajcast_ase.conservation import Conservation
from trajcast_ase.dynamics.losses import LostReplicasError, LostReplicaWarning
from trajcast_ase.state import State
from trajcast_ase.streams import Streams
from trajcast_ase.stride import ForecastModel
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.noise import ResidualCovariance

STRIDE = 5.0
COVARIANCES = dict.fromkeys("HO", ResidualCovariance(1e-8, 1e-10, 1e-10))


def noise(rng: Streams) -> ForecastNoise:
    return ForecastNoise(COVARIANCES, rng)


def baths(rng: Streams) -> list[AdaptiveLangevin | CSVR]:
    """Return thermostats with every kind of variable."""
    adaptive = AdaptiveLangevin(300.0, 0.01 / units.fs, 100 * units.fs, rng)
    return [adaptive, CSVR(300.0, 50 * units.fs, rng)]


def csvr(rng: Streams) -> CSVR:
    return CSVR(300.0, 50 * units.fs, rng)


def waters(number: int = 3) -> list[Atoms]:
    return [water(seed) for seed in range(number)]


class RawForecast(NamedTuple):
    call: int
    state: State
    moved: torch.Tensor
    changed: torch.Tensor


@dataclass
class Disturbed:
    """A model whose raw forecasts are spoilt where a function says so."""

    model: ForecastModel
    spoil: Callable[[RawForecast], None]
    calls: int = 0

    def __getattr__(self, name):
        if name.startswith("__"):  # a copy asks before it has a model
            raise AttributeError(name)
        return getattr(self.model, name)

    def to(self, device):
        return replace(self, model=self.model.to(device))

    def raw_forecast(self, state):
        self.calls += 1
        moved, changed = (one.clone() for one in self.model.raw_forecast(state))
        self.spoil(RawForecast(self.calls, state, moved, changed))
        return moved, changed


def nan_at_third(at):
    """Spoil system 1 of the batch at its third stride."""
    if at.call == 3:
        at.moved[at.state.system_index == 1] = torch.nan


def everything(replicas: Replicas) -> list[object]:
    """Return all that a run depends on, for comparison to the last bit."""
    parts = [(snapshot(one.atoms), one.nsteps) for one in replicas]
    for driver in replicas:
        if driver.noise is not None:
            parts.append(str(driver.noise.streams.states()))
        for bath in driver.thermostats:
            parts.append(str(bath.streams.states()))
            parts += [getattr(bath, name).tolist() for name in bath.variables]
    return parts


def of_one(replicas: Replicas, place: int) -> list[object]:
    """Return all that the run of one replica depends on."""
    driver = replicas[place]
    baths = driver.thermostats
    return [
        snapshot(driver.atoms),
        driver.nsteps,
        driver.transferred_energy,
        [str(bath.streams.states()[place]) for bath in baths],
        [
            getattr(bath, name)[place].tolist()
            for bath in baths
            for name in bath.variables
        ],
    ]


@by_either_engine
@pytest.mark.parametrize("stopped", [0, 1, 2])
def test_an_observer_ends_the_run_of_its_own_replica(stopped, tmp_path):
    with Replicas(
        waters(),
        Ballistic(STRIDE),
        trajectory=str(tmp_path / "{replica}.traj"),
    ) as replicas:
        one = replicas[stopped]
        one.attach(lambda: one.nsteps == 3 and setattr(one, "max_steps", 0))
        assert replicas.run(6)
    expected = [3 if k == stopped else 6 for k in range(3)]
    assert [driver.nsteps for driver in replicas] == expected
    assert replicas.lost == ()
    for k, number in enumerate(expected):
        with Trajectory(tmp_path / f"{k}.traj") as frames:
            assert len(frames) == number + 1


@by_either_engine
def test_after_a_stop_each_goes_on_from_where_it_is():
    def heated(rng: Streams) -> list[Langevin | CSVR]:
        ramp = LinearRamp(100.0, 900.0, 60.0 * units.fs)
        return [Langevin(ramp, 0.02 / units.fs, rng), CSVR(ramp, 20 * units.fs, rng)]

    replicas = Replicas(waters(), Ballistic(STRIDE), thermostat=heated, seed=3)
    middle = replicas[1]
    middle.attach(lambda: middle.nsteps == 4 and setattr(middle, "max_steps", 0))
    replicas.run(7)
    replicas.run(5)
    assert [driver.nsteps for driver in replicas] == [12, 9, 12]
    for k, steps in enumerate([12, 9, 12]):
        alone = Replicas(
            [water(k)],
            Ballistic(STRIDE),
            thermostat=heated,
            seed=3,
            first_replica=k,
        )
        alone.run(steps)
        for name in ("positions", "momenta"):
            np.testing.assert_allclose(
                replicas[k].atoms.arrays[name], alone[0].atoms.arrays[name], atol=1e-12
            )
        given = replicas[k].transferred_energy
        assert given == pytest.approx(alone[0].transferred_energy, abs=1e-12)


@pytest.mark.parametrize("batch_atoms", [3, 1000])
def test_a_failure_of_nobody_is_undone_and_the_run_goes_on(batch_atoms):
    def fail(at):
        if at.call == 8:
            raise MemoryError("full")

    arguments = {
        "thermostat": baths,
        "noise": noise,
        "seed": 5,
        "batch_atoms": batch_atoms,
    }
    model = Disturbed(Ballistic(STRIDE), fail)
    disturbed = Replicas(waters(), model, **arguments)
    steady = Replicas(waters(), Ballistic(STRIDE), **arguments)
    with pytest.raises(MemoryError, match="full"):
        disturbed.run(12)
    made = disturbed.nsteps
    assert made == (2 if batch_atoms == 3 else 7)
    steady.run(made)
    assert everything(disturbed) == everything(steady)
    disturbed.run(4)
    steady.run(4)
    assert everything(disturbed) == everything(steady)
    assert disturbed.lost == ()


@pytest.mark.parametrize("source", ["forecast", "thermostat"])
def test_a_step_of_one_driver_that_fails_is_undone(source):
    class Overheats(CSVR):
        factor = 1.0

        def apply(self, motion, time, timestep):
            after = super().apply(motion, time, timestep)
            return after.changed(self.factor * after.state.velocities)

    def spoil(at):
        if source == "forecast" and at.call == 4:
            at.moved[0] = torch.nan

    def made(model):
        rng = np.random.default_rng(2)
        atoms = water()
        bath = Overheats(300.0, 50 * units.fs, rng)
        return TrajCast(atoms, model, thermostat=bath, noise=noise(rng)), bath, rng

    steady, _, expected = made(Ballistic(STRIDE))
    steady.run(6)
    disturbed, bath, rng = made(Disturbed(Ballistic(STRIDE), spoil))
    disturbed.run(3)
    if source == "thermostat":
        bath.factor = float("inf")
    with pytest.raises(RuntimeError, match=f"the {source} of step 4 is not finite"):
        disturbed.run(3)
    bath.factor = 1.0
    disturbed.run(3)
    assert snapshot(disturbed.atoms) == snapshot(steady.atoms)
    assert disturbed.transferred_energy == steady.transferred_energy
    assert rng.bit_generator.state == expected.bit_generator.state


@pytest.mark.parametrize("network", [False, True])
def test_the_others_do_not_notice_that_one_is_lost(network, tmp_path):
    calm = small_model("thermal", torch.float64, n_layers=1) if network else None
    model = calm or Ballistic(STRIDE)
    arguments = {"thermostat": baths, "noise": noise, "seed": 1}
    steady = Replicas(waters(), model, **arguments)
    steady.run(2)
    last_good = of_one(steady, 1)
    steady.run(6)
    replicas = Replicas(
        waters(),
        Disturbed(model, nan_at_third),
        trajectory=str(tmp_path / "{replica}.traj"),
        logfile=str(tmp_path / "{replica}.log"),
        **arguments,
    )
    with pytest.warns(LostReplicaWarning, match="replica 1 is lost after stride 2"):
        replicas.run(8)
    assert of_one(replicas, 1) == last_good
    for place in (0, 2):
        assert of_one(replicas, place) == of_one(steady, place)
    (lost,) = replicas.lost
    assert (lost.number, lost.stride) == (1, 2)
    assert "the forecast of step 3 is not finite for atom 0 (O)" in lost.reason
    replicas.run(1)  # without the lost one, and without another warning
    assert [driver.nsteps for driver in replicas] == [9, 2, 9]
    with Trajectory(tmp_path / "1.traj") as frames:
        assert len(frames) == 3
        np.testing.assert_array_equal(frames[-1].positions, replicas[1].atoms.positions)
    assert len((tmp_path / "1.log").read_text().splitlines()) == 4
    replicas.close()
    with pytest.raises(LostReplicasError, match="1 of 3 replicas is lost: replica 1"):
        replicas.raise_if_lost()


def test_several_batches_and_numbers():
    def spoil(at):
        if at.call == 5:  # the second stride of the second batch
            at.moved[:] = torch.nan

    replicas = Replicas(
        waters(),
        Disturbed(Ballistic(STRIDE), spoil),
        thermostat=baths,
        first_replica=7,
        batch_atoms=3,
    )
    with pytest.warns(LostReplicaWarning, match="replica 8 is lost after stride 1"):
        replicas.run(4)
    assert [driver.nsteps for driver in replicas] == [4, 1, 4]
    assert replicas.nsteps == 4


def test_a_forecast_that_raises_for_one_loses_that_one():
    def spoil(at):
        if bool((at.state.positions.abs() > 3.0).any()):
            raise ValueError("too far away")

    steady = Replicas(waters(), Ballistic(STRIDE), thermostat=baths, noise=noise)
    steady.run(8)
    replicas = Replicas(
        waters(), Disturbed(Ballistic(STRIDE), spoil), thermostat=baths, noise=noise
    )

    def push_away():
        if replicas[2].nsteps == 4:
            replicas[2].atoms.positions += 5.0

    replicas[2].attach(push_away)
    with pytest.warns(LostReplicaWarning, match="replica 2 .* stride 4.*too far away"):
        replicas.run(8)
    for place in (0, 1):
        assert of_one(replicas, place) == of_one(steady, place)


def test_a_first_forecast_that_raises_names_the_replica():
    def spoil(at):
        if bool((at.state.positions.abs() > 3.0).any()):
            raise ValueError("too far away")

    starts = waters()
    starts[1].positions += 5.0
    replicas = Replicas(starts, Disturbed(Ballistic(STRIDE), spoil))
    with pytest.raises(RuntimeError, match=r"replica 1: its first forecast fails .too"):
        replicas.run(2)
    assert replicas.nsteps == 0


def test_velocities_that_vanish_lose_one():
    def stop(at):
        if at.call == 3:
            at.changed[at.state.system_index == 0] = 0.0

    model = replace(Ballistic(STRIDE), conservation=Conservation(angular=False))
    replicas = Replicas(waters(2), Disturbed(model, stop), thermostat=csvr)
    with pytest.warns(LostReplicaWarning, match=r"replica 0 .* stride 2.*cannot be"):
        replicas.run(5)
    alone = Replicas([water(1)], model, thermostat=csvr, first_replica=1)
    alone.run(5)
    np.testing.assert_allclose(
        replicas[1].atoms.positions, alone[0].atoms.positions, rtol=0, atol=1e-12
    )


@by_either_engine
def test_an_edit_that_cannot_be_forecast_loses_one():
    replicas = Replicas(waters(2), Ballistic(STRIDE), thermostat=csvr)
    first = replicas[0]
    good = []

    def edit():
        if first.nsteps == 3:
            good.append(snapshot(first.atoms))
            first.atoms.positions[1] = np.nan

    first.attach(edit)
    with pytest.warns(LostReplicaWarning, match="replica 0 .* stride 3.*not finite"):
        replicas.run(5)
    assert [driver.nsteps for driver in replicas] == [3, 5]
    assert snapshot(first.atoms) == good[0]
    replicas[1].atoms.positions[0] = np.nan  # between runs: the user is there
    with pytest.raises(ValueError, match="replica 1: positions of row 0"):
        replicas.run(1)
    assert len(replicas.lost) == 1


@by_either_engine
def test_an_observer_that_raises_loses_its_replica():
    replicas = Replicas(waters(2), Ballistic(STRIDE))

    def broken():
        if replicas[1].nsteps == 2:
            raise KeyError("bond")

    replicas[1].attach(broken)
    with pytest.warns(LostReplicaWarning, match="replica 1 is lost after stride 2"):
        replicas.run(5)
    assert isinstance(replicas.lost[0].error, KeyError)
    assert [driver.nsteps for driver in replicas] == [5, 2]


def test_all_lost_is_an_error(tmp_path):
    def spoil(at):
        if at.call == 2:
            at.moved[0] = torch.nan
        if at.call == 4:
            at.moved[-1] = torch.nan

    replicas = Replicas(
        waters(2),
        Disturbed(Ballistic(STRIDE), spoil),
        trajectory=str(tmp_path / "{replica}.traj"),
    )
    with (
        pytest.warns(LostReplicaWarning, match="replica 0"),
        pytest.raises(
            LostReplicasError, match=r"all 2 rep.* 0 after stride 1 .* 1 aft"
        ),
    ):
        replicas.run(9)
    assert [driver.nsteps for driver in replicas] == [1, 3]
    with pytest.raises(LostReplicasError, match="all 2 replicas"):
        replicas.run(1)
    for number, frames in ((0, 2), (1, 4)):
        with Trajectory(tmp_path / f"{number}.traj") as trajectory:
            assert len(trajectory) == frames


def test_observers_of_all_replicas_come_last_and_outlive_a_lost_one():
    replicas = Replicas(waters(2), Disturbed(Ballistic(STRIDE), nan_at_third))
    seen = []
    replicas.attach(lambda name: seen.append((name, replicas.nsteps)), 2, "all")
    replicas[0].attach(lambda: seen.append(replicas[0].nsteps), interval=4)
    with pytest.warns(LostReplicaWarning):
        replicas.run(6)
    assert seen == [0, ("all", 0), ("all", 2), 4, ("all", 4), ("all", 6)]
    with pytest.raises(ValueError, match="interval = 0 must be a whole number"):
        replicas.attach(print, 0)
