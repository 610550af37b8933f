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
    """The words of ``trajcast distill`` for a system."""
    options = [word for option in system.options for word in ("--calculator-option", option)]
    return [
        *("distill", str(out / f"{system.name}.xyz"), "--calculator", system.calculator),
        *(*options, "--temperature", f"{system.temperature_K:g}", "--budget", budget),
        *("--processes", str(processes), "--out", str(out / system.name)),
    ]


def main(
    name: str,
    out: Annotated[Path, typer.Option(help="Folder of structure, log and model.")],
    budget: Annotated[str, typer.Option(help="Of everything; the system's own else.")] = "",
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
    with (out / f"{name}.log").open("a") as log:
        log.write("$ trajcast " + " ".join(words) + "\n")
        log.flush()
        started = subprocess.Popen(
            [sys.executable, "-m", "trajcast_ase", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert started.stdout is not None
        for line in started.stdout:
            print(line, end="", flush=True)
            log.write(line)
            log.flush()
    raise typer.Exit(started.wait())


if __name__ == "__main__":
    typer.run(main)
