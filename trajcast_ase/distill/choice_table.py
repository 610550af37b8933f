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
    from trajcast_ase.distill.choice import Screening

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
    "worth 16 times the time; the lowest is taken on. Bold: chosen."
)


def write_table(rows: Sequence[Screening], best: Candidate, folder: Path) -> list[Path]:
    """Write ``choice.md`` and ``choice.csv``, and return both paths."""
    lines = [
        EXPLANATION,
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "| " + " | ".join("---:" for _ in COLUMNS) + " |",
    ]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for row in sorted(rows, key=lambda one: (one.round, one.score)):
        values = _cells(row)
        writer.writerow(values)
        if row.candidate == best:
            values = [f"**{value}**" for value in values]
        lines.append(f"| {' | '.join(values)} |")
    paths = [folder / "choice.md", folder / "choice.csv"]
    write_atomically(paths[0], ("\n".join(lines) + "\n").encode())
    write_atomically(paths[1], table.getvalue().encode())
    return paths


def _cells(row: Screening) -> list[str]:
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
        f"{row.score:.3g}",
    ]
