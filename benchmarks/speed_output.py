"""Tables, fitted exponents and the figure of ``speed.py``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trajcast_ase.analysis.plots.style import (
    element_colors,
    finish,
    legend_style,
    save_figure,
    single_figure,
)

Row = dict[str, Any]

SWEEP = "neighbors"
"""Family of rows that differ by the cutoff."""
MARKERS = {"paracetamol": "D", "quartz": "o", "water": "s"}
STEP_COLUMNS = (
    "system",
    "network",
    "contestant",
    "step_ms",
    "q1_ms",
    "q3_ms",
    "steps_per_s",
    "ns_per_day",
    "us_per_atom",
    "ns_per_edge",
    "peak_MiB",
    "times_ours",
    "note",
)
PART_COLUMNS = (
    "system",
    "network",
    "step_ms",
    "neighbors_ms",
    "convolution_ms",
    "node_ms",
    "conservation_ms",
    "thermostat_ms",
    "sync_ms",
    "run_1_ms",
    "run_10_ms",
    "run_100_ms",
    "float32_error",
)
TRAINING_COLUMNS = (
    "system",
    "network",
    "contestant",
    "pairs",
    "step_ms",
    "q1_ms",
    "q3_ms",
    "pairs_per_s",
    "note",
)
CSV_COLUMNS = tuple(
    # Columns of both tables are written once.
    dict.fromkeys(
        ("system", "family", "atoms", "edges", "runs", *STEP_COLUMNS, *PART_COLUMNS)
    )
)


def write_csv(rows: Iterable[Row], columns: Sequence[str], path: Path) -> None:
    """Write the rows with all digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Return a Markdown table with three digits."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def exponents(rows: Sequence[Row]) -> list[str]:
    """Return a line per fit of the step time to a power of size or of neighbors."""
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if "step_ms" not in row or "edges" not in row:
            continue
        key = row["family"], row["network"], row["contestant"]
        size = row["atoms"] if key[0] != SWEEP else row["edges"] / row["atoms"]
        groups.setdefault(key, []).append((size, row["step_ms"]))
    lines = []
    for (family, network, contestant), points in groups.items():
        if len(points) < 2:
            continue
        sizes, times = np.log(np.array(sorted(points)).T)
        slope = np.polyfit(sizes, times, 1)[0]
        name = "neighbors per atom" if family == SWEEP else f"atoms of {family}"
        low, high = np.exp(sizes[[0, -1]])
        lines.append(
            f"{contestant}, {network}: time ~ ({name})^{slope:.2f}, "
            f"{low:.0f} to {high:.0f}, {len(points)} points"
        )
    return lines


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw step time against atoms, one color per network and contestant."""
    points = [row for row in rows if row["family"] != SWEEP and "edges" in row]
    points = [row for row in points if "step_ms" in row]
    names = {f"{row['contestant']}, {row['network']}" for row in points}
    colors = element_colors(sorted(names))
    figure, axes = single_figure()
    for name, color in colors.items():
        axes.plot([], [], color=color, label=name)
        for family, marker in MARKERS.items():
            line = sorted(
                (row["atoms"], row["step_ms"], row["q1_ms"], row["q3_ms"])
                for row in points
                if f"{row['contestant']}, {row['network']}" == name
                and row["family"] == family
            )
            if line:
                atoms, median, q1, q3 = np.array(line).T
                error = np.array([median - q1, q3 - median])
                axes.errorbar(
                    atoms, median, error, color=color, marker=marker, ms=4, lw=1
                )
    for family, marker in MARKERS.items():
        axes.plot([], [], color="none", mec="k", marker=marker, ms=4, label=family)
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel="step time (ms)")
    axes.legend(**legend_style())
    finish(axes)
    save_figure(figure, path)
