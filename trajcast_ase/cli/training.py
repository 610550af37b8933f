"""``trajcast train`` and ``trajcast evaluate``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trajcast_ase.cli.options import LammpsUnitStyle

if TYPE_CHECKING:
    from trajcast_ase.training.evaluate import ForecastErrors, TargetError
    from trajcast_ase.validation.growth import Growth

SAME_TIME_FS = 1e-6


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, TOML.")],
    *,
    minutes: Annotated[
        float | None,
        typer.Option(help="Take as many steps as fit, instead of optimizer.steps."),
    ] = None,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew/--resume",
            help="Begin anew, or go on from the checkpoint where there is one.",
        ),
    ] = False,
) -> None:
    """Train a model on the trajectories that a configuration names."""
    from trajcast_ase.dynamics.interruption import Interrupted  # noqa: PLC0415
    from trajcast_ase.progress import TrainingProgress  # noqa: PLC0415
    from trajcast_ase.training.config import TrainingConfig  # noqa: PLC0415
    from trajcast_ase.training.loop import train as train_model  # noqa: PLC0415

    settings = TrainingConfig.from_toml(config, minutes=minutes)
    # torchrun starts one process for each device; the first one speaks.
    console = Console(highlight=False, quiet=os.environ.get("RANK", "0") != "0")
    n_files = len(settings.data.train) + len(settings.data.validation)
    console.print(f"reading {n_files} trajectories")
    with TrainingProgress(console=console) as progress:
        try:
            result = train_model(
                settings, reporter=progress, announce=progress.announce, anew=anew
            )
        except Interrupted as interrupted:
            console.print(str(interrupted), soft_wrap=True)
            raise typer.Exit(interrupted.exit_status) from interrupted
    console.print(_error_table(result.errors))
    console.print(f"wrote {result.path}", soft_wrap=True)


def evaluate(
    model: Annotated[str, typer.Argument(help="Bundled name, or a .trajcast file.")],
    trajectories: Annotated[
        list[Path], typer.Argument(help="Trajectories of NVE runs not trained on.")
    ],
    *,
    max_pairs: Annotated[
        int, typer.Option(min=1, help="Use this many pairs, evenly spaced.")
    ] = 1000,
    stride: Annotated[
        float | None,
        typer.Option(help="Time between frames, fs, where the file does not tell."),
    ] = None,
    lammps_units: Annotated[
        LammpsUnitStyle | None,
        typer.Option(help="Units of LAMMPS dumps, where they do not tell."),
    ] = None,
    strides: Annotated[
        int,
        typer.Option(min=0, help="Follow the error over this many strides in a row."),
    ] = 40,
    twin: Annotated[
        Path | None,
        typer.Option(
            help="Run from nearly the same start as the first trajectory: how fast "
            "MD itself parts."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for numbers (JSON) and figures.")
    ] = None,
    write_model: Annotated[
        Path | None,
        typer.Option(help="Write the model here, with these errors in its header."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compare forecasts of a model with trajectories that it has not seen."""
    from trajcast_ase.models.model_file import load_model  # noqa: PLC0415
    from trajcast_ase.training.data import load_pairs  # noqa: PLC0415
    from trajcast_ase.training.dataset import PairDataset  # noqa: PLC0415
    from trajcast_ase.training.evaluate import (  # noqa: PLC0415
        forecast_errors,
        forecast_pairs,
    )
    from trajcast_ase.training.export import export_with_errors  # noqa: PLC0415
    from trajcast_ase.training.pairs import thin  # noqa: PLC0415
    from trajcast_ase.training.reversibility import limits_of_pairs  # noqa: PLC0415
    from trajcast_ase.trajectory import read_frames  # noqa: PLC0415
    from trajcast_ase.validation.growth import divergence, error_growth  # noqa: PLC0415

    console = Console(highlight=False)
    network = load_model(model, device=device)
    files = tuple(str(path) for path in trajectories)
    units = None if lammps_units is None else lammps_units.value
    runs = load_pairs(files, network.horizon_fs, stride, lammps_units=units)
    apart = None
    if twin is not None:
        other = read_frames(twin, stride, lammps_units=units)
        apart = divergence(runs[0].frames, other)
    growth = error_growth(network, runs[0], n_strides=strides) if strides else None
    held_out = PairDataset(thin(runs, max_pairs))
    forecasts = forecast_pairs(network, held_out)
    limits = limits_of_pairs(network, held_out, forecasts)
    errors = replace(forecast_errors(forecasts), reversal=limits)
    console.print(_error_table(errors))
    _show_reversal(console, errors)
    if growth is not None:
        console.print(_growth_table(growth, apart))
    if out is not None:
        from trajcast_ase.validation.evaluation_output import (  # noqa: PLC0415
            Evaluation,
            write_evaluation,
        )

        found = Evaluation(network.name, files, forecasts, errors, growth, apart)
        write_evaluation(found, out)
        console.print(f"wrote {out}/evaluation.{{json,png,pdf}}", soft_wrap=True)
    if write_model is not None:
        export_with_errors(network, write_model, errors)
        console.print(f"wrote {write_model}", soft_wrap=True)


