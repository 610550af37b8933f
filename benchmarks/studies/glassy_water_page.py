"""The page of ``glassy_water.py``: where forecasts depart from MD, and the figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats
from study_pages import describe_machine, mean_of, table

from trajcast_ase.analysis.plots.style import (
    REFERENCE,
    RUN,
    finish,
    legend_style,
)

LEVEL = 0.05
"""Chance that a curve of equal liquids departs anywhere."""
SHOWN = 4
"""Windows whose g(r) is drawn."""
GROWN = 1.5
"""Ratio of errors from which on they count as grown."""
CURVES = {
    "peak": "height of the first O-O peak",
    "minimum": "depth of the first O-O minimum",
    "order": "tetrahedral order",
    "diffusion": "diffusion of O (1e-9 m²/s)",
    "temperature": "kinetic temperature (K)",
}


@dataclass(frozen=True, slots=True)
class Window:
    """Frames of a cooling run within a span of the thermostat's temperature.

    Attributes
    ----------
    temperature_K : float, K
        Of the thermostat, in the middle.
    frames : slice
    """

    temperature_K: float
    frames: slice


def departure(
    temperatures: NDArray[np.float64],
    run: NDArray[np.float64],
    reference: NDArray[np.float64],
) -> float | None:
    """Return the first (highest) temperature at which two curves differ, or None.

    Welch's test of the replicas of each window at the level 0.05 over the number of
    windows, so that equal liquids differ anywhere in at most 5 % of the cases.

    Parameters
    ----------
    temperatures : (n_windows,), K
        From high to low.
    run, reference : (n_replicas, n_windows)
    """
    p = stats.ttest_ind(run, reference, axis=0, equal_var=False).pvalue
    differs = np.flatnonzero(p < LEVEL / len(temperatures))
    return float(temperatures[differs[0]]) if len(differs) else None


def draw(
    spans: list[Window],
    run: dict[str, NDArray[np.float64]],
    md: dict[str, NDArray[np.float64]],
    shares: NDArray[np.float64],
) -> Figure:
    """Return g(r) at some temperatures, and what depends on temperature."""
    figure = Figure(figsize=(12.0, 5.6), layout="constrained")
    panels = figure.subplots(2, 4)
    chosen = np.linspace(0, len(spans) - 1, SHOWN).round().astype(int)
    for axes, k in zip(panels[0], chosen, strict=True):
        for found, color, label in ((md, REFERENCE, "MD"), (run, RUN, "forecasts")):
            r, g = found["distance"][0, k], found["g"][:, k]
            mean, error = g.mean(axis=0), g.std(axis=0, ddof=1) / np.sqrt(len(g))
            axes.fill_between(r, mean - error, mean + error, color=color, alpha=0.3)
            axes.plot(r, mean, color=color, lw=1.3, label=label)
        axes.set(xlim=(2.2, r[-1]), xlabel="distance (Å)", ylabel="g(r), O-O")
        axes.set_title(f"{spans[k].temperature_K:g} K", fontsize=9)
        finish(axes)
        axes.legend(**legend_style())
    kelvin = np.array([span.temperature_K for span in spans])
    for axes, name in zip(panels[1], ("minimum", "order", "diffusion"), strict=False):
        draw_points(axes, kelvin, run[name], md[name], CURVES[name])
    axes = panels[1, 3]
    axes.plot(kelvin, 1e2 * shares.mean(axis=0), "o-", ms=4, color=RUN)
    axes.set(xlabel="temperature (K)", ylabel="error of one stride (% of kT/m)")
    axes.set_ylim(0.0, 120.0 * float(shares.mean(axis=0).max()))
    axes.invert_xaxis()
    finish(axes)
    return figure


def draw_points(
    axes: Axes,
    kelvin: NDArray[np.float64],
    run: NDArray[np.float64],
    md: NDArray[np.float64],
    label: str,
) -> None:
    """Draw a curve of both, and a line where it departs."""
    for values, color, name in ((md, REFERENCE, "MD"), (run, RUN, "forecasts")):
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        axes.errorbar(
            kelvin,
            values.mean(axis=0),
            yerr=error,
            fmt="o-",
            ms=3,
            capsize=2,
            lw=1.0,
            color=color,
            label=name,
        )
    where = departure(kelvin, run, md)
    if where is not None:
        axes.axvline(where, color="#b3261e", lw=1.0, ls=":", label=f"from {where:g} K")
    axes.set(xlabel="temperature (K)", ylabel=label)
    axes.invert_xaxis()
    finish(axes)
    axes.legend(**legend_style())


def csv_rows(
    spans: list[Window],
    run: dict[str, NDArray[np.float64]],
    md: dict[str, NDArray[np.float64]],
    shares: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Return a row for each window, means and standard errors."""
    rows = []
    for k, span in enumerate(spans):
        row: dict[str, Any] = {"temperature_K": span.temperature_K}
        for name in CURVES:
            for label, found in (("run", run), ("md", md)):
                estimate = mean_of(found[name][:, k])
                row[f"{name}_{label}"] = estimate.mean
                row[f"{name}_{label}_error"] = estimate.error
        row["stride_error_share_of_kT"] = float(shares[:, k].mean())
        rows.append(row)
    return rows


