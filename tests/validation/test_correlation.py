"""Memory of neighboring pieces: what is estimated, and that the odds hold with it."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

from trajcast_ase.cli.app import app
from trajcast_ase.trajectory import Frames
from trajcast_ase.validation.correlation import (
    Memory,
    calibration,
    mean_variance,
    moments,
    remembering,
)
from trajcast_ase.validation.difference import (
    Verdict,
    curve_difference,
    number_difference,
)
from trajcast_ase.validation.observables import Observables, observe
from trajcast_ase.validation.quantities import Scalar
from trajcast_ase.validation.report import compare
from trajcast_ase.validation.sheet import report_sheet

from .conftest import PIECE_FS, drawn_frames, write

N_ROWS = 36
LEVEL = 0.05 / N_ROWS
"""Of a row in a report on water."""
SIDES = (20,), (40,)


def series(sides, share: float, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Return both sides of a number that keeps a share of each piece."""
    return [
        [remembering((1, length, 1), share, rng)[0, :, 0] for length in side]
        for side in sides
    ]


def test_correlation_is_that_of_neighbors_within_runs():
    rng = np.random.default_rng(1)
    sides = [[rng.normal(size=(n, 3)) for n in lengths] for lengths in ((5, 7), (9,))]
    above = below = 0.0
    for runs in sides:
        mean = np.concatenate(runs).mean(axis=0)
        for run in runs:
            away = run - mean
            above += sum(one @ two for one, two in pairwise(away))
            below += sum(one @ one for one in away)
    found = moments(sides)
    assert found.correlation == pytest.approx(above / below)
    assert found.scatter == pytest.approx(np.sqrt(below / (3 * 19)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_variance_of_means(share):
    rng = np.random.default_rng(2)
    runs = [remembering((4000, length, 1), share, rng) for length in (6, 10)]
    means = np.concatenate(runs, axis=1).mean(axis=(1, 2))
    # 4000 values give a variance to 2.2 %.
    assert means.var() == pytest.approx(mean_variance((6, 10), share), rel=0.1)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_memory_is_found_without_bias_and_bounded(share):
    known, rng = calibration(SIDES, LEVEL), np.random.default_rng(3)
    found = []
    for _ in range(400):
        one, other = series(SIDES, share, rng)
        sides = [[run[:, None] for run in side] for side in (one, other)]
        found.append(known.memory(moments(sides)))
    # The median of 400 lies within 7 % of the ranks.
    low, high = np.quantile([one.share for one in found], [0.42, 0.58])
    assert low <= share + 0.02
    assert high >= share - 0.02
    # Binomial(400, 0.02): more than 18 happen once in 1000 times.
    assert sum(one.highest < share for one in found) <= 18


def naive_fails(run, reference) -> bool:
    """Return the verdict of a test that knows of no memory."""
    one, other = np.concatenate(run), np.concatenate(reference)
    error = np.hypot(*(x.std(ddof=1) / np.sqrt(len(x)) for x in (one, other)))
    return bool(abs(one.mean() - other.mean()) > norm.isf(LEVEL / 2) * error)


@pytest.mark.statistical
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5])
def test_reports_of_one_ensemble_fail_in_five_percent_at_most(share):
    rng = np.random.default_rng(4)
    n_reports, failed, naive = 200, 0, 0
    for _ in range(n_reports):
        sides = [series(SIDES, share, rng) for _ in range(N_ROWS)]
        verdicts = [number_difference(*both, LEVEL).verdict for both in sides]
        failed += Verdict.FAIL in verdicts
        naive += any(naive_fails(*both) for both in sides)
    # Binomial(200, 0.05): more than 20 happen once in 700 times.
    assert failed <= 20
    # The wrong twin takes the pieces as independent; its odds are 40 % and more.
    assert (naive > 40) == (share > 0)


@pytest.mark.statistical
def test_curves_of_one_ensemble_fail_in_five_percent_at_most():
    rng = np.random.default_rng(5)
    n_rows, failed, apart = 100, 0, 0
    for _ in range(n_rows):
        run, reference = (
            [1.0 + 0.1 * remembering((1, n, 40), 0.4, rng)[0]] for (n,) in SIDES
        )
        # One row at 5 %.
        failed += curve_difference(run, reference, 0.05).verdict is Verdict.FAIL
        run[0] = run[0] + 0.15 * np.sin(np.arange(40) / 3)
        apart += curve_difference(run, reference, 0.05).verdict is Verdict.FAIL
    # Binomial(100, 0.05): more than 12 happen once in 700 times.
    assert failed <= 12
    assert apart == n_rows


@pytest.mark.statistical
def test_what_is_said_to_be_seen_fails():
    rng = np.random.default_rng(6)
    seen, firm = [], []
    for _ in range(200):
        run, reference = series(SIDES, 0.3, rng)
        seen.append(number_difference(run, reference, LEVEL).seen)
    shift = np.median(seen)
    for _ in range(200):
        run, reference = series(SIDES, 0.3, rng)
        found = number_difference([run[0] + shift], reference, LEVEL)
        firm.append(found.verdict is Verdict.FAIL)
    # Binomial(200, 0.8): outside of 68 to 90 % once in 10 000 times; the median of what
    # is seen depends on the memory that is found.
    assert 0.65 < np.mean(firm) < 0.92
    # Known scatter and memory would need this much; a third more is lost.
    error = np.sqrt(sum(mean_variance(side, 0.3) for side in SIDES))
    assert shift < 1.5 * error * (norm.isf(LEVEL / 2) + norm.ppf(0.8))


