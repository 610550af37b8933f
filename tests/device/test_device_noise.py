"""Calibrated noise in strides on a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from device_helpers import COVARIANCES, baths, kicks
from driver_helpers import HORIZON, snapshot, water
from helpers import make_state, small_model

from trajcast_ase.device.draws import DrawPlan, Need
from trajcast_ase.device.layout import LaidOutState
from trajcast_ase.device.noise import KickedModel
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.replicas import Replicas
from trajcast_ase.state import state_from_atoms
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.noise import ForecastNoise


def made(atoms, **settings):
    """Return a run on a device with noise and without guards."""
    given = {"noise": kicks(), "guards": (), "engine": "device"} | settings
    return TrajCast(atoms, Ballistic(HORIZON), **given)


def draws(atoms, key, stride):
    """Return what the noise of one system draws at a stride."""
    plan = DrawPlan.of([Need.FOR_NOISE], LaidOutState.of(state_from_atoms(atoms)))
    (drawn,) = plan.draw([torch.tensor([key])], [torch.tensor([stride])])
    return drawn


def test_draws_have_the_covariance_of_their_element():
    n = 40_000
    numbers = torch.tensor([1, 8]).repeat(n // 2)
    state = make_state(np.zeros((n, 3)), numbers=numbers.tolist())
    plan = DrawPlan.of([Need.FOR_NOISE], LaidOutState.of(state))
    (drawn,) = plan.draw([torch.tensor([7])], [torch.tensor([3])])
    kicked = KickedModel(Ballistic(HORIZON), kicks().factors(numbers), drawn)
    moved, speeds = kicked.raw_forecast(state)
    for z, symbol in ((1, "H"), (8, "O")):
        wanted, own = COVARIANCES[symbol], numbers == z
        found = torch.cov(torch.stack([moved[own].ravel(), speeds[own].ravel()]))
        # 60 000 draws: relative errors of 0.6 %, and of some 2 % of the small cross.
        assert float(found[0, 0]) == pytest.approx(wanted.displacement, rel=0.03)
        assert float(found[1, 1]) == pytest.approx(wanted.velocity, rel=0.03)
        scale = np.sqrt(wanted.displacement * wanted.velocity)
        assert float(found[0, 1]) == pytest.approx(wanted.cross, abs=0.02 * scale)
        axes = torch.corrcoef(moved[own].T) - torch.eye(3)
        assert float(axes.abs().max()) < 0.03


class Replayed(ForecastNoise):
    """On the host, the noise that a device draws."""

    def draw(self, state):
        drawn = draws(water(), int(self.keys), int(self.strides))
        unit = drawn.noise_normals().to(state.device)
        self.strides += 1
        moved, kicked = (self.factors(state.atomic_numbers) @ unit).unbind(1)
        return moved, kicked


def test_strides_are_those_of_the_host_with_the_same_noise():
    model = small_model("thermal", torch.float64)
    noise, replayed = kicks(), Replayed(COVARIANCES, np.random.default_rng(6))
    replayed.draw_keys()
    ours, theirs, without = water(), water(), water()
    TrajCast(ours, model, noise=noise, guards=(), engine="device").run(6)
    TrajCast(theirs, model, noise=replayed, guards=()).run(6)
    TrajCast(without, model, guards=()).run(6)
    assert int(noise.keys) == int(replayed.keys)
    assert int(noise.strides) == 6
    assert np.abs(ours.positions - without.positions).max() > 1e-4
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ours.get_momenta(), theirs.get_momenta(), atol=1e-11)


def test_whole_interrupted_and_restarted_runs_are_one(tmp_path):
    whole = made(water(), thermostat=baths("both"))
    whole.run(20)
    parts = made(water(), thermostat=baths("both"))
    parts.attach(lambda: None, 7)
    for _ in range(3):
        parts.run(1)
    parts.run(6)
    parts.checkpoint(tmp_path / "run.checkpoint")
    again = TrajCast.restart(
        tmp_path / "run.checkpoint",
        Ballistic(HORIZON),
        thermostat=baths("both", rng=np.random.default_rng(98)),
        noise=kicks(np.random.default_rng(99)),
        guards=(),
        engine="device",
    )
    for one in (parts, again):
        one.run(11)
        assert snapshot(one.atoms) == snapshot(whole.atoms)
        assert one.transferred_energy == whole.transferred_energy
        assert int(one.noise.strides) == 20


def test_noise_leaves_the_numbers_of_thermostats_alone():
    with_noise = made(water(), thermostat=baths("both"))
    without = made(water(), thermostat=baths("both"), noise=None)
    with_noise.run(3)
    without.run(3)
    assert snapshot(with_noise.atoms) != snapshot(without.atoms)
    for one, other in zip(with_noise.thermostats, without.thermostats, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.strides, other.strides)


def test_replicas_are_the_same_alone_in_a_batch_and_after_a_restart(tmp_path):
    rng = np.random.default_rng(1)
    starts = [water(0), Atoms("O7", rng.uniform(0, 4, (7, 3))), water(2)]
    starts[1].set_momenta(rng.normal(0.0, 1.0, (7, 3)))

    def settings():
        return {
            "thermostat": lambda rng: baths("langevin", rng=rng),
            "noise": kicks,
            "guards": (),
            "engine": "device",
        }

    def make(which, first):
        systems = [starts[k].copy() for k in which]
        given = settings() | {"seed": 3, "first_replica": first}
        return Replicas(systems, Ballistic(HORIZON), **given)

    batch = make(range(3), 0)
    batch.run(5)
    batch.checkpoint(tmp_path / "c")
    batch.run(7)
    again = Replicas.restart(tmp_path / "c", Ballistic(HORIZON), **settings())
    again.run(7)
    for k in range(3):
        alone = make([k], k)
        alone.run(12)
        for other in (batch[k], again[k]):
            assert snapshot(alone[0].atoms) == snapshot(other.atoms)


def test_momenta_are_conserved():
    atoms = water()
    momentum, angular = atoms.get_momenta().sum(0), atoms.get_angular_momentum()
    start = atoms.get_momenta()
    made(atoms).run(15)
    assert not np.allclose(atoms.get_momenta(), start, atol=1e-3)
    np.testing.assert_allclose(atoms.get_momenta().sum(0), momentum, atol=1e-11)
    np.testing.assert_allclose(atoms.get_angular_momentum(), angular, atol=1e-9)


def test_an_element_without_a_covariance_is_named():
    with pytest.raises(ValueError, match="no covariance for C"):
        made(Atoms("C2", [[0, 0, 0], [0, 0, 1.2]]))
