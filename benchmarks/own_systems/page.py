"""Pages of the docs of the shown models of own systems, from what ``run.py`` left.

    python benchmarks/own_systems/page.py runs/own

One page for each finished system: the command, the card, what was tried, the report and
its sheet. Nothing is measured here. Writes ``docs/own_systems``, where the pages and
rows of other systems stay.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import typer
from ase.io import read
from PIL import Image
from run import command
from structures import SYSTEMS, OwnSystem

from trajcast_ase.distill.words import figures

HERE = Path(__file__).parents[2]
sys.path.append(str(HERE / "benchmarks" / "studies"))
from study_pages import (  # noqa: E402
    describe_machine,
    machine,
    read_json,
    table,
    write_json,
    write_page,
)

DOCS = HERE / "docs" / "own_systems"
ROWS = DOCS / "rows.json"
HEADER = (
    "system",
    "calculator",
    "verdict",
    "minutes",
    "processes",
    "ns/day",
    "calculator's",
    "ratio",
)
INDEX = """# Own systems, shown

What `trajcast distill` made of bare structures, each by one command on the machine of
its page ([how](../howto/own_system.md)); the verdicts are those of the command. Written
by `benchmarks/own_systems/page.py` from what `benchmarks/own_systems/run.py` left. How
sharp they are, and what a longer look at ethanol found, is told [with the
command](../howto/own_system.md#seen-so-far)."""
COLORS = 64
"""Of the sheets, which have few and are stored with the docs."""
PROMPT = "$ trajcast "
"""Before the command in a log."""
STAGES = ("reference", "choice", "training", "bath", "report")


def finished(folder: Path) -> bool:
    """Return whether all stages of a system are done."""
    path = folder / "distill.json"
    if not path.exists():
        return False
    stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
    return all(name in stages for name in STAGES)


def save_sheet(source: Path, target: Path) -> None:
    """Write the sheet of a report with few colours, which is much smaller."""
    with Image.open(source) as image:
        image.convert("RGB").quantize(COLORS).save(target, optimize=True)


@dataclass(frozen=True, slots=True)
class Given:
    """What a system was given, by the last command in its log."""

    budget: str
    processes: int

    @classmethod
    def read(cls, log: Path) -> Self:
        """Return what a log tells."""
        lines = log.read_text(encoding="utf-8").splitlines()
        words = [line for line in lines if line.startswith(PROMPT)][-1].split()
        budget, processes = (
            words[words.index(name) + 1] for name in ("--budget", "--processes")
        )
        return cls(budget, int(processes))

    @property
    def told(self) -> str:
        """The processes, in words."""
        return "One process" if self.processes == 1 else f"{self.processes} processes"


def shown_command(system: OwnSystem, given: Given) -> str:
    """Return the command as a user types it."""
    words = command(system, Path(), given.budget, given.processes)
    return f"```console\n$ trajcast {' '.join(words)}\n```"


def begins(system: OwnSystem, out: Path) -> str:
    """Return a sentence on what was given."""
    atoms = read(out / f"{system.name}.xyz")
    frame = atoms[0] if isinstance(atoms, list) else atoms
    lines = (system.structure.__doc__ or "").strip().rstrip(".")
    return (
        f"{frame.get_chemical_formula()}, {len(frame)} atoms ({lines}). "
        f"Asked for: {system.times_faster:g} times the calculator's ns/day, and that "
        "all rows of the report pass."
    )


def without_title(path: Path) -> str:
    """Return a Markdown file from its first heading of second rank on, or its text."""
    text = path.read_text(encoding="utf-8")
    at = text.find("\n## ")
    return text[at:].strip() if at >= 0 else text.strip()


def tried(table_path: Path) -> list[str]:
    """Return the section on short trainings, which a given model makes needless."""
    if not table_path.exists():
        return []
    return ["## What was tried", table_path.read_text(encoding="utf-8")]


def page(system: OwnSystem, out: Path, where: str) -> list[str]:
    """Return the sections of a system's page."""
    folder, given = out / system.name, Given.read(out / f"{system.name}.log")
    result = json.loads((folder / "distill.json").read_text(encoding="utf-8"))
    report = result["stages"]["report"]["result"]
    times = report["model_ns_per_day"] / report["calculator_ns_per_day"]
    return [
        f"# {system.name.capitalize()}, {system.calculator}",
        begins(system, out),
        shown_command(system, given),
        f"{given.told} of {where}.",
        f"**{report['verdict'].capitalize()}; {times:.1f} times the calculator.**",
        without_title(folder / "README.md"),
        *tried(folder / "choice.md"),
        "## The report",
        (folder / "report.md").read_text(encoding="utf-8"),
        f"![The sheet of the report]({system.name}.png)",
    ]


def row(system: OwnSystem, out: Path) -> list[str]:
    """Return a system's row of the index."""
    content = (out / system.name / "distill.json").read_text(encoding="utf-8")
    state = json.loads(content)
    report = state["stages"]["report"]["result"]
    model, engine = report["model_ns_per_day"], report["calculator_ns_per_day"]
    return [
        f"[{system.name}]({system.name}.md)",
        system.calculator,
        report["verdict"],
        f"{sum(state['seconds'].values()) / 60:.0f}",
        str(Given.read(out / f"{system.name}.log").processes),
        figures(model),
        figures(engine),
        f"{model / engine:.1f}",
    ]


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the runs.")],
    where: Annotated[str, typer.Option(help="What machine it was.")] = "",
) -> None:
    """Write the pages of what is finished."""
    done = [one for one in SYSTEMS.values() if finished(out / one.name)]
    where = where or describe_machine(machine())
    rows: dict[str, list[str]] = read_json(ROWS)
    for system in done:
        write_page(DOCS / f"{system.name}.md", page(system, out, where))
        save_sheet(out / system.name / "report.png", DOCS / f"{system.name}.png")
        rows[system.name] = row(system, out)
    write_json(ROWS, rows)
    shown = [name for name in SYSTEMS if name in rows]
    toctree = "\n".join(["```{toctree}", ":maxdepth: 1", "", *shown, "```"])
    index = table(HEADER, [rows[name] for name in shown])
    write_page(DOCS / "index.md", [INDEX, index, toctree])
    print(f"wrote {', '.join(one.name for one in done)}")


if __name__ == "__main__":
    typer.run(main)
