"""An evaluation as files: JSON, and one sheet of figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trajcast_ase.analysis.parity import Parity, parity
from trajcast_ase.analysis.plots import draw_parity, save_figure
from trajcast_ase.analysis.plots.style import (
    INK,
    REFERENCE,
    RUN,
    finish,
    legend_style,
)
from trajcast_ase.training.evaluate import ForecastErrors, PairForecasts
from trajcast_ase.validation.growth import Growth

PANEL_INCHES = 4.2


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``trajcast evaluate`` found.

    Attributes
    ----------
    model : str
    trajectories : tuple of str
    forecasts : PairForecasts
    errors : ForecastErrors
    growth : Growth or None
        Error of many strides in a row.
    divergence : Growth or None
        Of an MD run from its twin.
    """

    model: str
    trajectories: tuple[str, ...]
    forecasts: PairForecasts
    errors: ForecastErrors
    growth: Growth | None
    divergence: Growth | None


def write_evaluation(evaluation: Evaluation, folder: str | Path) -> None:
    """Write ``evaluation.json``, ``evaluation.png`` and ``evaluation.pdf``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "model": evaluation.model,
        "trajectories": list(evaluation.trajectories),
        "errors": evaluation.errors.to_dict(),
        "growth": _series(evaluation.growth),
        "divergence_of_twins": _series(evaluation.divergence),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    figure = evaluation_sheet(evaluation)
    for suffix in ("png", "pdf"):
        save_figure(figure, folder / f"evaluation.{suffix}")


def evaluation_sheet(evaluation: Evaluation) -> Figure:
    """Return parity plots and, where they were computed, the growth of errors."""
    n_columns = 2 if evaluation.growth is None else 4
    figure = Figure(
        figsize=(n_columns * PANEL_INCHES, PANEL_INCHES), dpi=160, layout="constrained"
    )
    panels = figure.subplots(1, n_columns)
    for axes, result in zip(panels[:2], _parities(evaluation.forecasts), strict=True):
        draw_parity(axes, result)
    if evaluation.growth is not None:
        growth, twin = evaluation.growth, evaluation.divergence
        for axes, name, unit in (
            (panels[2], "displacement", "Å"),
            (panels[3], "velocity", "Å/fs"),
        ):
            _draw_growth(axes, growth, twin, name, f"error of {name} ({unit})")
    return figure


def _draw_growth(
    axes: Axes, growth: Growth, twin: Growth | None, name: str, label: str
) -> None:
    axes.semilogy(
        growth.time_fs,
        getattr(growth, name),
        "o-",
        ms=3,
        color=RUN,
        label=f"forecasts, {growth.n_starts} starts",
    )
    if twin is not None:
        shown = twin.time_fs <= growth.time_fs[-1]
        axes.semilogy(
            twin.time_fs[shown],
            getattr(twin, name)[shown],
            color=REFERENCE,
            label="MD from its twin",
        )
    axes.set(xlabel="time (fs)", ylabel=label)
    axes.yaxis.label.set_color(INK)
    finish(axes)
    axes.legend(**legend_style())


def _parities(forecasts: PairForecasts) -> tuple[Parity, Parity]:
    numbers = forecasts.atomic_numbers
    return (
        parity(
            forecasts.true_displacements[None],
            forecasts.displacements[None],
            numbers,
            name="displacement",
            unit="Å",
        ),
        parity(
            forecasts.true_velocities[None],
            forecasts.velocities[None],
            numbers,
            name="velocity",
            unit="Å/fs",
        ),
    )


def _series(growth: Growth | None) -> dict[str, Any] | None:
    if growth is None:
        return None
    return {
        "time_fs": _rounded(growth.time_fs),
        "displacement_A": _rounded(growth.displacement),
        "velocity_A_per_fs": _rounded(growth.velocity),
        "n_starts": growth.n_starts,
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
