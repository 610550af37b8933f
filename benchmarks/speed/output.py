"""Tables, fitted exponents and the figure of ``run.py``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import cycle
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
MARKERS = {"ethanol": "^", "paracetamol": "D", "quartz": "o", "water": "s"}
MISSING = "\N{EN DASH}"
LINES = ("-", "--", ":", "-.")
STEP_COLUMNS = (
    "system",
    "network",
    "contestant",
    "threads",
    "runs",
    "first_s",
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
    "threads",
    "step_ms",
    "neighbors_ms",
    "surroundings_ms",
    "network_ms",
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
    "threads",
    "pairs",
    "edges",
    "runs",
    "first_s",
    "step_ms",
    "q1_ms",
    "q3_ms",
    "pairs_per_s",
    "peak_MiB",
    "times_ours",
    "note",
)
SUMMARY_TEXT = ("system", "network", "neighbors, convolution, node; ms")
SUMMARY_COLUMNS = (
    *SUMMARY_TEXT[:2],
    "threads",
    "ours, ms",
    "e3nn, ms",
    "e3nn / ours",
    SUMMARY_TEXT[2],
    "µs/atom",
    "ns/edge",
    "ns/day",
    "peak, MiB",
)
CSV_COLUMNS = tuple(
    # Columns of both tables are written once.
    dict.fromkeys(("system", "family", "atoms", "edges", *STEP_COLUMNS, *PART_COLUMNS))
)


def write_csv(rows: Iterable[Row], columns: Sequence[str], path: Path) -> None:
    """Write the rows with all digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Return a Markdown table with three digits."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object, nothing: str = "") -> str:
    if value is None:
        return nothing
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def summary(rows: Sequence[Row]) -> str:
    """Return the table of the documentation: a line per system, network and threads."""
    step = {
        (row["contestant"], row["system"], row["network"], row["threads"]): row
        for row in rows
        if "step_ms" in row and "edges" in row and row["family"] != SWEEP
    }
    lines = [
        list(SUMMARY_COLUMNS),
        ["---" if name in SUMMARY_TEXT else "---:" for name in SUMMARY_COLUMNS],
    ]
    lines += [
        _summary_line(row, step.get(("e3nn", *key[1:]), {}))
        for key, row in step.items()
        if key[0] == "ours"
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary_line(ours: Row, e3nn: Row) -> list[str]:
    """Return the cells of a line of :func:`summary`."""
    names = ("neighbors_ms", "convolution_ms", "node_ms")
    parts = ", ".join(_cell(ours.get(name), MISSING) for name in names)
    values = (
        ours["network"],
        ours["threads"],
        ours["step_ms"],
        e3nn.get("step_ms"),
        e3nn.get("times_ours"),
        parts,
        *(ours[name] for name in ("us_per_atom", "ns_per_edge", "ns_per_day")),
        ours.get("peak_MiB"),
    )
    return [ours["system"], *(_cell(value, MISSING) for value in values)]


def exponents(rows: Sequence[Row]) -> list[str]:
    """Return a line per fit of the step time to a power of size or of neighbors."""
    groups: dict[tuple[str, str, int, str], list[tuple[float, float]]] = {}
    for row in rows:
        if "step_ms" not in row or "edges" not in row:
            continue
        key = row["contestant"], row["network"], row["threads"], row["family"]
        size = row["edges"] / row["atoms"] if key[-1] == SWEEP else row["atoms"]
        groups.setdefault(key, []).append((size, row["step_ms"]))
    return [
        _exponent(key, sorted(points))
        for key, points in groups.items()
        if len(points) > 1
    ]


def _exponent(
    key: tuple[str, str, int, str], points: Sequence[tuple[float, float]]
) -> str:
    """Return the line of a fit."""
    contestant, network, threads, family = key
    slope = np.polyfit(*np.log(np.array(points).T), 1)[0]
    name = "neighbors per atom" if family == SWEEP else f"atoms of {family}"
    return (
        f"{contestant}, {network}, {threads} thread(s): time ~ ({name})^{slope:.2f}, "
        f"{points[0][0]:.0f} to {points[-1][0]:.0f}, {len(points)} points"
    )


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw step time against atoms.

    One color per network and contestant, one kind of line per number of threads.
    """
    lines: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        if row["family"] != SWEEP and "edges" in row and "step_ms" in row:
            name = f"{row['contestant']}, {row['network']}"
            key = name, row["threads"], row["family"]
            lines.setdefault(key, []).append(row)
    colors = element_colors(sorted({name for name, *_ in lines}))
    counts = sorted({threads for _, threads, _ in lines})
    styles = dict(zip(counts, cycle(LINES), strict=False))
    figure, axes = single_figure()
    for (name, threads, family), points in lines.items():
        columns = ("atoms", "step_ms", "q1_ms", "q3_ms")
        ordered = sorted([row[column] for column in columns] for row in points)
        atoms, median, q1, q3 = np.array(ordered).T
        style = {"color": colors[name], "ls": styles[threads], "lw": 1}
        error = np.array([median - q1, q3 - median])
        axes.errorbar(atoms, median, error, marker=MARKERS[family], ms=4, **style)
    for name, color in colors.items():
        axes.plot([], [], color=color, label=name)
    for family, marker in MARKERS.items():
        axes.plot([], [], color="none", mec="k", marker=marker, ms=4, label=family)
    for threads in counts[1:] and counts:
        axes.plot([], [], color="k", ls=styles[threads], label=f"{threads} thread(s)")
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel="step time (ms)")
    axes.legend(**legend_style())
    finish(axes)
    save_figure(figure, path)