def _error_table(errors: ForecastErrors) -> Table:
    table = Table(
        f"{errors.n_pairs} pairs",
        "displacement MAE (Å)",
        "(%)",
        "velocity MAE (Å/fs)",
        "(%)",
        box=None,
    )
    rows = {"all": (errors.displacement, errors.velocity), **errors.by_element}
    for name, targets in rows.items():
        table.add_row(name, *(cell for target in targets for cell in _cells(target)))
    return table


def _show_reversal(console: Console, errors: ForecastErrors) -> None:
    """Print what going back misses, and the limits beyond which a guard objects."""
    from trajcast_ase.guards.reversal import FALSE_ALARMS  # noqa: PLC0415
    from trajcast_ase.models.reversal_limits import FEWEST_PAIRS  # noqa: PLC0415

    limits = errors.reversal
    if limits is None:
        console.print(
            f"no limits of going back from {errors.n_pairs} pairs; they need "
            f"{FEWEST_PAIRS} that do not come back exactly",
            soft_wrap=True,
        )
        return
    table = Table("forth and back", "position rms (Å)", "velocity rms (Å/fs)", box=None)
    for symbol, scale in limits.elements.items():
        table.add_row(symbol, f"{scale.displacement:.3e}", f"{scale.velocity:.3e}")
    console.print(table)
    size, rate = limits.n_atoms, FALSE_ALARMS / 2
    console.print(
        f"limits for {size} atoms at one false alarm in {1 / FALSE_ALARMS:,.0f} looks: "
        f"{limits.atom_limit(size, rate):.3g} times that for an atom, "
        f"{limits.system_limit(size, rate):.3g} times for the system",
        soft_wrap=True,
    )


def _growth_table(growth: Growth, apart: Growth | None) -> Table:
    """Return the errors after 1, 2, 4, ... strides, and of MD from its twin."""
    table = Table("strides", "fs", "Å", "Å/fs", box=None)
    if apart is not None:
        table.add_column("twins: Å")
        table.add_column("Å/fs")
    last = len(growth.time_fs)
    chosen = sorted({*(2**k for k in range(last.bit_length())), last})
    for number in chosen:
        time, row = growth.time_fs[number - 1], [f"{number}"]
        row.append(f"{time:g}")
        row += _parted(growth, time)
        if apart is not None:
            row += _parted(apart, time)
        table.add_row(*row)
    return table


def _parted(growth: Growth, time_fs: float) -> tuple[str, str]:
    """Return the differences at a time, or dashes where the run has ended."""
    times = growth.time_fs.tolist()
    index = min(range(len(times)), key=lambda k: abs(times[k] - time_fs))
    if abs(times[index] - time_fs) > SAME_TIME_FS:
        return "-", "-"
    return f"{growth.displacement[index]:.2e}", f"{growth.velocity[index]:.2e}"


def _cells(error: TargetError) -> tuple[str, str]:
    return f"{error.mae:.3e}", f"{100 * error.relative_mae:.3f}"
