"""All rows of a report in one panel: sign, deviation, values, limit and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from trajcast_ase.analysis.plots.style import FAINT, INK, finish
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.report import Row
from trajcast_ase.validation.row_text import cells, short_limit, short_number

ROW_INCHES = 0.145
SMALL = 6.5
"""Size of letters of a row."""
WIDEST = 3.0
"""Limits that the axis shows at most; longer bars end there."""
NARROWEST = 1.3
MARKER_SIZE = 4.5
RAISED = 1.6
"""Size of markers that must catch the eye among others, over that of these."""
COLUMNS = {"run": 0.20, "reference": 0.43, "limit": 0.67, "verdict": 0.73}
"""Right edges of the columns of numbers, and the left one of the verdict."""
SIGN = 0.705
TEXT_SHARE = 1.15
"""Width of the columns over that of the bars."""


@dataclass(frozen=True, slots=True)
class Sign:
    """How a verdict is drawn, told apart without colors too.

    Attributes
    ----------
    color, marker : str
    filled : bool
    """

    color: str
    marker: str
    filled: bool


SIGNS = {
    Verdict.PASS: Sign("#7a8794", "o", filled=True),
    Verdict.DOUBTFUL: Sign("#c77d1e", "D", filled=False),
    Verdict.FAIL: Sign("#b3261e", "X", filled=True),
}


def draw_rows(figure: SubFigure, rows: Sequence[Row]) -> None:
    """Draw every row: its deviation over what is allowed, and its numbers beside it."""
    bars, numbers = figure.subplots(
        1, 2, sharey=True, width_ratios=(1.0, TEXT_SHARE), gridspec_kw={"wspace": 0.0}
    )
    _draw_bars(bars, rows)
    _write_columns(numbers, rows)


def _draw_bars(axes: Axes, rows: Sequence[Row]) -> None:
    shares = [row.share for row in rows]
    most = max((abs(one) for one in shares), default=0.0)
    edge = float(np.clip(1.1 * most, NARROWEST, WIDEST))
    axes.axvspan(-1.0, 1.0, color=FAINT, alpha=0.5, lw=0, zorder=0)
    axes.axvline(0.0, color=INK, lw=0.8)
    colors = [SIGNS[row.verdict].color for row in rows]
    axes.barh(range(len(rows)), np.clip(shares, -edge, edge), color=colors, height=0.5)
    axes.set_xlim(-edge, edge)
    axes.set_ylim(len(rows) - 0.4, -1.6)
    axes.set_xlabel("(run - reference) / limit")
    finish(axes)
    axes.grid(visible=False, axis="y")
    names = [cells(row)[0] for row in rows]
    labels = axes.set_yticks(range(len(rows)), names, fontsize=SMALL)
    for label, row in zip(labels, rows, strict=True):
        label.label1.set_color(_ink(row))


def _ink(row: Row) -> str:
    return INK if row.passes else SIGNS[row.verdict].color


def marker_style(verdict: Verdict, color: str | None = None) -> dict[str, Any]:
    """Return the keywords of markers for a verdict.

    `color` is that of what passes, among other markers, where the rest stands out.
    """
    sign = SIGNS[verdict]
    raised = color is not None and verdict is not Verdict.PASS
    chosen = sign.color if color is None or raised else color
    return {
        "marker": sign.marker,
        "ms": MARKER_SIZE * (RAISED if raised else 1.0),
        "color": chosen,
        "mfc": chosen if sign.filled else "white",
    }


def _write_columns(axes: Axes, rows: Sequence[Row]) -> None:
    """Write value, reference, limit and verdict of each row, and draw its sign."""
    axes.set_axis_off()
    axes.set_xlim(0.0, 1.0)
    for title, x in COLUMNS.items():
        side = "left" if title == "verdict" else "right"
        style: dict[str, Any] = {"ha": side, "va": "center", "fontsize": SMALL}
        style["in_layout"] = False  # hundreds of texts, which lie within the axes
        axes.text(x, -1.0, title, color=INK, weight="bold", **style)
        for k, row in enumerate(rows):
            value = short_number(row.value, row.error)
            reference = short_number(row.reference, row.reference_error)
            texts = value, reference, short_limit(row), row.verdict
            written = dict(zip(COLUMNS, texts, strict=True))[title]
            axes.text(x, k, written, color=_ink(row), **style)
    for k, row in enumerate(rows):
        axes.plot([SIGN], [k], ls="", **marker_style(row.verdict))
