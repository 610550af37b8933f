"""Generate reference trajectories; see README.md in this folder."""

from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from cell import average_cell, check_cell
from paracetamol import paracetamol
from protocol import Settings, record
from quartz import quartz
from sanity import check_force_field, check_runs, report
from system import System
from twin import record_twin
from water import water

from trajcast_ase.distill.journal import JournalError

SYSTEMS = (
    paracetamol,
    quartz,
    partial(quartz, 2),
    partial(quartz, 3),
    water,
    partial(water, 2),
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


class StartOption(StrEnum):
    """Total energy at which an NVE run starts."""

    MEAN = "mean"
    CANONICAL = "canonical"


Seeds = Annotated[str, typer.Option(help="Such as 1, 1-16 or 1,3,7-9.")]
Folder = Annotated[Path, typer.Option("--out", help="Folder of the files.")]
Length = Annotated[float, typer.Option(min=0.0, help="Length of each run, ps.")]
Stride = Annotated[float, typer.Option(help="Time between frames, fs.")]
Rate = Annotated[float, typer.Option(min=1e-6, help="Cooling rate, K/ps.")]
FinalTemperature = Annotated[
    float, typer.Option("--to", min=1.0, help="Temperature at the end, K.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the velocities.")]
Equilibrate = Annotated[float, typer.Option(min=0.0, help="Before averaging, ps.")]
Damping = Annotated[float, typer.Option(min=1.0, help="Damping time, fs.")]
Thermalize = Annotated[
    float, typer.Option(min=0.1, help="Time with the thermostat before recording, ps.")
]
Temperature = Annotated[float, typer.Option(min=1.0, help="Of the thermostat, K.")]
StartEnergy = Annotated[
    StartOption,
    typer.Option(help="Start at the mean energy, or at a snapshot as it comes."),
]


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in a list of numbers and ranges, such as ``1,3,7-9``."""
    seeds: list[int] = []
    for item in text.split(","):
        first, _, last = item.partition("-")
        try:
            seeds += range(int(first), int(last or first) + 1)
        except ValueError:
            message = f"{item!r} is neither a number nor a range such as 1-16"
            raise typer.BadParameter(message) from None
    return seeds


def commands(system: System) -> typer.Typer:
    """Return the commands of a system."""
    group = typer.Typer(no_args_is_help=True, help=f"{system.force_field}.")

    @group.command()
    def nve(  # noqa: PLR0917  (typer calls it by name)
        seeds: Seeds = "1-5",
        out: Folder = Path("runs") / system.name,
        length: Length = system.length,
        stride: Stride = system.stride,
        start: StartEnergy = StartOption.MEAN,
        damping: Damping = system.damping,
    ) -> None:
        """Record NVE runs for training, one per seed."""
        settings = [
            Settings("nve", seed, length, stride, start.value, damping)
            for seed in parse_seeds(seeds)
        ]
        record_all(system, settings, out)

    @group.command()
    def nvt(  # noqa: PLR0917  (typer calls it by name)
        seeds: Seeds = "1",
        out: Folder = Path("runs") / system.name,
        length: Length = 10 * system.length,
        stride: Stride = system.stride,
        damping: Damping = system.damping,
        thermalize: Thermalize = system.thermalize,
        temperature: Temperature = system.temperature,
    ) -> None:
        """Record NVT runs for validation, with stochastic velocity rescaling."""
        settings = [
            Settings("nvt", seed, length, stride, "canonical", damping)
            for seed in parse_seeds(seeds)
        ]
        changed = replace(system, thermalize=thermalize, temperature=temperature)
        record_all(changed, settings, out)

    add_twin(group, system)
    if system.expected.terms:
        add_check(group, system)
    if not system.isolated:
        add_cooling(group, system)
    if system.barostat:
        add_cell(group, system)
    return group


def add_twin(group: typer.Typer, system: System) -> None:
    """Add the command that shows how fast two runs part."""

    @group.command()
    def twin(
        run: Annotated[Path, typer.Argument(help="An NVE run, HDF5.")],
        shift: Annotated[float, typer.Option(help="Of coordinates, rms, Å.")] = 1e-6,
        frames: Annotated[int, typer.Option(min=2, help="To record.")] = 201,
        seed: Seed = 1,
    ) -> None:
        """Repeat the begin of an NVE run from coordinates moved a little."""
        try:
            record_twin(system, run, shift, frames, seed)
        except JournalError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None


def add_check(group: typer.Typer, system: System) -> None:
    """Add the command that checks the force field."""

    @group.command()
    def check() -> None:
        """Compare the energy terms of the start geometry with known values."""
        report(check_force_field(system))


def add_cooling(group: typer.Typer, system: System) -> None:
    """Add the command that cools at constant volume."""

    @group.command()
    def cool(  # noqa: PLR0917  (typer calls it by name)
        rate: Rate,
        to: FinalTemperature = 100.0,
        seeds: Seeds = "1",
        out: Folder = Path("runs") / system.name,
        stride: Stride = 20 * system.stride,
        damping: Damping = system.damping,
    ) -> None:
        """Record runs cooled from 300 K at a constant rate and volume, with CSVR."""
        if to >= system.temperature:
            message = f"--to {to} K is not below the start, {system.temperature} K"
            raise typer.BadParameter(message)
        length = (system.temperature - to) / rate
        settings = [
            Settings("cooling", seed, length, stride, "canonical", damping, rate)
            for seed in parse_seeds(seeds)
        ]
        record_all(system, settings, out)


def add_cell(group: typer.Typer, system: System) -> None:
    """Add the command that averages the cell at constant pressure."""

    @group.command()
    def cell(
        seed: Seed = 1, equilibrate: Equilibrate = 10.0, length: Length = 25.0
    ) -> None:
        """Average the cell at 300 K and 1.01325 bar; compare with the one in use."""
        edges = average_cell(system, seed, equilibrate, length)
        report(check_cell(system, edges, length))


def record_all(system: System, runs: list[Settings], folder: Path) -> None:
    """Record runs, then check what they hold."""
    try:
        paths = [record(system, settings, folder) for settings in runs]
    except (JournalError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("stopped; the same command continues from here", err=True)
        raise typer.Exit(130) from None
    report(check_runs(system, paths))


for make_system in SYSTEMS:
    _system = make_system()
    app.add_typer(commands(_system), name=_system.name)

if __name__ == "__main__":
    app()
