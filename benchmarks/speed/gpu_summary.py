"""One table and one figure of all that ``benchmarks/gpu.py`` has measured.

    python benchmarks/speed/gpu_summary.py --out runs/gpu

Reads ``gpu_strides.csv``, ``gpu.csv`` and ``gpu_training.csv`` of a folder, as many as
there are, and leaves out what needs a card where there was none. Writes ``gpu_all.md``
(a line per measurement: what, by whom, ms, mark, fraction of the roofline, agreement)
and ``gpu_strides.png`` (ms of a stride against atoms, with the marks).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from gpu_calls import NEEDS_A_CARD
from marks import AIM_US, MARKS_MS, SHIPPED
from output import MARKERS, Row, table
from systems import CASES

from trajcast_ase.analysis.plots.style import (
    element_colors,
    finish,
    legend_style,
    save_figure,
    single_figure,
)

COLUMNS = (
    "what",
    "system",
    "network",
    "atoms",
    "replicas",
    "by",
    "as",
    "ms",
    "steps_per_s",
    "us_per_atom",
    "mark_ms",
    "reached",
    "of_roofline",
    "agreement",
    "same_bits",
    "note",
)
LINES = {"device": "-", "host": ":"}


def read(path: Path) -> list[Row]:
    """Return the rows of a file, numbers as such; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: _value(text) for name, text in row.items() if text}
            for row in csv.DictReader(file)
            if row["note"] != NEEDS_A_CARD
        ]


def _value(text: str) -> str | float | int:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def lines(folder: Path) -> Iterator[Row]:
    """Yield all measurements in the columns of the one table."""
    for row in read(folder / "gpu_strides.csv"):
        how = {"what": "stride", "by": row["backend"], "as": row["engine"]}
        yield row | how | _agreement(row, "error")
    for row in read(folder / "gpu.csv"):
        how = "graph" if row["graph"] == "True" else "calls"
        who = {"what": row["part"], "by": row["contestant"], "as": how}
        yield row | who | _agreement(row, "error")
    for row in read(folder / "gpu_training.csv"):
        who = {"by": row.get("backend", "")}
        how = {"what": "training step", "as": row["kind"]}
        yield row | who | how | _agreement(row, "apart")


def _agreement(row: Row, name: str) -> Row:
    return {"agreement": f"{row[name]:.1e}"} if name in row else {}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the time of a stride of one system against its atoms, with the marks."""
    series: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row["what"] == "stride" and "ms" in row and row["replicas"] == 1:
            name = f"{row['by']}, {row['network']}"
            family = CASES[row["system"]].family
            points = series.setdefault((name, row["as"], family), [])
            points.append((row["atoms"], row["ms"]))
    colors = element_colors(sorted({name for name, *_ in series}))
    figure, axes = single_figure()
    for (name, engine, family), points in series.items():
        axes.plot(
            *zip(*sorted(points), strict=True),
            color=colors[name],
            ls=LINES[engine],
            lw=1,
            marker=MARKERS[family],
            ms=4,
        )
    for factor, color in ((1.0, "0.2"), (SHIPPED, "0.6")):
        for system, marks in MARKS_MS.items():
            atoms = CASES[system].n_atoms
            ends = [mark / factor for mark in marks]
            axes.plot([atoms, atoms], ends, color=color, marker="_", ms=6, lw=1)
    _explain(axes, colors)
    finish(axes)
    save_figure(figure, path)


def _explain(axes: object, colors: dict[str, str]) -> None:
    """Put lines, markers and marks into the legend."""
    plot = axes.plot  # type: ignore[attr-defined]  of matplotlib
    for name, color in colors.items():
        plot([], [], color=color, label=name)
    for engine, style in LINES.items():
        plot([], [], color="k", ls=style, label=f"engine {engine}")
    for family, marker in MARKERS.items():
        plot([], [], color="none", mec="k", marker=marker, ms=4, label=family)
    plot([], [], color="0.2", marker="_", label="marks (H200), paper")
    plot([], [], color="0.6", marker="_", label="marks (H200), shipped")
    axes.set(  # type: ignore[attr-defined]
        xscale="log", yscale="log", xlabel="atoms", ylabel="time of a stride (ms)"
    )
    axes.legend(**legend_style())  # type: ignore[attr-defined]


def summary(rows: Iterable[Row]) -> str:
    """Return the table, and how many marks were reached."""
    rows = list(rows)
    judged = [row["reached"] for row in rows if "reached" in row]
    met = sum(one != "no" for one in judged)
    text = f"{met} of {len(judged)} strides with a mark reach the first or second."
    per_atom = [
        row["us_per_atom"]
        for row in rows
        if "us_per_atom" in row
        and (row["network"], row["system"].partition("-")[0]) == ("paper", "quartz")
    ]
    if per_atom:
        text += (
            f" Quartz at the paper's size takes {min(per_atom):.2g} µs per atom and "
            f"step at least; the aim is {AIM_US:g}."
        )
    return f"{table(rows, COLUMNS)}\n\n{text}\n"


def main(
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/gpu"),
) -> None:
    """Write one table and one figure of what a folder holds."""
    rows = list(lines(out))
    if not rows:
        raise typer.BadParameter(f"{out} holds no tables; run benchmarks/gpu.py")
    (out / "gpu_all.md").write_text(summary(rows), encoding="utf-8")
    if any(row["what"] == "stride" and "ms" in row for row in rows):
        draw(rows, out / "gpu_strides.png")


if __name__ == "__main__":
    typer.run(main)
