"""Runs on a device: exactness, overflow, failures, how often the host looks."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms, units
from device_helpers import KINDS, TAUT, baths
from driver_helpers import (
    HORIZON,
    crystal,
    draw_momenta,
    snapshot,
    water,
)
from helpers import needs_compiler, small_model

from trajcast_ase.data import paracetamol
from trajcast_ase.device import plans
from trajcast_ase.device.neighbors import Room
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.fallback import SenselessForecastError
from trajcast_ase.dynamics.file_marks import CheckpointError
from trajcast_ase.dynamics.losses import LostReplicasError
from trajcast_ase.dynamics.replicas import Replicas
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.models.model_file import load_model
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.thermostats.schedules import LinearRamp


def on_device(device, **settings):
    """Return a crystal whose strides stay on the device."""
    model, atoms = crystal()
    settings = {"guards": (), "engine": "device"} | settings
    return TrajCast(atoms, model.to(device), **settings)


@pytest.fixture
def molecule_model(device):
    """Return a small network on the device, without guards a run of any length."""
    return small_model("thermal", torch.float64).to(device)


def test_without_thermostats_strides_are_those_of_the_host(molecule_model):
    ours, theirs = water(), water()
    TrajCast(ours, molecule_model, guards=(), engine="device").run(7)
    TrajCast(theirs, molecule_model, guards=()).run(7)
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ours.get_momenta(), theirs.get_momenta(), atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_one_run_is_many_runs(kind, device):
    whole = on_device(device, thermostat=baths(kind))
    whole.run(24)
    parts = on_device(device, thermostat=baths(kind))
    parts.attach(lambda: None, 7)
    for _ in range(3):
        parts.run(1)
    parts.run(16)
    for _ in parts.irun(5):
        pass
    assert snapshot(parts.atoms) == snapshot(whole.atoms)
    assert parts.nsteps == whole.nsteps == 24
    assert parts.transferred_energy == whole.transferred_energy


@pytest.mark.parametrize("kind", KINDS)
def test_restart_continues_bit_for_bit(kind, device, tmp_path):
    ramp = LinearRamp(200.0, 400.0, 25 * HORIZON * units.fs)
    whole = on_device(device, thermostat=baths(kind, ramp))
    whole.run(20)
    first = on_device(device, thermostat=baths(kind, ramp))
    first.run(9)
    first.checkpoint(tmp_path / "run.checkpoint")
    again = TrajCast.restart(
        tmp_path / "run.checkpoint",
        first.model,
        thermostat=baths(kind, ramp, np.random.default_rng(99)),
        guards=(),
        engine="device",
    )
    again.run(11)
    assert snapshot(again.atoms) == snapshot(whole.atoms)
    assert again.transferred_energy == whole.transferred_energy


def test_a_restart_by_the_other_engine_is_refused(device, tmp_path):
    dyn = on_device(device, thermostat=baths("csvr"))
    dyn.run(2)
    dyn.checkpoint(tmp_path / "run.checkpoint")
    with pytest.raises(CheckpointError, match=r"engine = 'device'"):
        TrajCast.restart(
            tmp_path / "run.checkpoint",
            dyn.model,
            thermostat=baths("csvr"),
            guards=(),
        )


def test_a_second_run_with_the_same_thermostat_draws_other_numbers(device):
    bath = baths("langevin")
    first = on_device(device, thermostat=bath)
    first.run(3)
    second = on_device(device, thermostat=bath)
    second.run(3)
    assert snapshot(first.atoms) != snapshot(second.atoms)
    assert int(bath.strides) == 6


def test_the_host_looks_once_in_fifty_strides(device):
    dyn = on_device(device)
    dyn.run(110)
    assert dyn._engine.n_looks == 3


class Looking:
    """A guard that only counts."""

    def __init__(self, every):
        self.every, self.looks = every, 0

    def find(self, *_):
        self.looks += 1
        return []


def test_blocks_end_where_a_guard_is_due(device):
    always, rarely = Looking(1), Looking(20)
    on_device(device, guards=[always, rarely]).run(60)
    assert rarely.looks == 3
    assert always.looks == 4  # at strides 20, 40, 50 and 60


class Refusing(Looking):
    """A guard that objects to what moves."""

    def find(self, *_):
        return [Finding(0, 0, 1.0, 0.5, "moves for atom 0 (Ar)")]


def test_a_refused_stride_is_undone_with_its_thermostats(device):
    dyn = on_device(device, guards=[Refusing(7)], thermostat=baths("both"))
    with pytest.raises(SenselessForecastError, match="moves for atom 0"):
        dyn.run(30)
    expected = on_device(device, thermostat=baths("both"))
    expected.run(6)
    assert dyn.nsteps == 6
    assert snapshot(dyn.atoms) == snapshot(expected.atoms)
    assert dyn.transferred_energy == expected.transferred_energy
    assert int(dyn.thermostats[0].strides) == 6


def test_observers_and_edits_are_as_ever(device):
    dyn = on_device(device)
    seen = []
    dyn.attach(lambda: seen.append((dyn.nsteps, dyn.atoms.positions.copy())), 3)
    dyn.run(7)
    assert [n for n, _ in seen] == [0, 3, 6]
    assert not np.array_equal(seen[1][1], seen[2][1])
    dyn.atoms.positions += 1.0
    before = dyn.atoms.positions.copy()
    dyn.run(1)
    assert np.abs(dyn.atoms.positions - before).max() < 0.5


@pytest.mark.parametrize("kind", ["csvr", "langevin", "both"])
def test_momenta_are_conserved(kind, molecule_model):
    atoms = water()
    atoms.set_momenta(atoms.get_momenta() + 0.3)
    momentum, angular = atoms.get_momenta().sum(0), atoms.get_angular_momentum()
    start = atoms.get_momenta()
    TrajCast(
        atoms, molecule_model, thermostat=baths(kind), guards=(), engine="device"
    ).run(15)
    assert not np.allclose(atoms.get_momenta(), start, atol=1e-3)
    np.testing.assert_allclose(atoms.get_momenta().sum(0), momentum, atol=1e-11)
    np.testing.assert_allclose(atoms.get_angular_momentum(), angular, atol=1e-9)


@pytest.fixture
def on_cpu(device):
    """Skip a test of calls of Python, or of our kernels for the CPU, on a card."""
    if device.type != "cpu":
        pytest.skip("a graph makes no calls, and libraries have other products")


@needs_compiler
@pytest.mark.usefixtures("on_cpu")
def test_a_bundled_model_makes_the_strides_of_the_host_to_the_last_bit():
    model = load_model("paracetamol-7fs")
    atoms = paracetamol()
    draw_momenta(atoms, np.random.default_rng(0))
    ours, theirs = atoms.copy(), atoms.copy()
    TrajCast(ours, model, guards=(), engine="device").run(5)
    TrajCast(theirs, model, guards=()).run(5)
    assert snapshot(ours) == snapshot(theirs)


@pytest.mark.slow
@pytest.mark.statistical
def test_a_bundled_model_has_its_temperature_on_a_device(device):
    """16 replicas of paracetamol: their mean temperature after 2 ps, within 4 errors.

    With 54 degrees of freedom the scatter of one value is 310 K (2/54)^0.5 = 60 K; the
    model's own error is some 1 % with its thermostats.
    """
    model = load_model("paracetamol-7fs", device=device)
    starts = [paracetamol() for _ in range(16)]
    for k, atoms in enumerate(starts):
        draw_momenta(atoms, np.random.default_rng(k), 310.0)
    replicas = Replicas(
        starts,
        model,
        thermostat=lambda rng: model.recommended_thermostat(310.0, rng),
        seed=2,
        engine="device",
    )
    replicas.run(150)
    found = []
    for _ in range(10):
        replicas.run(20)
        found += [one.get_temperature() for one in replicas]
    assert abs(np.mean(found) - 310) < 4 * 310 * np.sqrt(2 / 54 / len(found)) + 6


def tight(monkeypatch):
    """Give lists half the room that the start needs."""
    monkeypatch.setattr(plans, "spacious", lambda n: Room(n.edges // 2, n.box))


def test_too_little_room_changes_nothing_but_time(molecule_model, monkeypatch):
    def run():
        rng = np.random.default_rng(2)
        grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)
        places = 2.8 * grid + rng.uniform(-0.3, 0.3, (27, 3))
        atoms = Atoms("C27", places, cell=[8.4] * 3, pbc=True)
        draw_momenta(atoms, rng)
        dyn = TrajCast(
            atoms,
            molecule_model,
            thermostat=baths("langevin"),
            guards=(),
            engine="device",
        )
        dyn.run(8)
        return dyn

    whole = run()
    tight(monkeypatch)
    small = run()
    assert small._engine.n_looks > whole._engine.n_looks
    np.testing.assert_allclose(
        small.atoms.positions, whole.atoms.positions, rtol=0, atol=1e-9
    )


class Spoilt(Ballistic):
    """Free flight, until an atom comes too far: then it is nowhere."""

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        too_far = state.positions[:, :1] > 3.0
        return torch.where(too_far, torch.nan, displacements), velocities


def flyer(speed):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[50] * 3, pbc=True)
    atoms.set_velocities([[speed, 0, 0], [-speed, 0, 0]])
    return atoms


def test_a_system_that_is_not_finite_ends_the_run_at_its_stride(tmp_path):
    model = Spoilt(HORIZON)
    ends = []
    for engine in ("host", "device"):
        dyn = TrajCast(
            flyer(0.03),
            model,
            guards=(),
            engine=engine,
            evidence=tmp_path / f"{engine}.extxyz",
        )
        with pytest.raises(SenselessForecastError, match="not finite for atom 0") as e:
            dyn.run(500)
        ends.append((dyn.nsteps, snapshot(dyn.atoms), str(e.value)[:60]))
        assert (tmp_path / f"{engine}.extxyz").is_file()
    assert ends[0] == ends[1]
    assert 0 < ends[0][0] < 500


class Interrupted(Ballistic):
    """Free flight that is interrupted once."""

    calls: ClassVar[list[None]] = []

    def raw_forecast(self, state):
        self.calls.append(None)
        if len(self.calls) == 33:
            raise KeyboardInterrupt
        return super().raw_forecast(state)


@pytest.mark.usefixtures("on_cpu")
def test_an_interrupt_leaves_the_run_where_the_host_last_looked(monkeypatch):
    monkeypatch.setattr(Interrupted, "calls", [])

    def start(model):
        dyn = TrajCast(
            water(), model, thermostat=baths("both"), guards=(), engine="device"
        )
        dyn.attach(lambda: None, 20)
        return dyn

    broken, whole = start(Interrupted(HORIZON)), start(Ballistic(HORIZON))
    with pytest.raises(KeyboardInterrupt):
        broken.run(60)
    assert broken.nsteps == int(broken.thermostats[0].strides) == 20
    broken.run(40)
    whole.run(60)
    assert snapshot(broken.atoms) == snapshot(whole.atoms)
    assert broken.transferred_energy == whole.transferred_energy


class Fickle(Ballistic):
    """Free flight, but for one forecast of many."""

    calls: ClassVar[list[None]] = []

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        self.calls.append(None)
        return displacements * (torch.nan if len(self.calls) == 5 else 1), velocities


@pytest.mark.usefixtures("on_cpu")
def test_a_model_that_does_not_repeat_itself_is_named(monkeypatch):
    monkeypatch.setattr(Fickle, "calls", [])
    dyn = TrajCast(water(), Fickle(HORIZON), guards=(), engine="device")
    with pytest.raises(RuntimeError, match=r"step 5 .* no function of the state"):
        dyn.run(20)
    assert dyn.nsteps == 4
    monkeypatch.setattr(Fickle, "calls", [])
    replicas = Replicas([water(0), water(1)], Fickle(HORIZON), engine="device")
    with pytest.raises(LostReplicasError, match="no function of the state"):
        replicas.run(20)
    assert [one.stride for one in replicas.lost] == [4, 4]


def test_replicas_are_the_same_alone_and_in_a_batch(device):
    flight = Ballistic(HORIZON)
    starts = [water(seed) for seed in range(4)]
    starts[2] = draw_momenta(
        Atoms("O7", np.random.default_rng(1).uniform(0, 4, (7, 3))),
        np.random.default_rng(8),
    )

    def make(which, first):
        return Replicas(
            [starts[k].copy() for k in which],
            flight,
            thermostat=lambda rng: baths("both", rng=rng),
            seed=3,
            first_replica=first,
            guards=(),
            device=device,
            engine="device",
        )

    batch = make(range(4), 0)
    batch.run(12)
    for k in range(4):
        alone = make([k], k)
        alone.run(12)
        assert snapshot(alone[0].atoms) == snapshot(batch[k].atoms)
        assert alone[0].transferred_energy == batch[k].transferred_energy


def test_a_replica_that_fails_is_lost_and_changes_no_other():
    def run(speeds):
        return Replicas(
            [flyer(speed) for speed in speeds],
            Spoilt(HORIZON),
            thermostat=lambda rng: Langevin(30.0, 1e-4 / units.fs, rng),
            seed=1,
            guards=(),
            engine="device",
        )

    good = run([0.0001, 0.0001, 0.0002])
    good.run(130)
    spoilt = run([0.0001, 0.1, 0.0002])
    with pytest.warns(match="replica 1 is lost after stride"):
        spoilt.run(130)
    assert [one.number for one in spoilt.lost] == [1]
    assert spoilt[1].nsteps == spoilt.lost[0].stride < 130
    assert np.isfinite(spoilt[1].atoms.positions).all()
    assert int(spoilt[1].thermostats[0].strides[1]) == spoilt[1].nsteps
    for k in (0, 2):
        assert snapshot(spoilt[k].atoms) == snapshot(good[k].atoms)
        assert spoilt[k].nsteps == 130


def test_replicas_restart_bit_for_bit(tmp_path, device):
    def settings():
        return {
            "thermostat": lambda rng: baths("both", rng=rng),
            "guards": (),
            "device": device,
            "engine": "device",
        }

    model = Ballistic(HORIZON)
    starts = [water(seed) for seed in range(3)]
    whole = Replicas([one.copy() for one in starts], model, **settings())
    whole.run(20)
    first = Replicas([one.copy() for one in starts], model, **settings())
    first.run(9)
    first.checkpoint(tmp_path / "c")
    again = Replicas.restart(tmp_path / "c", model, **settings())
    again.run(11)
    assert again.nsteps == whole.nsteps == 20
    for one, other in zip(again, whole, strict=True):
        assert snapshot(one.atoms) == snapshot(other.atoms)


class OwnBath(CSVR):
    """A thermostat of the user's."""


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"engine": "gpu"}, r"engine = 'gpu' is unknown"),
        ({"thermostat": OwnBath(300, TAUT)}, r"OwnBath acts on the host"),
    ],
)
def test_what_cannot_be_combined_is_said(settings, text):
    given = {"engine": "device", "guards": ()} | settings
    with pytest.raises(ValueError, match=text):
        TrajCast(water(), Ballistic(HORIZON), **given)


def test_settings_name_the_engine():
    dyn = on_device("cpu", thermostat=baths("csvr"))
    assert json.loads(json.dumps(dyn.todict()))["engine"] == "device"
    assert "engine" not in on_device("cpu", engine="host").todict()