def test_runs_that_scatter_widen_the_error_bars():
    rng = np.random.default_rng(7)
    sides = [10] * 4, [10] * 6
    runs, reference = (
        [rng.normal(size=n) + 3 * rng.normal() for n in side] for side in sides
    )
    found = number_difference(runs, reference, LEVEL)
    assert found.memory.runs_differ
    # Means of four and six runs, each with the scatter of a run.
    assert found.errors[0] == pytest.approx(3 / np.sqrt(4), rel=0.6)
    alike = [one - one.mean() for one in runs], [one - one.mean() for one in reference]
    calm = number_difference(*alike, LEVEL)
    assert not calm.memory.runs_differ
    assert calm.errors[0] < found.errors[0] / 3
    assert found.verdict is not Verdict.FAIL


def test_one_run_a_side_tells_nothing_of_runs():
    rng = np.random.default_rng(8)
    memory = number_difference(*series(SIDES, 0.0, rng), LEVEL).memory
    assert (memory.run_scatter, memory.runs_differ) == (None, False)


def test_constant_pieces_differ_by_nothing():
    found = number_difference([np.ones(8)], [np.ones(8)], LEVEL)
    assert (found.value, found.limit, found.verdict) == (0.0, 0.0, Verdict.PASS)
    curve = np.ones((8, 5))
    assert curve_difference([curve], [curve], LEVEL).verdict is Verdict.PASS


@pytest.mark.parametrize("n_pieces", [4, 20])
def test_constants_that_differ_fail(n_pieces):
    found = number_difference([np.ones(n_pieces)], [np.zeros(n_pieces)], LEVEL)
    assert (found.firm_limit, found.seen, found.verdict) == (0.0, 0.0, Verdict.FAIL)
    curve = np.ones((n_pieces, 5))
    other = curve * np.arange(5)
    assert curve_difference([other], [curve], LEVEL).verdict is Verdict.FAIL


def test_a_drift_all_along_cannot_fail():
    """Memory as long as the run leaves no limit: such a row is not trustworthy."""
    drift = np.arange(20.0) + np.random.default_rng(9).normal(size=20)
    found = number_difference([drift + 40.0], [drift], LEVEL)
    assert found.memory.highest == np.inf
    assert found.firm_limit == np.inf
    assert found.verdict is Verdict.DOUBTFUL


def heated(frames: Frames) -> Frames:
    """Return frames whose temperature rises all along, by a factor of four."""
    ramp = np.linspace(1.0, 2.0, frames.n_frames)[:, None, None]
    return replace(frames, velocities=ramp * frames.velocities)


def with_temperature(observables: Observables, pieces: np.ndarray) -> Observables:
    """Return observables with another temperature of each piece."""
    scalars = observables.scalars | {"temperature": Scalar("K", pieces)}
    return replace(observables, scalars=scalars)


@pytest.fixture
def drifting(methane, tmp_path) -> tuple[Path, Path]:
    """Return a run and its reference, both heated, the run from a higher start."""
    hot = heated(drawn_frames(methane, 1, kelvin=1200.0, n_pieces=20))
    cold = heated(drawn_frames(methane, 2, n_pieces=20))
    return write(hot, tmp_path / "hot.h5"), write(cold, tmp_path / "cold.h5")


def test_failures_of_rows_without_memory_are_firm(methane):
    cold = observe(drawn_frames(methane, 1, n_pieces=20), PIECE_FS)
    hot = observe(drawn_frames(methane, 2, n_pieces=20, kelvin=400.0), PIECE_FS)
    report = compare(hot, cold)
    rows = {row.observable: row for row in report.rows}
    assert rows["temperature"].verdict is Verdict.FAIL
    assert f"{report.n_failed} of {len(report.rows)} rows fail" in report.verdict


def test_every_output_tells_of_memory(drifting, tmp_path):
    run, reference = map(str, drifting)
    out = tmp_path / "report"
    options = ["--piece", str(PIECE_FS * 1e-3), "--out", str(out)]
    outcome = CliRunner().invoke(
        app, ["validate", run, "--reference", reference, *options]
    )
    assert outcome.exit_code == 3, outcome.output
    printed = " ".join(outcome.output.split())
    table = (out / "report.md").read_text("utf-8")
    content = json.loads((out / "report.json").read_text("utf-8"))
    for text in (printed, table, content["memory"]):
        assert "a piece keeps more than a third of the one before it" in text
        assert "temperature of H 0.9" in text
    for text in (printed, table, content["verdict"]):
        assert "not trustworthy" in text
    rows = {row["observable"]: row for row in content["rows"]}
    assert rows["temperature"]["verdict"] == Verdict.DOUBTFUL
    assert rows["temperature"]["passes"] is False
    assert rows["temperature"]["seen"] is None  # no deviation must fail
    assert rows["temperature"]["memory"]["share"] > 0.5
    assert rows["longest bond C-H"]["memory"] is None
    assert rows["bond C-H"]["verdict"] == Verdict.PASS


def test_memory_and_runs_are_named(methane):
    both = observe(drawn_frames(methane, 1, n_pieces=30), PIECE_FS)
    rng = np.random.default_rng(3)
    slow = [remembering((1, 30, 1), 0.8, rng)[0, :, 0] + 300.0 for _ in range(2)]
    report = compare(*(with_temperature(both, one) for one in slow))
    assert "temperature 0." in report.memory
    assert report.verdict in report_sheet(report).get_suptitle()
    assert Memory(0.0, 0.4).shows is False
    assert Memory(0.2, 0.5).shows is True
