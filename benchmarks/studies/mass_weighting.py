"""Errors by element and rows of the report against the weight of heavy atoms' errors.

    python benchmarks/studies/mass_weighting.py water paracetamol

The small networks of ``few_data.py`` learn from the same 80 ps in sixteen short runs,
with ``mass_weighting`` 0, 0.5 and 1 and several seeds of their first weights and order
of pairs, and are judged as there. About four minutes for each training with its runs,
on one core. What is finished is not repeated. Writes
``docs/studies/mass_weighting.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from few_data import COURSES, SHORT_RUNS, Case, judged, reference_runs, trained
from few_data import training_files as files_of
from study_pages import describe_machine, read_json, table, write_json, write_page
from study_systems import DATA, STUDIES, subject_of

from trajcast_ase import load_model

PICOSECONDS = 80.0
POWERS = (0.0, 0.5, 1.0)
TITLE = """# The weight of heavy atoms

Small networks (16 channels, three layers, no surroundings) of equal steps that learn
from the same 80 ps of MD. The loss weights the squared errors of an atom by a power of
its mass: with 0 they count in Å, with 1 in units of what atoms of its element move.
Errors: displacement / velocity, per cent of the mean absolute value, on a run that
nothing learnt from. Rows: of a report beside canonical MD, under a bath of 2 ps and
CSVR.
Written by `benchmarks/studies/mass_weighting.py`."""


@dataclass(frozen=True, slots=True)
class Weighted(Case):
    """A training of `few_data` with another loss."""

    power: float
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.system}-mass-{self.power:g}-seed-{self.seed}"


def row_of(one: Weighted, data: Path, out: Path) -> dict[str, Any]:
    """Return the errors and rows of a training; what is missing of it is made."""
    subject, course, folder = (
        subject_of(one.system),
        COURSES[one.system],
        out / one.system,
    )
    horizon = load_model(subject.model).horizon_fs
    held_out, *runs = reference_runs(subject, course, folder / "nve")
    plain = Case(one.system, one.picoseconds, one.way)
    found = trained(
        one,
        course,
        horizon,
        files_of(plain, course, horizon, runs, folder),
        held_out=held_out,
        folder=folder,
        loss={"mass_weighting": one.power},
        seed=one.seed,
    )
    return found | {"rows": judged(one, subject, course, data, folder)}


def page(rows: list[dict[str, Any]]) -> list[str]:
    """Return the sections of the page."""
    sections = [TITLE]
    for system in sorted({row["system"] for row in rows}):
        own = [row for row in rows if row["system"] == system]
        elements = list(own[0]["by_element"])
        header = ("power", "seed", "all", *elements, "rows")
        cells = [
            (
                f"{row['power']:g}",
                str(row["seed"]),
                _percent(row["displacement_percent"], row["velocity_percent"]),
                *(_percent(*row["by_element"][symbol]) for symbol in elements),
                row["rows"],
            )
            for row in own
        ]
        sections += [f"## {system.capitalize()}", table(header, cells)]
    where = describe_machine(rows[-1]["machine"])
    return [*sections, f"Trainings and runs on {where}."]


def _percent(displacement: float, velocity: float) -> str:
    return f"{displacement:.2f} / {velocity:.2f}"


def main(
    systems: Annotated[list[str], typer.Argument(help="paracetamol, quartz, water.")],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each.")] = 2,
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nvt-*.h5.")] = DATA,
    out: Annotated[Path, typer.Option(help="Folder of everything.")] = Path("runs/few"),
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Train with several losses, and judge what came of it."""
    path = docs / "mass_weighting.json"
    for system in systems:
        for seed in range(1, seeds + 1):
            for power in POWERS:
                one = Weighted(system, PICOSECONDS, SHORT_RUNS, power, seed)
                row = row_of(one, data, out)
                before = read_json(path)["rows"] if path.exists() else []
                key = _key(row)
                rows = sorted([*(r for r in before if _key(r) != key), row], key=_key)
                write_json(path, {"rows": rows})
                write_page(docs / "mass_weighting.md", page(rows))
                print(one.name, row["velocity_percent"], row["rows"], flush=True)


def _key(row: dict[str, Any]) -> tuple[str, float, int]:
    return row["system"], row["power"], row["seed"]


if __name__ == "__main__":
    typer.run(main)
