"""Make a model of one of four systems from its bare structure, by the one command.

    python benchmarks/own_systems/run.py ethanol --out runs/own
    python benchmarks/own_systems/run.py copper --out runs/own --processes 1

Writes the structure and calls ``trajcast distill`` on it, whose lines also go into
``SYSTEM.log``. Needs up to two hours (paracetamol six) of two cores and, for the two
molecules, ``pip install 'trajcast-ase[tblite]'``. The same command goes on where it was
stopped. ``page.py`` makes the pages of the docs of what lies there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from ase.io import write
from structures import SYSTEMS, OwnSystem


def command(system: OwnSystem, out: Path, budget: str, processes: int) -> list[str]:
    """Return the words of ``trajcast distill`` for a system."""
    structure, folder = out / f"{system.name}.xyz", out / system.name
    words = ["distill", str(structure), "--calculator", system.calculator]
    for option in system.options:
        words += ["--calculator-option", option]
    words += ["--temperature", f"{system.temperature_K:g}", "--budget", budget]
    if system.init:
        words += ["--init", system.init]
    return [*words, "--processes", str(processes), "--out", str(folder)]


def carried_out(words: list[str], log: Path) -> int:
    """Run a command whose lines go to the screen and into a file; return its status."""
    with log.open("a", encoding="utf-8") as file:
        file.write("$ trajcast " + " ".join(words) + "\n")
        file.flush()
        with subprocess.Popen(  # noqa: S603  the package's own command
            [sys.executable, "-m", "trajcast_ase", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as started:
            for line in started.stdout or ():
                print(line, end="", flush=True)
                file.write(line)
                file.flush()
    return started.returncode


def main(
    name: str,
    out: Annotated[Path, typer.Option(help="Folder of structure, log and model.")],
    budget: Annotated[str, typer.Option(help="Default: the system's own.")] = "",
    processes: Annotated[int, typer.Option(help="At once.")] = 2,
) -> None:
    """Make the model of a system."""
    if name not in SYSTEMS:
        raise typer.BadParameter(f"{name}: it is one of {', '.join(SYSTEMS)}")
    system = SYSTEMS[name]
    out.mkdir(parents=True, exist_ok=True)
    structure = out / f"{name}.xyz"
    if not structure.exists():
        write(structure, system.structure())
    words = command(system, out, budget or system.budget, processes)
    raise typer.Exit(carried_out(words, out / f"{name}.log"))


if __name__ == "__main__":
    typer.run(main)
