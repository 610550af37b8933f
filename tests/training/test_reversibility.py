"""What going back misses on pairs: against maps whose loss is known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from trajcast_ase.testing import PERIODIC_ONLY, Ballistic, Shrinker
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import forecast_pairs
from trajcast_ase.training.pairs import Pairs
from trajcast_ase.training.reversibility import limits_of_pairs, missed_by_pairs
from trajcast_ase.trajectory import Frames

HORIZON, SIZE = 7.0, 4


def dataset(n_pairs: int) -> PairDataset:
    """Return pairs of random velocities without drift, oxygen and hydrogen."""
    velocities = np.random.default_rng(0).normal(0.0, 0.01, (n_pairs + 1, SIZE, 3))
    frames = Frames(
        positions=np.zeros((n_pairs + 1, SIZE, 3)),
        velocities=velocities - velocities.mean(1, keepdims=True),
        atomic_numbers=np.array([8, 8, 1, 1]),
        masses=np.full(SIZE, 16.0),
        cell=5.0 * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        stride_fs=HORIZON,
        source="drawn",
    )
    return PairDataset([Pairs(frames, np.arange(n_pairs), 1)])


def test_misses_are_those_of_the_map_in_the_order_of_the_pairs():
    pairs, model = dataset(120), Shrinker(HORIZON, factor=0.9)
    missed = missed_by_pairs(model, pairs, forecast_pairs(model, pairs))
    speeds = np.linalg.norm(pairs.parts[0].frames.velocities[:-1], axis=2).ravel()
    np.testing.assert_allclose(missed.positions, 0.1 * HORIZON * speeds)
    np.testing.assert_allclose(missed.velocities, 0.19 * speeds)
    np.testing.assert_array_equal(missed.sizes, np.full(120, SIZE))
    limits = limits_of_pairs(model, pairs, forecast_pairs(model, pairs))
    assert limits is not None
    oxygen = speeds.reshape(-1, SIZE)[:, :2]
    rms = np.sqrt((oxygen**2).mean())
    assert limits.elements["O"].displacement == pytest.approx(0.1 * HORIZON * rms)
    assert limits.n_pairs == 120


def test_too_few_pairs_have_no_limits():
    pairs, model = dataset(99), Shrinker(HORIZON)
    assert limits_of_pairs(model, pairs, forecast_pairs(model, pairs)) is None


@dataclass(frozen=True, slots=True)
class LostOnTheWayBack:
    """Free flight from states near the origin, not finite elsewhere."""

    horizon_fs: float = HORIZON
    conservation = PERIODIC_ONLY
    device = torch.device("cpu")

    def check_elements(self, atomic_numbers) -> None:
        """Accept every element."""

    def raw_forecast(self, state):
        lost = state.positions.any()
        moved = state.velocities * self.horizon_fs
        return torch.where(lost, torch.nan, moved), state.velocities


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Ballistic(HORIZON, conservation=PERIODIC_ONLY), "no limits for going back"),
        (LostOnTheWayBack(), "by nan Å"),
    ],
)
def test_a_model_without_limits_is_warned_of_and_not_lost(model, message):
    pairs = dataset(120)
    with pytest.warns(UserWarning, match=message):
        assert limits_of_pairs(model, pairs, forecast_pairs(model, pairs)) is None
