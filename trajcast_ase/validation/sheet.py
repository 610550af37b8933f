"""One sheet of figures about a run beside its reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trajcast_ase.analysis.blocks import profile_average, replica_average
from trajcast_ase.analysis.plots.style import (
    INK,
    REFERENCE,
    RUN,
    finish,
    legend_style,
)
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.quantities import Curve
from trajcast_ase.validation.report import Report, Row

COLUMNS = 3
PANEL_INCHES = (4.0, 2.9)
VERDICT_COLORS = {
    Verdict.PASS: "#7a8794",
    Verdict.FAIL: "#b3261e",
    Verdict.DOUBTFUL: "#e8a29c",
}
ROW_INCHES = 0.14
MARGIN_INCHES = 0.9


def report_sheet(report: Report) -> Figure:
    """Return temperatures, structure, and every curve that was compared.

    Bands and bars are standard errors from the pieces of each run.
    """
    names = [name for name in report.run.curves if name in report.reference.curves]
    rows = [row for row in report.rows if row.error and row.reference_error]
    n_rows = -(-(1 + len(names)) // COLUMNS)
    height = max(n_rows * PANEL_INCHES[1], len(rows) * ROW_INCHES + MARGIN_INCHES)
    size = (COLUMNS + 1) * PANEL_INCHES[0], height
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    grid = figure.add_gridspec(n_rows, COLUMNS + 1)
    _draw_deviations(figure.add_subplot(grid[:, 0]), rows)
    _draw_temperatures(figure.add_subplot(grid[0, 1]), report)
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(grid[number // COLUMNS, 1 + number % COLUMNS])
        _draw_curve(axes, name, report.run.curves[name], report.reference.curves[name])
    figure.suptitle(
        f"{report.run.conditions.formula}, {report.run.length_ps:.4g} ps: "
        f"{report.verdict}",
        x=0.012,
        ha="left",
        fontsize=12,
        color=INK,
        weight="bold",
    )
    return figure


def _draw_temperatures(axes: Axes, report: Report) -> None:
    """Draw the temperature of all and of each element, with error bars."""
    names = [
        name
        for name in report.run.scalars
        if name.startswith("temperature") and name in report.reference.scalars
    ]
    places = np.arange(len(names))
    for shift, observables, color, label in (
        (-0.1, report.reference, REFERENCE, "reference"),
        (0.1, report.run, RUN, "run"),
    ):
        values = [replica_average(observables.scalars[name].pieces) for name in names]
        axes.errorbar(
            places + shift,
            [value.mean for value in values],
            yerr=[value.error for value in values],
            fmt="o",
            ms=4,
            capsize=3,
            color=color,
            label=label,
        )
    axes.set_xticks(
        places,
        [
            name.removeprefix("temperature of ").replace("temperature", "all")
            for name in names
        ],
    )
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("temperature (K)")
    finish(axes)
    axes.legend(**legend_style())


def _draw_deviations(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the difference of every number in standard errors of the difference."""
    deviations = [
        (row.value - row.reference)
        / np.hypot(row.error or 0.0, row.reference_error or 0.0)
        for row in rows
    ]
    places = np.arange(len(rows))
    axes.axvline(0.0, color=INK, lw=0.8)
    for verdict, color in VERDICT_COLORS.items():
        chosen = [k for k, row in enumerate(rows) if row.verdict is verdict]
        if chosen:
            lengths = [deviations[k] for k in chosen]
            axes.barh(chosen, lengths, color=color, height=0.7, label=verdict)
    axes.set_yticks(places, [row.observable for row in rows], fontsize=6.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("(run - reference) / standard error")
    finish(axes)
    axes.legend(**legend_style())


def _draw_curve(axes: Axes, name: str, run: Curve, reference: Curve) -> None:
    for curve, color, label in (
        (reference, REFERENCE, "reference"),
        (run, RUN, "run"),
    ):
        mean, error = profile_average(curve.pieces)
        axes.fill_between(
            curve.x, mean - error, mean + error, color=color, alpha=0.3, lw=0
        )
        axes.plot(curve.x, mean, color=color, lw=1.1, label=label)
    axes.set(xlim=(0.0, run.x[-1]), xlabel=run.axis, ylabel=name)
    axes.set_ylim(bottom=0.0)
    finish(axes)
    axes.legend(**legend_style())