def departures(
    spans: list[Window],
    run: dict[str, NDArray[np.float64]],
    md: dict[str, NDArray[np.float64]],
) -> str:
    """Return for each observable where forecasts depart from MD, as a table."""
    kelvin = np.array([span.temperature_K for span in spans])
    rows = []
    for name, label in CURVES.items():
        where = departure(kelvin, run[name], md[name])
        cells = [
            str(mean_of(found[name][:, k])) for k in (0, -1) for found in (run, md)
        ]
        place = "nowhere" if where is None else f"{where:g} K"
        rows.append([label, place, *cells])
    first, last = f"{kelvin[0]:g} K", f"{kelvin[-1]:g} K"
    header = ["observable", "departs at", f"{first}, forecasts", f"{first}, MD"]
    return table([*header, f"{last}, forecasts", f"{last}, MD"], rows)


def needed(n_replicas: int, n_windows: int) -> float:
    """Return the difference that departs, in its standard errors, at equal scatter."""
    return float(stats.t.isf(0.5 * LEVEL / n_windows, 2 * (n_replicas - 1)))


def reading(hot: float, cold: float) -> str:
    """Return what the shares of the hottest and the coldest window say."""
    if cold > GROWN * hot:
        return (
            "it does not fall with the temperature, so that it weighs more the colder "
            "the liquid is, and the thermostat gives back ever more of it."
        )
    return (
        "it falls with the temperature as the motion itself does, so that single "
        "strides stay as good as at 300 K; where an observable departs all the same, "
        "they are not the cause by themselves."
    )


def page(
    settings: dict[str, Any], departs: str, shares: NDArray[np.float64]
) -> list[str]:
    """Return the sections of the page."""
    hot, cold = 1e2 * shares.mean(axis=0)[[0, -1]]
    return [
        "# Glassy water",
        f"""64 molecules of SPC/Fw water, cooled from 300 to {settings["to_K"]:g} K at
{settings["rate"]:g} K/ps and constant volume: strides of `{settings["model"]}`, which
was trained at 300 K only, beside MD from the same configurations. Thermostat
{settings["thermostat"]}, {settings["replicas"]} replicas of {settings["ps"]:g} ps each.
Written by `benchmarks/studies/glassy_water.py` on
{describe_machine(settings["machine"])}, {settings["speed"]:.2g} ns/day in all.""",
        f"""Windows of {settings["width"]:g} K; error bars are standard errors over the
replicas. An observable departs at the first window in which Welch's test tells the
replicas of both apart, at a level that lets equal liquids depart anywhere in 5 % of the
cases; with so few replicas that takes a difference of about
{needed(settings["replicas"], settings["windows"]):.1f} of its standard errors, so that
"nowhere" excludes no smaller one. Diffusion is the slope of the mean square
displacement between {settings["lags"]} ps.""",
        departs,
        "![Cooling beside MD](glassy_water.png)",
        f"""The error of one stride from states of the MD run, as a share of the thermal
velocity variance, goes from {hot:.2g} % in the hottest to {cold:.2g} % in the coldest
window: {reading(hot, cold)}""",
    ]
