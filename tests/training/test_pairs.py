from dataclasses import replace

import numpy as np
import pytest
from spring_runs import MASSES, NUMBERS, STRIDE_FS, spring_run

from trajcast_ase.training.dataset import BatchOrder, PairDataset
from trajcast_ase.training.pairs import content_hash, make_pairs, split_in_time, thin
from trajcast_ase.trajectory import Frames, TrajectoryError


def frames_of(positions, velocities, cell=None):
    periodic = cell is not None
    return Frames(
        positions=positions,
        velocities=velocities,
        atomic_numbers=NUMBERS,
        masses=MASSES,
        cell=cell if periodic else np.zeros((3, 3)),
        pbc=np.full(3, periodic),
        stride_fs=STRIDE_FS,
        source="memory",
    )


@pytest.fixture
def frames():
    return frames_of(*spring_run(40, seed=1))


def test_pairs_are_one_horizon_apart(frames):
    pairs = make_pairs(frames, 6.0)
    assert pairs.lag == 3
    assert len(pairs) == 37
    batch = PairDataset([pairs]).batch(np.array([5]))
    np.testing.assert_array_equal(batch.state.positions, frames.positions[5])
    np.testing.assert_array_equal(batch.velocities, frames.velocities[8])
    np.testing.assert_array_equal(
        batch.displacements, frames.positions[8] - frames.positions[5]
    )


@pytest.mark.parametrize("horizon", [1.0, 3.0, 5.0001])
def test_a_horizon_between_strides_is_refused(frames, horizon):
    with pytest.raises(TrajectoryError, match="not a whole number"):
        make_pairs(frames, horizon)


def test_a_short_run_is_refused(frames):
    with pytest.raises(TrajectoryError, match="too few"):
        make_pairs(frames, 80.0)


def test_pairs_across_kicks_are_left_out(frames):
    kicked = replace(frames, kicks=np.array([10, 30]))
    pairs = make_pairs(kicked, 6.0)
    # A kick changes the velocities of its own frame, which may begin a pair.
    left_out = {7, 8, 9, 27, 28, 29}
    assert set(pairs.starts) == set(range(37)) - left_out
    assert len(make_pairs(replace(frames, kicks=np.array([], int)), 6.0)) == 37


def test_pairs_between_kicks_are_split_by_their_number(frames):
    pairs = make_pairs(replace(frames, kicks=np.arange(1, 20)), 4.0)
    early, late = split_in_time(pairs, 0.25)
    assert len(late) == round(0.25 * len(pairs))
    assert early.starts.max() + early.lag < late.starts.min()


def test_kicks_within_all_pairs_are_refused(frames):
    kicked = replace(frames, kicks=np.arange(3, 40, 3))
    assert len(make_pairs(kicked, 4.0)) == 13
    with pytest.raises(TrajectoryError, match=r"memory: a thermostat acted between"):
        make_pairs(kicked, 6.0)


def test_wrapped_positions_give_the_same_displacements():
    positions, velocities = spring_run(20, seed=2)
    # A drift through the cell, so that atoms cross its faces between two frames.
    drift = np.array([0.3, -0.2, 0.25])
    positions = positions + np.outer(np.arange(20), drift)[:, None]
    velocities = velocities + drift / STRIDE_FS
    cell = np.array([[3.0, 0, 0], [1.2, 2.9, 0], [-0.7, 0.8, 3.1]])
    free = make_pairs(frames_of(positions, velocities), 4.0)
    inside = (positions @ np.linalg.inv(cell) % 1.0) @ cell
    assert np.abs(np.diff(inside, axis=0)).max() > 1.0
    wrapped = make_pairs(frames_of(inside, velocities, cell), 4.0)
    starts = np.arange(18)
    np.testing.assert_allclose(
        wrapped.displacements(starts), free.displacements(starts), atol=1e-12
    )


def test_the_split_shares_no_frame(frames):
    early, late = split_in_time(make_pairs(frames, 6.0), 0.25)
    used = set(early.starts) | set(early.starts + early.lag)
    held = set(late.starts) | set(late.starts + late.lag)
    assert not used & held
    assert max(used) < min(held)
    assert len(late) >= 9


def test_a_split_that_leaves_nothing_is_refused(frames):
    with pytest.raises(TrajectoryError, match="cannot be split"):
        split_in_time(make_pairs(frames, 70.0), 0.5)


def test_thin_spreads_over_all_runs(frames):
    parts = [make_pairs(frames, 2.0), make_pairs(frames, 2.0)]
    kept = thin(parts, 10)
    assert sum(len(part) for part in kept) == 10
    assert [len(part) for part in kept] == [5, 5]


def test_the_hash_sees_every_number(frames):
    before = content_hash([make_pairs(frames, 6.0)])
    assert content_hash([make_pairs(frames, 6.0)]) == before
    frames.velocities[7, 1, 2] = np.nextafter(frames.velocities[7, 1, 2], 1.0)
    assert content_hash([make_pairs(frames, 6.0)]) != before


def test_reversal_swaps_the_ends_and_negates_velocities(frames):
    dataset = PairDataset([make_pairs(frames, 6.0)])
    forward = dataset.batch(np.array([4]))
    backward = dataset.batch(np.array([4]), reverse=np.array([True]))
    np.testing.assert_array_equal(backward.state.velocities, -forward.velocities)
    np.testing.assert_array_equal(backward.velocities, -forward.state.velocities)
    np.testing.assert_array_equal(backward.displacements, -forward.displacements)
    np.testing.assert_array_equal(backward.state.positions, frames.positions[7])


def test_every_pair_comes_once_per_epoch():
    order = BatchOrder(n_pairs=24, batch_size=5, seed=7, reversal_probability=0.5)
    flat = np.concatenate([order(step)[0] for step in range(24)])
    for epoch in range(5):
        assert sorted(flat[24 * epoch : 24 * (epoch + 1)]) == list(range(24))
    assert not np.array_equal(flat[:24], flat[24:48])
    np.testing.assert_array_equal(order(3)[0], order(3)[0])


def test_reversals_have_the_asked_frequency():
    order = BatchOrder(n_pairs=100, batch_size=20, seed=1, reversal_probability=0.3)
    flags = np.concatenate([order(step)[1] for step in range(200)])
    # 4 000 draws: sd 0.0072; beyond four of them once in 16 000 seeds.
    assert abs(flags.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / flags.size)
