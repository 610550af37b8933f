"""One sheet of figures about a run beside its reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
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
from trajcast_ase.validation.row_panel import (
    ROW_INCHES,
    SIGNS,
    draw_rows,
    marker_style,
)
from trajcast_ase.validation.row_text import short_limit

BAND = " at "
"""In the name of a temperature of a band."""
PANEL_INCHES = (4.0, 2.9)
LIST_INCHES = 7.4
MARGIN_INCHES = 0.9
LEGEND_COLUMNS = 8
FEW = 4
"""Panels that stand in two columns, more in three."""


def report_sheet(report: Report) -> Figure:
    """Return all rows with their verdicts, temperatures, and every curve compared.

    Bands and bars are standard errors from the pieces, of all runs of a side.
    """
    names = [name for name in report.run.curves if name in report.reference.curves]
    columns = 2 if 2 + len(names) <= FEW else 3
    n_rows = -(-(2 + len(names)) // columns)
    listed = len(report.rows) * ROW_INCHES + MARGIN_INCHES
    size = (
        LIST_INCHES + columns * PANEL_INCHES[0],
        max(n_rows * PANEL_INCHES[1], listed),
    )
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    halves = figure.add_gridspec(
        1, 2, width_ratios=(LIST_INCHES, columns * PANEL_INCHES[0])
    )
    left, right = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    draw_rows(left, report.rows)
    grid = right.add_gridspec(n_rows, columns)
    _draw_temperatures(right.add_subplot(grid[0, 0]), report)
    _draw_bands(right.add_subplot(grid[0, 1]), report)
    verdicts = {row.observable: row for row in report.rows}
    for number, name in enumerate(names, 2):
        axes = right.add_subplot(grid[number // columns, number % columns])
        _draw_curve(axes, name, report.run.curves[name], report.reference.curves[name])
        _entitle(axes, verdicts[f"overlap of {name}"])
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
    axes.errorbar(
        places - 0.1,
        [row.reference for row in rows],
        yerr=[row.reference_error or 0.0 for row in rows],
        fmt="o",
        ms=4,
        capsize=3,
        color=REFERENCE,
        label="reference",
    )
    errors = [row.error or 0.0 for row in rows]
    _draw_points(axes, places + 0.1, rows, errors, (RUN, "run"))
    axes.set_xticks(places, [_group(row) for row in rows])
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylabel("temperature (K)")
    finish(axes)
    _name_verdicts(axes, rows)
    _legend_above(axes)


def _draw_points(
    axes: Axes,
    places: Float[np.ndarray, " rows"],
    rows: Sequence[Row],
    errors: Sequence[float],
    named: tuple[str, str],
) -> None:
    """Draw values with error bars, each with the marker of its verdict."""
    color, label = named
    values = [row.value for row in rows]
    axes.errorbar(places, values, yerr=errors, fmt="none", capsize=2, ecolor=color)
    for x, row in zip(places, rows, strict=True):
        axes.plot([x], [row.value], ls="", **marker_style(row.verdict, color))
    axes.plot([], [], ls="", label=label, **marker_style(Verdict.PASS, color))


def _name_verdicts(axes: Axes, rows: Sequence[Row]) -> None:
    """Name the markers of the verdicts that are not passes, where there are any."""
    for verdict in SIGNS:
        if verdict is not Verdict.PASS and any(one.verdict is verdict for one in rows):
            axes.plot([], [], ls="", label=verdict, **marker_style(verdict))


def _legend_above(axes: Axes) -> None:
    """Name the colors above the frame, where no point lies."""
    axes.legend(
        **legend_style(),
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=LEGEND_COLUMNS,
        columnspacing=0.8,
        handletextpad=0.1,
        borderaxespad=0.2,
    )


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
        errors = [
            float(np.hypot(row.error or 0.0, row.reference_error or 0.0))
            for row in chosen
        ]
        places = np.array([middles[band] + shift for band in bands])
        _draw_points(axes, places, chosen, errors, (colors[name], name))
    for edge in edges[1:-1]:
        axes.axvline(edge, color=FAINT, lw=0.8)
    if rows:
        axes.axhline(rows[0].reference, color=REFERENCE, lw=1.0, label="reference")
        _name_verdicts(axes, rows)
        _legend_above(axes)
    axes.set_xlim(0.0, edges[-1])
    axes.set(xlabel=WAVENUMBER, ylabel="temperature of band (K)")
    finish(axes)
    axes.grid(visible=False, axis="x")  # the edges of the bands stand there


def _group(row: Row) -> str:
    """Return the element of a temperature, or "all"."""
    name = row.observable.split(BAND)[0].removeprefix("temperature")
    return name.removeprefix(" of ") or "all"


def _entitle(axes: Axes, row: Row) -> None:
    """Write the verdict on a curve above it."""
    axes.set_title(
        f"overlap {row.value:.4g}, limit {short_limit(row)}: {row.verdict}",
        loc="left",
        fontsize=8,
        color=INK if row.passes else SIGNS[row.verdict].color,
        weight="normal" if row.passes else "bold",
    )


def _draw_curve(axes: Axes, name: str, run: Curve, reference: Curve) -> None:
    # The reference is broad, so that a run that lies upon it does not hide it.
    for curve, color, label, width in (
        (reference, REFERENCE, "reference", 2.6),
        (run, RUN, "run", 1.0),
    ):
        mean, error = profile_average(curve.pieces)
        axes.fill_between(
            curve.x, mean - error, mean + error, color=color, alpha=0.3, lw=0
        )
        axes.plot(curve.x, mean, color=color, lw=width, label=label)
    unit = " (per cm⁻¹)" if run.axis == WAVENUMBER else ""
    axes.set(xlim=(0.0, run.x[-1]), xlabel=run.axis, ylabel=name + unit)
    axes.set_ylim(bottom=0.0)
    finish(axes)
    axes.legend(**legend_style())
