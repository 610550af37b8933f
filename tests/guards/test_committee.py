"""Committees: the spread of known forecasts, and what is refused."""

import numpy as np
import pytest
import torch
from ase.io import read
from driver_helpers import HORIZON, water

from trajcast_ase import ForecastNoise, TrajCast, load_model
from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.fallback import SenselessForecastError
from trajcast_ase.guards.committee import CommitteeGuard, committee_spread
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.stride import stride
from trajcast_ase.testing import PERIODIC_ONLY, Ballistic
from trajcast_ase.thermostats.noise import NoisyModel, ResidualCovariance


class Half:
    """Forecasts half the displacement of free flight, of one element only."""

    horizon_fs, conservation = HORIZON, PERIODIC_ONLY
    device = torch.device("cpu")

    def __init__(self, number: int) -> None:
        self.number = number

    def check_elements(self, atomic_numbers) -> None:
        """Accept every element."""

    def raw_forecast(self, state: State):
        factors = torch.where(state.atomic_numbers == self.number, 0.5, 1.0)[:, None]
        return factors * state.velocities * self.horizon_fs, state.velocities


def test_spread_of_known_places():
    state = state_from_atoms(water())
    shift = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.4, 0.3]])
    moved = state.moved(state.positions + shift, state.velocities)
    spread = committee_spread([state, moved])
    wanted = shift.double().norm(dim=1) / 2**0.5
    torch.testing.assert_close(spread, wanted)
    torch.testing.assert_close(
        committee_spread([state, state]), torch.zeros(3).double()
    )
    with pytest.raises(ValueError, match="1 forecasts have no spread"):
        committee_spread([state])


def test_the_atom_on_which_models_disagree_is_found():
    own, before = Ballistic(HORIZON), state_from_atoms([water(0), water(1)])
    after = stride(own, before)
    assert CommitteeGuard([own, own], 1e-9).find(own, before, after) == []
    spread = committee_spread([after, stride(Half(1), before)])
    guard = CommitteeGuard([Half(1)], 0.99 * float(spread.max()), every=3)
    (found,) = guard.find(own, before, after)
    assert found.atom == int(spread.argmax())
    assert found.system == found.atom // 3
    assert found.value == pytest.approx(float(spread.max()))
    assert "2 models for H" in found.text
    everywhere = CommitteeGuard([Half(1)], 1e-6).find(own, before, after)
    assert [one.system for one in everywhere] == [0, 1]


def test_noise_of_the_run_is_no_disagreement():
    loud = ResidualCovariance(0.1, 0.0, 0.1)
    noise = ForecastNoise({"O": loud, "H": loud}, np.random.default_rng(3))
    model, before = NoisyModel(Ballistic(HORIZON), noise), state_from_atoms(water())
    after = stride(model, before)
    assert CommitteeGuard([Ballistic(HORIZON)], 1e-9).find(model, before, after) == []


def test_forecasts_that_are_not_finite_are_found():
    own, before = Ballistic(HORIZON), state_from_atoms(water())
    lost = before.moved(before.positions * np.nan, before.velocities)
    (found,) = CommitteeGuard([own], 1.0).find(own, before, lost)
    assert found.value == np.inf


def test_other_models_are_refused():
    own, before = Ballistic(HORIZON), state_from_atoms(water())
    guard = CommitteeGuard([Ballistic(5.0)], 0.1)
    with pytest.raises(ValueError, match="forecasts 5 fs, the run's model 7 fs"):
        guard.find(own, before, before)
    with pytest.raises(ValueError, match="unknown to this model"):
        CommitteeGuard([Ballistic(HORIZON, elements=(8,))], 0.1).find(
            own, before, before
        )
    with pytest.raises(ValueError, match="forecast 5, 7 fs"):
        CommitteeGuard([own, Ballistic(5.0)], 0.1)
    with pytest.raises(ValueError, match="one model or more"):
        CommitteeGuard([], 0.1)
    for limit in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"^limit = "):
            CommitteeGuard([own], limit)
    with pytest.raises(ValueError, match=r"^every = 0"):
        CommitteeGuard([own], 0.1, every=0)


def test_a_committee_of_a_bundled_model_and_a_copy_with_other_weights(tmp_path):
    model, other = load_model("paracetamol-7fs"), load_model("paracetamol-7fs")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in other.parameters():
            weights.mul_(1 + 0.01 * torch.randn(weights.shape, generator=generator))
    atoms = paracetamol()
    draw_momenta(atoms, 300.0, np.random.default_rng(3), model.conservation)
    path = tmp_path / "run.traj"
    # The copy differs by some 0.01 Å at 300 K.
    loose = CommitteeGuard([other], limit=0.05, every=2)
    with TrajCast(atoms, model, guards=[loose], trajectory=path) as dynamics:
        dynamics.run(6)
    assert not dynamics.tally.found
    tight = CommitteeGuard([other], limit=1e-4, every=2)
    with (
        TrajCast(atoms, model, guards=[tight], trajectory=path) as dynamics,
        pytest.raises(SenselessForecastError, match=r"2 models for .* differ by 0\.0"),
    ):
        dynamics.run(6)
    assert dynamics.nsteps == 1
    *_, refused = read(tmp_path / "run.evidence.extxyz", ":")
    assert "CommitteeGuard" in str(refused.info)
