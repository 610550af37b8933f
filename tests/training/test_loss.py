from dataclasses import replace

import numpy as np
import pytest
import torch
from spring_runs import spring_run

from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.stride import conserved_forecast
from trajcast_ase.training.data import compute_statistics
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import PairForecasts, forecast_errors
from trajcast_ase.training.loss import ForecastLoss, mass_weights
from trajcast_ase.training.pairs import make_pairs, thin
from trajcast_ase.trajectory import TrajectoryError

from .test_pairs import frames_of


@pytest.fixture(scope="module")
def model():
    config = ForecasterConfig(
        elements=(1, 6),
        horizon_fs=4.0,
        cutoff=3.0,
        displacement_rms=0.05,
        velocity_rms=0.02,
        avg_num_neighbors=1.0,
        n_channels=4,
        n_layers=1,
        edge_mlp=(8,),
        velocity_mlp=(8,),
        velocity_scales=(0.02, 0.01),
    )
    return Forecaster(config)


@pytest.fixture(scope="module")
def dataset():
    runs = [make_pairs(frames_of(*spring_run(40, seed)), 4.0) for seed in (1, 2)]
    return PairDataset(runs)


def residuals(model, batch):
    displacements, velocities = conserved_forecast(model, batch.state)
    moved = (displacements - batch.displacements) / model.config.displacement_rms
    changed = (velocities - batch.velocities) / model.config.velocity_rms
    return torch.stack((moved, changed))


def test_a_row_is_one_stretch_of_a_run(dataset):
    rows = dataset.in_a_row(np.array([3, 37, 40, 75]), 3)
    lag, n = 2, 38
    np.testing.assert_array_equal(rows[0], [3, 5, 7])
    # The last three of the first run, and of the second.
    np.testing.assert_array_equal(rows[1], [n - 5, n - 3, n - 1])
    np.testing.assert_array_equal(rows[2], [40, 40 + lag, 40 + 2 * lag])
    np.testing.assert_array_equal(rows[3], [2 * n - 5, 2 * n - 3, 2 * n - 1])
    batch = dataset.batch(rows[0])
    ends = batch.state.positions + batch.displacements
    torch.testing.assert_close(ends[:2], batch.state.positions[2:4])


def test_thinned_pairs_have_no_rows():
    runs = thin([make_pairs(frames_of(*spring_run(40, 1)), 4.0)], 10)
    with pytest.raises(ValueError, match="do not hold 3 in a row"):
        PairDataset(runs).in_a_row(np.array([0]), 3)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_heavy_atoms_count_by_a_power_of_their_mass(model, dataset, power):
    batch = dataset.batch(np.array([3, 50]))
    with torch.no_grad():
        loss = ForecastLoss(model, weights=mass_weights(dataset, power))(batch)
        plain = ForecastLoss(model)(batch)
        found = residuals(model, batch)
    light, heavy = (m**power for m in batch.state.masses[:2].tolist())
    squares = found.square().mean(dim=(0, 2)).view(2, 2).mean(dim=0)
    parts = light * squares[0] + heavy * squares[1]
    assert float(loss) == pytest.approx(float(2 * parts / (light + heavy)))
    assert float(loss) != pytest.approx(float(plain), rel=0.01)


def test_the_sum_of_residuals_is_squared_for_each_row(model, dataset):
    rows = dataset.in_a_row(np.array([3, 50]), 4)
    batch = dataset.batch(rows.ravel())
    with torch.no_grad():
        plain = ForecastLoss(model)(batch)
        summed = ForecastLoss(model, pairs_in_a_row=4, sum_weight=0.7)(batch)
        found = residuals(model, batch).view(2, 2, 4, 2, 3)
    assert float(plain) == pytest.approx(float(2 * found.square().mean()))
    expected = 0.7 * found.sum(dim=2).square().sum() / (batch.displacements.numel())
    assert float(summed - plain) == pytest.approx(float(expected))


def test_residuals_that_cancel_in_a_row_cost_no_more(model, dataset):
    """Four equal residuals add 4 times, four that alternate nothing."""
    rows = dataset.in_a_row(np.array([3]), 4)
    batch = dataset.batch(rows.ravel())
    loss = ForecastLoss(model, pairs_in_a_row=4, sum_weight=1.0)
    equal = torch.ones(8, 2, 3, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).double().repeat_interleave(2)
    index = batch.state.system_index
    assert float(loss._sums(equal, index).square().sum()) == 16 * 2 * 2 * 3
    assert float(loss._sums(equal * signs[:, None, None], index).abs().sum()) == 0.0


def test_an_element_that_never_moves_has_no_relative_error():
    still = np.zeros((4, 3))
    moving = np.ones((4, 3))
    forecasts = PairForecasts(
        atomic_numbers=np.array([1, 6, 1, 6]),
        displacements=moving,
        true_displacements=np.where([[True], [False], [True], [False]], moving, still),
        velocities=moving,
        true_velocities=moving,
        n_pairs=2,
    )
    with pytest.raises(ValueError, match="true displacements of C are zero"):
        forecast_errors(forecasts)
    lost = replace(forecasts, true_displacements=moving, velocities=moving * np.nan)
    with pytest.raises(ValueError, match="velocities of pair 0 are not finite"):
        forecast_errors(lost)


def test_largest_speeds_are_those_of_all_frames_of_pairs():
    """Of starts and ends, in a later run, and not of frames that no pair has."""
    frames = frames_of(*spring_run(40, 1))
    fast, unseen = frames.velocities.copy(), frames.velocities.copy()
    fast[39, 1] = (0.0, 0.3, 0.4)  # the end of the last pair
    unseen[20, 0] = (9.0, 0.0, 0.0)
    runs = [replace(frames, velocities=v) for v in (frames.velocities, fast, unseen)]
    parts = [make_pairs(one, 4.0, checks_motion=False) for one in runs]
    parts[2] = replace(parts[2], starts=parts[2].starts[:10])
    statistics = compute_statistics(PairDataset(parts), 3.0)
    of = dict(zip(statistics.elements, statistics.largest_speeds, strict=True))
    usual = np.linalg.norm(frames.velocities, axis=2).max(axis=0)
    first, second = (int(number) for number in frames.atomic_numbers)
    assert of[second] == pytest.approx(0.5)
    assert of[first] == pytest.approx(usual[0])


def test_one_element_has_one_mass():
    frames = frames_of(*spring_run(40, 1))
    heavy = replace(frames, masses=frames.masses * np.array([2.0, 1.0]))
    dataset = PairDataset([make_pairs(one, 4.0) for one in (frames, heavy)])
    with pytest.raises(TrajectoryError, match=r"H has masses from 1\.008 to 2\.016"):
        compute_statistics(dataset, 3.0)
