"""The sheet of figures: what a reader finds on it."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.observables import observe
from trajcast_ase.validation.report import Report, Row, compare
from trajcast_ase.validation.row_panel import SIGNS
from trajcast_ase.validation.row_text import short_limit, short_number
from trajcast_ase.validation.sheet import report_sheet

from .conftest import PIECE_FS, drawn_frames


@pytest.fixture(scope="module")
def report() -> Report:
    """Return a report with passes and failures, of numbers, curves and bonds."""
    from ase.build import molecule  # noqa: PLC0415

    methane = molecule("CH4")
    reference = observe(drawn_frames(methane, 1), PIECE_FS)
    run = drawn_frames(methane, 2, kelvin=420.0)
    run.velocities[:, 1:] *= np.sin(np.arange(run.n_frames))[:, None, None]
    run.positions[-1, 1] += 2.0
    return compare(observe(run, PIECE_FS, topology=reference.topology), reference)


@pytest.fixture(scope="module")
def sheet(report: Report) -> Figure:
    """Return its sheet."""
    return report_sheet(report)


def panels(figure: Figure | SubFigure) -> list[Axes]:
    return [*figure.axes, *(a for one in figure.subfigs for a in panels(one))]


def test_every_row_has_its_verdict_in_word_and_sign(report, sheet):
    bars, columns = panels(sheet.subfigs[0])
    verdicts = [row.verdict for row in report.rows]
    assert {Verdict.PASS, Verdict.FAIL} <= set(verdicts)
    written = sorted((t.get_position()[1], t.get_text()) for t in columns.texts)
    words = [text for _, text in written if text in set(Verdict)]
    assert words == verdicts
    markers = [line.get_marker() for line in columns.lines]
    assert markers == [SIGNS[verdict].marker for verdict in verdicts]
    labels = [label.get_text() for label in bars.get_yticklabels()]
    assert [label.split(" (")[0] for label in labels[: len(verdicts)]] == [
        row.observable.split(" (")[0] for row in report.rows
    ]


def test_verdicts_are_told_apart_without_colors():
    assert len({sign.marker for sign in SIGNS.values()}) == len(Verdict) == len(SIGNS)


def test_bars_beyond_the_limit_are_the_rows_that_do_not_pass(report, sheet):
    bars = panels(sheet.subfigs[0])[0]
    lengths = [bar.get_width() for bar in bars.patches[-len(report.rows) :]]
    assert np.isfinite(lengths).all()
    for row, length in zip(report.rows, lengths, strict=True):
        assert (abs(length) > 1.0) == (not row.passes), row.observable
    broken = {row.observable: row for row in report.rows}["longest bond C-H"]
    assert not broken.passes
    assert broken.share > 1.0


def test_every_curve_shows_its_overlap_both_curves_and_units(report, sheet):
    shown = {axes.get_ylabel(): axes for axes in panels(sheet.subfigs[1])}
    rows = [row for row in report.rows if row.observable.startswith("overlap of ")]
    assert rows
    for row in rows:
        name = row.observable.removeprefix("overlap of ")
        (axes,) = (one for label, one in shown.items() if label.split(" (")[0] == name)
        title = axes.get_title(loc="left")
        assert str(row.verdict) in title
        assert f"{row.value:.4g}" in title
        assert short_limit(row) in title
        behind, front = axes.lines
        assert behind.get_linewidth() > 2 * front.get_linewidth()
        assert "(" in axes.get_xlabel()
        assert "per cm" in axes.get_ylabel()


def test_temperatures_that_fail_stand_out(report, sheet):
    (axes,) = (
        one for one in panels(sheet.subfigs[1]) if one.get_ylabel() == "temperature (K)"
    )
    failing = [line for line in axes.lines if line.get_marker() == "X"]
    hot = [
        row
        for row in report.rows
        if row.observable.startswith("temperature")
        and " at " not in row.observable
        and row.verdict is Verdict.FAIL
    ]
    assert hot
    drawn = [float(line.get_ydata()[0]) for line in failing if len(line.get_ydata())]
    assert drawn == [row.value for row in hot]
    assert "fail" in [text.get_text() for text in axes.get_legend().get_texts()]


def row_with(value: float, allowed: float, verdict: Verdict) -> Row:
    return Row("x", "", value, None, 0.0, None, "", allowed, None, verdict, None)


def test_no_difference_allowed():
    assert row_with(0.0, 0.0, Verdict.PASS).share == 0.0
    assert row_with(-2.0, 0.0, Verdict.PASS).share == 0.0
    assert row_with(2.0, 0.0, Verdict.FAIL).share == np.inf


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.55615, 0.00003, "2.55615(3)"),
        (299.6, 1.2, "300(1)"),
        (313.7, 55.0, "314(55)"),
        (0.94921, None, "0.9492"),
        (114.58, 0.0999, "114.58(10)"),
    ],
)
def test_errors_in_brackets(value, error, text):
    assert short_number(value, error) == text
