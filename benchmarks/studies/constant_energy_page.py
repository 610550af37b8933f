"""The page of ``constant_energy.py``: tables and figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from study_pages import describe_machine, table

from trajcast_ase.analysis.blocks import Estimate
from trajcast_ase.analysis.plots.style import (
    REFERENCE,
    RUN,
    finish,
    legend_style,
)

TIMES_FS = (100.0, 500.0, 1000.0, 2000.0)
"""Of the rows of the table."""
PANEL_INCHES = (3.3, 2.3)
TITLE = """# At constant energy

Strides in a row without a thermostat, from states of NVE runs that no model was trained
on, beside what MD did from the same states (the paper's Figure S3). Written by
`benchmarks/studies/constant_energy.py`."""
GROWTH = """Mean absolute error per Cartesian component. The twin is MD from the same
start moved by 1e-6 Å (rms): what chaos alone does."""
DRIFT = """Slopes of the total energy, which the reference force field gives, and of the
difference in temperature from MD of the same start; mean and standard error over the
starts. MD at its own time step conserves energy; a forecast does not know it."""


def draw(results: dict[str, dict[str, Any]]) -> Figure:
    """Return errors, energies and temperatures, one column per system."""
    n_columns = len(results)
    size = (n_columns * PANEL_INCHES[0], 3 * PANEL_INCHES[1])
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(3, n_columns, squeeze=False)
    for column, (name, result) in enumerate(results.items()):
        errors, energies, kelvins = panels[:, column]
        found = result["curves"]
        time = np.array(result["time_fs"])
        some = np.array(result["energy_time_fs"])
        draw_curve(errors, time[1:], found["error_A"], RUN, "forecasts", first=1)
        draw_curve(
            errors, time[1:], found["twin_A"], REFERENCE, "MD from 1e-6 Å away", first=1
        )
        errors.set(yscale="log", ylabel="mean absolute error (Å)", title=name)
        draw_curve(energies, some, found["run_meV"], RUN, "forecasts")
        draw_curve(energies, some, found["md_meV"], REFERENCE, "MD")
        energies.set_ylabel("total energy (meV/atom)")
        draw_curve(kelvins, time, found["run_K"], RUN, "forecasts")
        draw_curve(kelvins, time, found["md_K"], REFERENCE, "MD")
        kelvins.set(ylabel="temperature (K)", xlabel="time (fs)")
        for axes in panels[:, column]:
            finish(axes)
            axes.legend(**legend_style())
    return figure


def draw_curve(  # noqa: PLR0917  drawing
    axes: Axes,
    time: NDArray[np.float64],
    values: dict[str, Any],
    color: str,
    label: str,
    first: int = 0,
) -> None:
    """Draw a mean over starts with its standard error."""
    mean, error = np.array(values["mean"])[first:], np.array(values["error"])[first:]
    low = np.maximum(mean - error, mean / 2) if first else mean - error
    axes.fill_between(time, low, mean + error, color=color, alpha=0.28, lw=0)
    axes.plot(time, mean, color=color, lw=1.4, label=label)


def growth_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the errors at some times."""
    rows = []
    for name, result in results.items():
        time = np.array(result["time_fs"])
        for wanted in (one for one in TIMES_FS if one <= time[-1] + time[1]):
            k = int(np.abs(time - wanted).argmin())
            found = [
                result["curves"][key]["mean"][k]
                for key in ("error_A", "error_A_per_fs", "twin_A")
            ]
            rows.append([name, f"{time[k]:g}", *(f"{one:.1e}" for one in found)])
    return rows


def drift_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return drifts of energy and temperature, forecasts beside MD."""
    rows = []
    for name, result in results.items():
        drifts = result["drift_per_ps"]
        cells = [
            str(Estimate(drifts[key]["mean"], drifts[key]["error"]))
            for key in ("run_meV", "md_meV", "difference_K")
        ]
        rows.append([name, *cells])
    return rows


def settings_text(results: dict[str, dict[str, Any]]) -> str:
    """Return models, runs, lengths and machines of all systems."""
    return "\n".join(
        f"- {name}: `{one['model']}`, {one['n_starts']} starts of "
        f"{one['time_fs'][-1]:g} fs from {', '.join(one['runs'])}; "
        f"{describe_machine(one['machine'])}"
        for name, one in results.items()
    )


def page(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the sections of the page."""
    unit = "meV/atom/ps"
    energy = [f"energy, forecasts ({unit})", f"MD ({unit})"]
    kelvin = ["temperature, forecasts less MD (K/ps)"]
    growth = ("system", "time (fs)", "positions (Å)", "velocities (Å/fs)", "twin (Å)")
    return [
        TITLE,
        settings_text(results),
        GROWTH,
        table(growth, growth_rows(results)),
        DRIFT,
        table(["system", *energy, *kelvin], drift_rows(results)),
        "![Errors, energies and temperatures](constant_energy.png)",
    ]
