"""Figures of structure: radial distributions, bonds, angles, energies."""

from __future__ import annotations

from matplotlib.axes import Axes

from trajcast_ase.analysis.distribution import Distribution
from trajcast_ase.analysis.plots.style import (
    BAND,
    FAINT,
    REFERENCE,
    RUN,
    finish,
    legend_style,
)
from trajcast_ase.analysis.rdf import RadialDistribution


def draw_rdf(
    axes: Axes,
    result: RadialDistribution,
    pair: str,
    reference: RadialDistribution | None = None,
) -> None:
    """Draw g(r) of `pair`, such as "H-O", with its error band."""
    axes.axhline(1.0, color=FAINT, lw=1.0, zorder=0)
    curves = [(reference, REFERENCE, "reference"), (result, RUN, "run")]
    for curve, color, label in curves:
        if curve is None:
            continue
        g, error = curve.g[pair], curve.g_error[pair]
        axes.fill_between(
            curve.distance, g - error, g + error, color=color, alpha=BAND, lw=0
        )
        axes.plot(curve.distance, g, color=color, lw=1.5, label=label)
    last = result.distance[-1] + result.bin_width / 2
    axes.set(xlabel="distance (Å)", ylabel=f"g(r), {pair}", xlim=(0.0, last))
    axes.set_ylim(bottom=0.0)
    finish(axes)
    axes.legend(**legend_style())


def draw_distribution(
    axes: Axes, result: Distribution, reference: Distribution | None = None
) -> None:
    """Draw a distribution with its error band."""
    curves = [(reference, REFERENCE, "reference"), (result, RUN, "run")]
    for curve, color, label in curves:
        if curve is None:
            continue
        low, high = curve.density - curve.error, curve.density + curve.error
        axes.fill_between(curve.center, low, high, color=color, alpha=BAND, lw=0)
        axes.plot(
            curve.center,
            curve.density,
            color=color,
            lw=1.5,
            label=f"{label}, mean {curve.mean.mean:.5g} {curve.unit}",
        )
    axes.set(
        xlabel=f"{result.name} ({result.unit})", ylabel=f"density (1/{result.unit})"
    )
    axes.set_ylim(bottom=0.0)
    finish(axes)
    axes.legend(**legend_style())
