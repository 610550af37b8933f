"""The page of ``learning_curves.py``: tables and figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study_pages import Fit, describe_machine, table

from trajcast_ase.analysis.plots.style import (
    element_colors,
    finish,
    legend_style,
)

TITLE = """# Learning curves

Networks of 16 channels and 3 layers with equal steps, judged by pairs
of an independent run: the paper's Figure 5. Written by
`benchmarks/studies/learning_curves.py`."""
PAIRS = """## Number of training pairs

At the horizon of the shipped models. Pairs are spread evenly over the runs. Where they
are few, each is seen many times; where they are more than the steps see, more of them
do not help, which flattens the power law."""
HORIZON = """## Horizon

With all pairs. Per cent are of the mean absolute target at that horizon."""


def draw(curves: dict[str, dict[str, Any]]) -> Figure:
    """Return errors against pairs and against the horizon, with power laws."""
    figure = Figure(figsize=(9.6, 7.0), layout="constrained")
    panels = figure.subplots(2, 2)
    colors = element_colors(list(curves))
    for row, target in zip(panels, ("displacement", "velocity"), strict=True):
        absolute = {"displacement": "displacement_A", "velocity": "velocity_A_per_fs"}
        unit = {"displacement": "Å", "velocity": "Å/fs"}[target]
        for system, found in curves.items():
            relative = f"{target}_percent"
            draw_law(row[0], found["pairs"], relative, system, colors[system])
            draw_law(row[1], found["horizon"], absolute[target], system, colors[system])
        row[0].set(xlabel="training pairs", ylabel=f"{target} MAE (%)")
        row[1].set(xlabel="horizon (fs)", ylabel=f"{target} MAE ({unit})")
    for axes in panels.flat:
        axes.set(xscale="log", yscale="log")
        finish(axes)
        axes.legend(**legend_style())
    return figure


def draw_law(
    axes: Axes, found: dict[str, Any], name: str, system: str, color: str
) -> None:
    """Draw the errors of a system and the power law through them."""
    x, fit = np.array(found["x"]), found["fits"][name]
    axes.plot(x, found["errors"][name], "o", ms=4, color=color)
    label = f"{system}, exponent {fit.exponent:.2f}"
    axes.plot(x, fit(x), lw=1.1, color=color, label=label)


def exponent(fit: Fit) -> str:
    """Return the exponent of a power law with its standard error."""
    return f"{fit.exponent:.2f} ± {fit.error:.2f}"


def law_table(curves: dict[str, dict[str, Any]], name: str, label: str) -> str:
    """Return errors at each point of a curve and the exponents, for all systems."""
    rows = []
    for system, found in curves.items():
        one = found[name]
        for k, value in enumerate(one["x"]):
            errors = one["errors"]
            rows.append(
                [
                    system,
                    f"{value:g}",
                    f"{errors['displacement_A'][k]:.2e}",
                    f"{errors['displacement_percent'][k]:.2f}",
                    f"{errors['velocity_A_per_fs'][k]:.2e}",
                    f"{errors['velocity_percent'][k]:.2f}",
                ]
            )
        rows.append(
            [system, "exponent", *(exponent(one["fits"][key]) for key in errors)]
        )
    header = ("system", label, "displacement (Å)", "(%)", "velocity (Å/fs)", "(%)")
    return table(header, rows)


def settings_text(results: dict[str, dict[str, Any]]) -> str:
    """Return data and trainings of each system."""
    lines = []
    for name, result in results.items():
        course, rows = result["course"], result["rows"]
        minutes = sum(row["minutes"] for row in rows)
        lines.append(
            f"- {name}: {course['n_runs']} NVE runs of {course['length_ps']:g} ps, "
            f"{course['n_pairs']} pairs of them are 100 %; {rows[0]['steps']} steps in "
            f"batches of {course['batch_size']}, {max(row['seed'] for row in rows)} "
            f"seed(s) a point; {len(rows)} trainings in {minutes:.0f} minutes, "
            f"{describe_machine(rows[0]['machine'])}"
        )
    return "\n".join(lines)


def page(
    curves: dict[str, dict[str, Any]], results: dict[str, dict[str, Any]]
) -> list[str]:
    """Return the sections of the page."""
    return [
        TITLE,
        settings_text(results),
        PAIRS,
        law_table(curves, "pairs", "pairs"),
        HORIZON,
        law_table(curves, "horizon", "horizon (fs)"),
        "![Errors and power laws](learning_curves.png)",
    ]
