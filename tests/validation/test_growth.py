"""How far runs part: against exact laws of motion."""

from dataclasses import replace

import numpy as np
import pytest

from trajcast_ase.testing import Ballistic
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import forecast_errors, forecast_pairs
from trajcast_ase.training.pairs import make_pairs
from trajcast_ase.trajectory import Frames, TrajectoryError
from trajcast_ase.validation.growth import divergence, error_growth

STRIDE = 2.0


def falling(n_frames: int = 60, pbc: bool = False, pull: float = 1e-4) -> Frames:
    """Two atoms pulled apart evenly: a flight without forces errs as time squared."""
    time = STRIDE * np.arange(n_frames)[:, None, None]
    direction = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    start = np.array([[3.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    positions = start + direction * pull * time**2 / 2
    if pbc:
        positions %= 5.0
    return Frames(
        positions=positions,
        velocities=direction * pull * time,
        atomic_numbers=np.array([8, 8]),
        masses=np.array([16.0, 16.0]),
        cell=5.0 * np.eye(3),
        pbc=np.full(3, pbc),
        stride_fs=STRIDE,
        source="falling",
    )


@pytest.mark.parametrize("pbc", [False, True])
def test_free_flight_errs_as_the_square_of_time(pbc):
    found = error_growth(
        Ballistic(STRIDE), make_pairs(falling(pbc=pbc), STRIDE), n_strides=30
    )
    time = STRIDE * np.arange(1, 31)
    np.testing.assert_allclose(found.time_fs, time)
    # One of three axes.
    np.testing.assert_allclose(found.displacement, 1e-4 * time**2 / 2 / 3, rtol=1e-9)
    np.testing.assert_allclose(found.velocity, 1e-4 * time / 3, rtol=1e-9)
    assert found.n_starts == 20


def test_first_stride_is_the_error_of_the_pairs():
    pairs = make_pairs(falling(22), STRIDE)
    model = Ballistic(STRIDE)
    growth = error_growth(model, pairs, n_strides=1, n_starts=len(pairs))
    errors = forecast_errors(forecast_pairs(model, PairDataset([pairs])))
    assert growth.displacement[0] == pytest.approx(errors.displacement.mae)
    assert growth.velocity[0] == pytest.approx(errors.velocity.mae)


def test_frames_between_strides_are_skipped():
    pairs = make_pairs(falling(), 2 * STRIDE)
    found = error_growth(Ballistic(2 * STRIDE), pairs, n_strides=5)
    time = 2 * STRIDE * np.arange(1, 6)
    np.testing.assert_allclose(found.displacement, 1e-4 * time**2 / 2 / 3, rtol=1e-9)


def test_short_runs_are_refused():
    with pytest.raises(TrajectoryError, match="hold 9 strides in a row"):
        error_growth(Ballistic(STRIDE), make_pairs(falling(10), STRIDE))


def test_twins_part_as_they_were_told_to():
    one, other = falling(), falling(50, pull=1.1e-4)
    found = divergence(one, other)
    time = STRIDE * np.arange(50)
    np.testing.assert_allclose(found.time_fs, time)
    np.testing.assert_allclose(
        found.displacement, 1e-5 * time**2 / 2 / 3, rtol=1e-7, atol=1e-15
    )
    np.testing.assert_allclose(found.velocity, 1e-5 * time / 3, rtol=1e-7, atol=1e-15)


def test_what_is_no_twin_is_refused():
    one = falling()
    shifted = replace(one, positions=one.positions + np.array([1.0, 0.0, 0.0]))
    with pytest.raises(TrajectoryError, match=r"starts 0\.333 Å from falling"):
        divergence(one, shifted)
    with pytest.raises(TrajectoryError, match="other atoms or another stride"):
        divergence(one, replace(one, stride_fs=1.0))
    with pytest.raises(TrajectoryError, match="other atoms or another stride"):
        divergence(one, replace(one, atomic_numbers=np.array([8, 1])))
