"""Error bars against series of known memory."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from trajcast_ase.analysis.blocks import (
    Estimate,
    autocorrelation_time,
    block_average,
    profile_average,
    replica_average,
)


@pytest.mark.statistical
def test_block_error_covers_the_mean_of_correlated_values():
    # AR(1) with a correlation time of 20 steps, 200 series of 20 000 values. The error
    # should equal the scatter of the means; 200 series fix that to 5 %, and 20 blocks
    # to another 2 %. Band of four standard errors: false alarms below 1e-4.
    rng = np.random.default_rng(5)
    memory = np.exp(-1 / 20)
    noise = np.sqrt(1 - memory**2) * rng.normal(size=(20_000, 200))
    values = np.empty_like(noise)
    values[0] = rng.normal(size=200)
    for step in range(1, len(values)):
        values[step] = memory * values[step - 1] + noise[step]
    estimates = [block_average(series, 20) for series in values.T]
    scatter = np.std([estimate.mean for estimate in estimates])
    claimed = np.sqrt(np.mean([estimate.error**2 for estimate in estimates]))
    naive = np.mean(values.std(axis=0)) / np.sqrt(len(values))
    assert claimed == pytest.approx(scatter, rel=0.22)
    assert naive < 0.3 * scatter  # raw frames would claim far too little


def test_values_beyond_whole_blocks_are_dropped_at_the_start():
    assert block_average(np.array([100.0, 1.0, 1.0, 2.0, 2.0]), 2).mean == 1.5


@pytest.mark.parametrize("n_blocks", [1, 6])
def test_impossible_blocks_are_refused(n_blocks):
    with pytest.raises(ValueError, match=f"5 values cannot be cut into {n_blocks}"):
        block_average(np.ones(5), n_blocks)


@pytest.mark.statistical
@pytest.mark.parametrize("memory", [0.0, 0.5, 0.95])
def test_autocorrelation_time_of_a_first_order_process(memory):
    # rho_k = memory^k, so tau = 1/2 + memory / (1 - memory). The relative error is
    # about sqrt(2 (2 * 5 + 1) tau / n) (Sokal): 4 % at n = 200 000 and tau = 19.5;
    # the limit of four of them is a false alarm in 16 000.
    noise = np.random.default_rng(8).normal(size=200_000)
    series = signal.lfilter([1.0], [1.0, -memory], noise)[1000:]
    expected = 0.5 + memory / (1 - memory)
    spread = np.sqrt(22 * max(expected, 1.0) / len(series))
    assert autocorrelation_time(series) == pytest.approx(expected, rel=4 * spread)


@pytest.mark.statistical
def test_chance_correlations_of_a_short_series_do_not_cancel_its_memory():
    """Summed to the end of a series, correlations are zero whatever the memory."""
    rng, memory, n = np.random.default_rng(8), 0.95, 600
    expected = 0.5 + memory / (1 - memory)
    short = 0
    for _ in range(100):
        series = signal.lfilter([1.0], [1.0, -memory], rng.normal(size=n + 400))
        try:
            short += autocorrelation_time(series[400:]) < expected / 4
        except ValueError:  # "the time is a guess", in one of twenty
            continue
    assert short <= 2  # of 100; 20 where chance is taken as that of no memory


def test_values_that_do_not_vary_have_no_correlation_time():
    with pytest.raises(ValueError, match="10 values that do not vary"):
        autocorrelation_time(np.ones(10))


def test_a_trend_is_longer_than_the_series():
    with pytest.raises(ValueError, match="1000 values with a correlation time near"):
        autocorrelation_time(np.linspace(0.0, 1.0, 1000))


def test_replicas_are_averaged_like_independent_values():
    estimate = replica_average(np.array([1.0, 2.0, 3.0]))
    assert estimate.mean == pytest.approx(2.0)
    assert estimate.error == pytest.approx(1.0 / np.sqrt(3.0))


def test_one_replica_has_no_error():
    with pytest.raises(ValueError, match="1 replica gives no error bar"):
        profile_average(np.ones((1, 5)))


@pytest.mark.parametrize(
    ("mean", "error", "text"),
    [
        (300.07, 0.32, "300.1 ± 0.3"),
        (301.2, 12.3, "301.2 ± 12.3"),
        (2.1049, 0.052, "2.10 ± 0.05"),
        (-0.144812, 0.00013, "-0.1448 ± 0.0001"),
        (109.47, 0.0, "109.47 ± 0"),
    ],
)
def test_an_estimate_prints_the_first_digit_of_its_error(mean, error, text):
    assert str(Estimate(mean, error)) == text


@pytest.mark.statistical
@pytest.mark.parametrize("memory", [-0.5, -0.9])
def test_anticorrelated_values_have_a_short_time(memory):
    noise = np.random.default_rng(8).normal(size=200_000)
    series = signal.lfilter([1.0], [1.0, -memory], noise)
    time = autocorrelation_time(series)
    assert 0 < time == pytest.approx(0.5 + memory / (1 - memory), abs=0.03)


@pytest.mark.statistical
def test_an_oscillation_cancels_over_its_whole_length():
    """Its first quarter alone is thirty times as long."""
    period, decay = 20.0, 50.0
    width, angle = np.exp(-1 / decay), 2 * np.pi / period
    poles = [1.0, -2 * width * np.cos(angle), width**2]
    noise = np.random.default_rng(8).normal(size=200_000)
    series = signal.lfilter([1.0], poles, noise)
    answer = signal.lfilter([1.0], poles, np.eye(1, 5000)[0])
    exact = answer.sum() ** 2 / (2 * np.square(answer).sum())
    assert autocorrelation_time(series) == pytest.approx(exact, abs=0.2)


def test_an_oscillation_as_long_as_the_series_has_a_time():
    time = autocorrelation_time(np.cos(0.3 * np.arange(1500)))
    assert 0 < time < 20
