"""One sheet of figures about a run beside its reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trajcast_ase.analysis.blocks import profile_average
from trajcast_ase.analysis.plots.style import (
    FAINT,
    INK,
    REFERENCE,
    RUN,
    element_colors,
    finish,
    legend_style,
)
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.quantities import WAVENUMBER, Curve
from trajcast_ase.validation.report import Report, Row

COLUMNS = 3
BAND = " at "
"""In the name of a temperature of a band."""
PANEL_INCHES = (4.0, 2.9)
VERDICT_COLORS = {
    Verdict.PASS: "#7a8794",
    Verdict.FAIL: "#b3261e",
    Verdict.DOUBTFUL: "#e8a29c",
}
ROW_INCHES = 0.14
MARGIN_INCHES = 0.9


def report_sheet(report: Report) -> Figure:
    """Return deviations, temperatures by element and band, and every curve compared.

    Bands and bars are standard errors from the pieces, of all runs of a side.
    """
    names = [name for name in report.run.curves if name in report.reference.curves]
    rows = [row for row in report.rows if row.error and row.reference_error]
    n_rows = -(-(2 + len(names)) // COLUMNS)
    height = max(n_rows * PANEL_INCHES[1], len(rows) * ROW_INCHES + MARGIN_INCHES)
    size = (COLUMNS + 1) * PANEL_INCHES[0], height
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    grid = figure.add_gridspec(n_rows, COLUMNS + 1)
    _draw_deviations(figure.add_subplot(grid[:, 0]), rows)
    _draw_temperatures(figure.add_subplot(grid[0, 1]), report)
    _draw_bands(figure.add_subplot(grid[0, 2]), report)
    for number, name in enumerate(names, 2):
        axes = figure.add_subplot(grid[number // COLUMNS, 1 + number % COLUMNS])
        _draw_curve(axes, name, report.run.curves[name], report.reference.curves[name])
    figure.suptitle(
        f"{report.run.conditions.formula}, {report.size}: {report.verdict}",
        x=0.012,
        ha="left",
        fontsize=12,
        color=INK,
        weight="bold",
    )
    return figure


def _draw_temperatures(axes: Axes, report: Report) -> None:
    """Draw the temperature of all and of each element, with error bars."""
    rows = [
        row
        for row in report.rows
        if row.observable.startswith("temperature") and BAND not in row.observable
    ]
    places = np.arange(len(rows))
    for shift, values, color, label in (
        (
            -0.1,
            [(r.reference, r.reference_error) for r in rows],
            REFERENCE,
            "reference",
        ),
        (0.1, [(r.value, r.error) for r in rows], RUN, "run"),
    ):
        means, errors = zip(*values, strict=True)
        axes.errorbar(
            places + shift,
            means,
            yerr=errors,
            fmt="o",
            ms=4,
            capsize=3,
            color=color,
            label=label,
        )
    names = [_group(row) for row in rows]
    axes.set_xticks(places, names)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylabel("temperature (K)")
    finish(axes)
    axes.legend(**legend_style())


def _draw_bands(axes: Axes, report: Report) -> None:
    """Draw the temperature of each band of frequency, of all and of each element.

    The run over the reference, with the error of their difference.
    """
    rows = [row for row in report.rows if BAND in row.observable]
    edges = report.reference.bands_cm
    middles = {
        f"{low:.0f}-{high:.0f}": 0.5 * (low + high) for low, high in pairwise(edges)
    }
    groups = list(dict.fromkeys(map(_group, rows)))
    colors = {"all": INK} | element_colors([name for name in groups if name != "all"])
    width = edges[-1] / len(middles)
    for number, name in enumerate(groups):
        chosen = [row for row in rows if _group(row) == name]
        bands = [row.observable.split(BAND)[1].split()[0] for row in chosen]
        shift = (number - 0.5 * (len(groups) - 1)) * 0.06 * width
        axes.errorbar(
            [middles[band] + shift for band in bands],
            [row.value for row in chosen],
            yerr=[
                np.hypot(row.error or 0.0, row.reference_error or 0.0) for row in chosen
            ],
            fmt="o",
            ms=3.5,
            capsize=2,
            color=colors[name],
            label=name,
        )
    for edge in edges[1:-1]:
        axes.axvline(edge, color=FAINT, lw=0.8)
    if rows:
        axes.axhline(rows[0].reference, color=REFERENCE, lw=1.0, label="reference")
        axes.legend(**(legend_style() | {"ncols": 2}))
    axes.set_xlim(0.0, edges[-1])
    axes.set(xlabel=WAVENUMBER, ylabel="temperature of band (K)")
    finish(axes)


def _group(row: Row) -> str:
    """Return the element of a temperature, or "all"."""
    name = row.observable.split(BAND)[0].removeprefix("temperature")
    return name.removeprefix(" of ") or "all"


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
    unit = " (per cm⁻¹)" if run.axis == WAVENUMBER else ""
    axes.set(xlim=(0.0, run.x[-1]), xlabel=run.axis, ylabel=name + unit)
    axes.set_ylim(bottom=0.0)
    finish(axes)
    axes.legend(**legend_style())
