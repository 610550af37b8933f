"""The table of what was tried, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.files import write_atomically

if TYPE_CHECKING:
    from trajcast_ase.distill.screening import Screening

COLUMNS = (
    "round",
    "horizon (fs)",
    "cutoff (Å)",
    "surroundings (Å)",
    "channels",
    "layers",
    "steps",
    "seconds",
    "one stride (%)",
    "growth (% per ps)",
    "ns/day",
    "score",
)


EXPLANATION = (
    "Short trainings of equal time. Growth is the error of the velocity after the same "
    "time for all, relative to the mean absolute velocity, per picosecond of it. The "
    "score is growth over the fourth root of the speed, so that half the error is "
    "worth 16 times the time; below the goal, ten times the speed of the calculator, "
    "it rises as the speed falls. The lowest is taken on. Bold: chosen."
)


def write_table(
    rows: Sequence[Screening], best: Candidate, goal: float, folder: Path
) -> list[Path]:
    """Write ``choice.md`` and ``choice.csv``, and return both paths.

    `goal` is the speed that the score asks for, ns/day.
    """
    lines = [
        f"{EXPLANATION} The goal is {goal:.3g} ns/day.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "| " + " | ".join("---:" for _ in COLUMNS) + " |",
    ]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for row in sorted(rows, key=lambda one: (one.round, one.score(goal))):
        values = _cells(row, goal)
        writer.writerow(values)
        if row.candidate == best:
            values = [f"**{value}**" for value in values]
        lines.append(f"| {' | '.join(values)} |")
    paths = [folder / "choice.md", folder / "choice.csv"]
    write_atomically(paths[0], ("\n".join(lines) + "\n").encode())
    write_atomically(paths[1], table.getvalue().encode())
    return paths


def _cells(row: Screening, goal: float) -> list[str]:
    one = row.candidate
    return [
        str(row.round),
        f"{row.horizon_fs:g}",
        f"{one.cutoff_A:g}",
        f"{one.surroundings_A:g}" if one.surroundings_A else "-",
        str(one.n_channels),
        str(one.n_layers),
        str(row.steps),
        f"{row.seconds:.1f}",
        f"{100 * row.one_stride:.2f}",
        f"{100 * row.growth_per_ps:.3g}",
        f"{row.speed:.3g}",
        f"{row.score(goal):.3g}",
    ]
