"""Parity plots: forecast against true components."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from trajcast_ase.analysis.parity import Parity
from trajcast_ase.analysis.plots.style import (
    INK,
    element_colors,
    finish,
    legend_style,
)

MOST_POINTS = 5000


def draw_parity(axes: Axes, result: Parity) -> None:
    """Draw forecast against true components, one color for each element.

    At most 5 000 evenly chosen points of each element are drawn; the errors in the
    legend are those of all.
    """
    colors = element_colors(list(result.by_element))
    limit = 1.05 * result.limit
    axes.plot((-limit, limit), (-limit, limit), color=INK, lw=0.8, zorder=3)
    for name, pairs in result.by_element.items():
        every = int(np.ceil(len(pairs) / MOST_POINTS))
        axes.scatter(
            pairs[::every, 0],
            pairs[::every, 1],
            s=3,
            alpha=0.35,
            lw=0,
            color=colors[name],
            rasterized=True,
            label=(
                f"{name}: {result.mae[name]:.2g} {result.unit}, "
                f"{100 * result.relative_mae[name]:.2g} %"
            ),
        )
    axes.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xlabel=f"true {result.name} ({result.unit})",
        ylabel=f"forecast {result.name} ({result.unit})",
        aspect="equal",
    )
    finish(axes)
    axes.legend(loc="upper left", markerscale=3, **legend_style())
