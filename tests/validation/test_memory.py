"""Memory of neighboring pieces: found where it is, and not where it is not."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from trajcast_ase.validation.memory import Memory, memory
from trajcast_ase.validation.permutation import Verdict
from typer.testing import CliRunner

from trajcast_ase.cli.app import app
from trajcast_ase.training.trajectory import Frames
from trajcast_ase.validation.inputs import observe_both, read_run
from trajcast_ase.validation.observables import Observables, Scalar, observe
from trajcast_ase.validation.report import Report, compare
from trajcast_ase.validation.sheet import report_sheet

from .conftest import PIECE_FS, drawn_frames, write

LEVEL = 0.05 / 17
"""Of a row in a report on water."""


def remembering(n_pieces: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return an AR(1) series of unit variance, one number for each piece."""
    values = rng.normal(size=n_pieces)
    for k in range(1, n_pieces):
        values[k] = share * values[k - 1] + np.sqrt(1 - share**2) * values[k]
    return values[:, None]


def curves(n_pieces: int, rng: np.random.Generator) -> np.ndarray:
    """Return skewed curves without memory, whose bins are correlated."""
    deviates = rng.normal(size=(n_pieces, 30))
    return np.exp(deviates + np.roll(deviates, 1, axis=1))


def test_correlation_is_that_of_neighbors():
    rng = np.random.default_rng(1)
    runs = [rng.normal(size=(n, 3)) for n in (5, 7)]
    above = below = 0.0
    for pieces in runs:
        away = pieces - pieces.mean(axis=0)
        below += sum(one @ one for one in away)
        above += sum(one @ two for one, two in pairwise(away))
        above += sum(one @ one for one in away) / len(away)
    assert memory(runs, LEVEL).correlation == pytest.approx(above / below)


def test_strong_memory_shows():
    # An AR(1) series that keeps 0.9 of each piece: 20 and 30 pieces are ample.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = memory([remembering(n, 0.9, rng) for n in (20, 30)], LEVEL)
        assert found.shows
        assert found.correlation > 0.4


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["numbers", "curves"])
def test_pieces_without_memory_show_it_with_the_stated_odds(kind):
    count = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        # Another mean of the two runs is no memory.
        runs = [
            shift + (rng.normal(size=(n, 1)) if kind == "numbers" else curves(n, rng))
            for n, shift in ((8, 0.0), (12, 5.0))
        ]
        count += memory(runs, 0.05).shows
    # Binomial(200, 0.05): more than 20, or none, happen less than once in 500.
    assert 0 < count <= 20


def test_few_pieces_say_nothing():
    drift = np.arange(4.0)[:, None]  # 12 orders, and this is the most alike
    assert not memory([drift], LEVEL).shows
    assert memory([np.arange(12.0)[:, None]], LEVEL).shows


def test_constant_pieces_remember_nothing():
    found = memory([np.ones((8, 1)), np.ones((8, 1))], LEVEL)
    assert (found.correlation, found.shows) == (0.0, False)
    assert found.widening == 1.0


def test_memory_widens_the_scatter_of_means():
    rng = np.random.default_rng(1)
    means = [remembering(400, 0.6, rng).mean() for _ in range(500)]
    # 500 values give their standard deviation to 3 %.
    assert np.std(means) * 20 == pytest.approx(Memory(0.4, 0.2).widening, rel=0.12)
    assert Memory(0.8, 0.3).widening == np.inf
    assert Memory(0.2, 0.3).widening == 1.0


def heated(frames: Frames) -> Frames:
    """Return frames whose temperature rises all along, by a factor of four."""
    ramp = np.linspace(1.0, 2.0, frames.n_frames)[:, None, None]
    return replace(frames, velocities=ramp * frames.velocities)


def with_temperature(observables: Observables, pieces: np.ndarray) -> Observables:
    """Return observables with another temperature of each piece."""
    scalars = observables.scalars | {"temperature": Scalar("K", pieces)}
    return replace(observables, scalars=scalars)


def verdicts(report: Report) -> dict[str, Verdict]:
    """Return the verdict on each observable."""
    return {row.observable: row.verdict for row in report.rows}


@pytest.fixture
def drifting(methane, tmp_path) -> tuple[Path, Path]:
    """Return a run and its reference, both heated, the run from a higher start."""
    hot = heated(drawn_frames(methane, 1, kelvin=700.0))
    cold = heated(drawn_frames(methane, 2))
    return write(hot, tmp_path / "hot.h5"), write(cold, tmp_path / "cold.h5")


def test_failures_of_remembering_rows_are_marked_and_still_fail(drifting):
    run, reference = (read_run(path) for path in drifting)
    report = compare(*observe_both(run, reference, PIECE_FS * 1e-3))
    found = verdicts(report)
    assert not report.passes
    assert found["temperature"] == found["temperature of H"] == Verdict.DOUBTFUL
    assert found["bond C-H"] == found["longest bond C-H"] == Verdict.PASS
    n_doubtful = list(found.values()).count(Verdict.DOUBTFUL)
    assert f"rows fail, {n_doubtful} of them not trustworthy" in report.verdict
    assert "temperature of H 0." in report.memory
    assert "longer pieces" in report.memory
    assert report.verdict in report_sheet(report).get_suptitle()


def test_differences_beyond_memory_are_not_excused(methane):
    cold = observe(drawn_frames(methane, 1, n_pieces=30), PIECE_FS)
    hot = observe(drawn_frames(methane, 2, n_pieces=30), PIECE_FS)
    rng = np.random.default_rng(3)
    series = [remembering(30, 0.6, rng)[:, 0] for _ in range(2)]
    for shift, verdict in ((1.5, Verdict.DOUBTFUL), (20.0, Verdict.FAIL)):
        runs = [
            with_temperature(cold, series[0]),
            with_temperature(hot, series[1] + shift),
        ]
        report = compare(*runs)
        assert "temperature 0." in report.memory
        assert verdicts(report)["temperature"] == verdict


def test_failures_of_rows_without_memory_are_not_marked(methane):
    cold = observe(drawn_frames(methane, 1), PIECE_FS)
    hot = observe(drawn_frames(methane, 2, kelvin=400.0), PIECE_FS)
    report = compare(hot, cold)
    assert verdicts(report)["temperature"] == Verdict.FAIL
    assert "trustworthy" not in report.verdict
    assert "No row shows a memory" in report.memory


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
    assert "**fail**, not trustworthy |" in table
    for text in (printed, table, content["memory"]):
        assert "Neighboring pieces remember each other" in text
    for text in (printed, table, content["verdict"]):
        assert "of them not trustworthy" in text
    rows = {row["observable"]: row for row in content["rows"]}
    assert rows["temperature"]["verdict"] == Verdict.DOUBTFUL
    assert rows["temperature"]["passes"] is False
    of_temperature = rows["temperature"]["memory"]
    assert of_temperature["correlation"] > of_temperature["limit"]
    assert rows["longest bond C-H"]["memory"] is None
