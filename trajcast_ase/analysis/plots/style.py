"""Colors and frames that all figures share, without matplotlib's global state."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

RUN = "#1f6f8b"
REFERENCE = "#e07a3f"
INK = "#2b2d33"
FAINT = "#d9dbe0"
# For elements; told apart by readers who do not see red and green.
ELEMENT_COLORS = ("#1f6f8b", "#e07a3f", "#5b8c5a", "#8a5a9e", "#b08a2e", "#7a7d85")
BAND = 0.28
"""Opacity of error bands."""


def single_figure(width_in: float = 5.2, height_in: float = 3.6) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, to draw on."""
    figure = Figure(figsize=(width_in, height_in), dpi=160, layout="constrained")
    return figure, figure.add_subplot()


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` in the format that the suffix of `path` names."""
    figure.savefig(path)


def element_colors(names: list[str]) -> dict[str, str]:
    """Return a color for each name; they repeat after six."""
    n_colors = len(ELEMENT_COLORS)
    return {name: ELEMENT_COLORS[i % n_colors] for i, name in enumerate(names)}


def finish(axes: Axes) -> None:
    """Give the axes a quiet frame and grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set(color=INK, fontsize=9)
    axes.yaxis.label.set(color=INK, fontsize=9)
    axes.grid(color=FAINT, lw=0.5, zorder=0)
    axes.set_axisbelow(True)


def legend_style() -> dict[str, object]:
    """Return the keywords of a legend without a frame."""
    return {"frameon": False, "fontsize": 8, "labelcolor": INK}
