"""``trajcast validate``: a rollout beside a reference run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trajcast_ase.cli.options import (
    BackendName,
    BackendOption,
    EngineName,
    EngineOption,
    LammpsUnitStyle,
)
from trajcast_ase.cli.run import run as run_model
from trajcast_ase.cli.thermostat import ThermostatName

if TYPE_CHECKING:
    from trajcast_ase.validation.inputs import Run
    from trajcast_ase.validation.observables import Observables
    from trajcast_ase.validation.report import Report

FAILED = 3
"""Exit status of a run that fails; 1 is for what cannot be compared."""


@dataclass(frozen=True, slots=True)
class _Rollout:
    """A rollout that the command has yet to make: ps, K, fs, 1/fs."""

    model: str
    start: Path
    length: float
    temperature: float | None
    thermostat: ThermostatName
    taut: float | None
    friction: float | None
    seed: int | None
    noise: bool
    device: str
    engine: EngineName
    backend: BackendName
    overwrite: bool


def validate(
    rollouts: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Trajectories of one model or code, with velocities, or the folder of "
            "an ensemble."
        ),
    ] = None,
    *,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            help="Trajectory, observables (.json), or a bundled name; several "
            "trajectories by repeating it."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Make the rollout with this model.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Structure that the model starts from.")
    ] = None,
    length: Annotated[
        float | None, typer.Option(min=0.0, help="Of the model's rollout, ps.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the run's thermostat, K.")
    ] = None,
    thermostat: Annotated[
        ThermostatName, typer.Option(help="Of --model's rollout.")
    ] = ThermostatName.RECOMMENDED,
    taut: Annotated[
        float | None, typer.Option(help="Time constant of CSVR, fs, for --model.")
    ] = None,
    friction: Annotated[
        float | None, typer.Option(help="Of Langevin, 1/fs, for --model.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="For --model.")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of rollouts of --model.")
    ] = 1,
    noise: Annotated[
        bool, typer.Option("--noise", help="With the calibrated noise of --model.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda, for --model.")] = "cpu",
    engine: EngineOption = EngineName.HOST,
    backend: BackendOption = BackendName.AUTO,
    skip: Annotated[
        float,
        typer.Option(min=0.0, help="Leave out this much of each run's start, ps."),
    ] = 0.0,
    stride: Annotated[
        float | None,
        typer.Option(help="Time between frames, fs, where files do not tell."),
    ] = None,
    lammps_units: Annotated[
        LammpsUnitStyle | None,
        typer.Option(help="Units of LAMMPS dumps, where they do not tell."),
    ] = None,
    piece: Annotated[
        float | None,
        typer.Option(help="Length of a piece, ps. Default: a twentieth of the run."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path(
        "validation"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace rollouts of --model in --out.")
    ] = False,
    write_observables: Annotated[
        Path | None,
        typer.Option(help="Write the run's observables here, a later --reference."),
    ] = None,
) -> None:
    """Hold rollouts against a reference; exits with 3 where a row does not pass.

    Give trajectories, or a model and a start. Several are rollouts of one model, by
    seed, and are judged together, as are the replicas of an ensemble at --temperature.
    With --write-observables and no --reference, only the observables are written.
    """
    from trajcast_ase.validation.inputs import read_run  # noqa: PLC0415

    _check_options(rollouts, reference, model, write_observables)
    if model is not None:
        if start is None or length is None:
            raise ValueError("--model needs --start and --length (ps)")
        wanted = _Rollout(
            model=model,
            start=start,
            length=length,
            temperature=temperature,
            thermostat=thermostat,
            taut=taut,
            friction=friction,
            seed=seed,
            noise=noise,
            device=device,
            engine=engine,
            backend=backend,
            overwrite=overwrite,
        )
        rollouts = _make_rollouts(wanted, seeds, out)
    units = None if lammps_units is None else lammps_units.value
    runs = [
        read_run(
            path,
            stride_fs=stride,
            temperature_K=kelvin,
            skip_ps=skip,
            lammps_units=units,
        )
        for path, kelvin in _expanded(rollouts or [], temperature)
    ]
    _judge(
        runs,
        reference or [],
        stride=stride,
        units=units,
        piece=piece,
        out=out,
        write_observables=write_observables,
    )


def _expanded(
    rollouts: list[Path], temperature: float | None
) -> list[tuple[Path, float | None]]:
    """Return trajectories and their temperatures (K), of ensembles all at one."""
    found: list[tuple[Path, float | None]] = []
    for path in rollouts:
        if path.is_dir():
            found += _of_ensemble(path, temperature)
        else:
            found.append((path, temperature))
    return found


def _of_ensemble(
    folder: Path, temperature: float | None
) -> list[tuple[Path, float | None]]:
    """Return the trajectories of an ensemble that are not lost."""
    from trajcast_ase.ensemble.result import read_ensemble  # noqa: PLC0415

    result = read_ensemble(folder)
    if temperature is None and len(result.temperatures) > 1:
        known = ", ".join(f"{one:g}" for one in result.temperatures)
        raise ValueError(
            f"{folder} holds replicas at {known} K, and a comparison is at one "
            "temperature; give it with --temperature"
        )
    kept = result.kept(result.temperatures[0] if temperature is None else temperature)
    chosen = kept[0].temperature_K
    for one in result.lost:
        if one.temperature_K == chosen:
            typer.echo(f"replica {one.number} is lost and left out: {one.lost}")
    return [(one.trajectory, chosen) for one in kept]


def _check_options(
    rollouts: list[Path] | None,
    reference: list[str] | None,
    model: str | None,
    write_observables: Path | None,
) -> None:
    if not reference and write_observables is None:
        raise ValueError("give --reference, --write-observables, or both")
    if (not rollouts) == (model is None):
        raise ValueError("give either a trajectory or --model with --start, not both")


def _judge(
    runs: list[Run],
    reference: list[str],
    *,
    stride: float | None,
    units: str | None,
    piece: float | None,
    out: Path,
    write_observables: Path | None,
) -> None:
    """Write observables and report, as asked for; exit with 3 if a row fails."""
    from trajcast_ase.validation.inputs import observe_both  # noqa: PLC0415
    from trajcast_ase.validation.report import compare  # noqa: PLC0415

    console = Console(highlight=False)
    if write_observables is not None:
        _write_observables(runs, piece, write_observables)
        console.print(f"wrote {write_observables}", soft_wrap=True)
    if reference:
        theirs = _reference(reference, stride, units)
        report = compare(*observe_both(runs, theirs, piece))
        _show(report, out, console)
        if not report.passes:
            raise typer.Exit(FAILED)


def _write_observables(runs: list[Run], piece: float | None, path: Path) -> None:
    from trajcast_ase.validation.inputs import observe_runs  # noqa: PLC0415
    from trajcast_ase.validation.storage import save_observables  # noqa: PLC0415

    save_observables(observe_runs(runs, 1e3 * piece if piece else None), path)


def _make_rollouts(wanted: _Rollout, seeds: int, out: Path) -> list[Path]:
    """Run the model once for each seed and return the trajectories."""
    from trajcast_ase.models.model_file import load_model  # noqa: PLC0415

    horizon_fs = load_model(wanted.model).horizon_fs
    paths = []
    for number in range(seeds):
        name = "rollout" if seeds == 1 else f"rollout-{number + 1}"
        run_model(
            wanted.start,
            model=wanted.model,
            steps=max(1, round(1e3 * wanted.length / horizon_fs)),
            temperature=wanted.temperature,
            thermostat=wanted.thermostat,
            taut=wanted.taut,
            friction=wanted.friction,
            seed=None if wanted.seed is None else wanted.seed + number,
            noise=wanted.noise,
            interval=1,
            out=out / name,
            device=wanted.device,
            engine=wanted.engine,
            backend=wanted.backend,
            overwrite=wanted.overwrite,
        )
        paths.append(out / f"{name}.traj")
    return paths


def _reference(
    names: list[str], stride: float | None, units: str | None
) -> Observables | list[Run]:
    """Return the observables that one name stands for, or the runs of several."""
    from trajcast_ase.validation.inputs import (  # noqa: PLC0415
        load_reference,
        read_run,
    )

    observables = [load_reference(name) for name in names]
    if len(names) == 1 and observables[0] is not None:
        return observables[0]
    for name, one in zip(names, observables, strict=True):
        if one is not None:
            raise ValueError(
                f"{name} holds observables, which are a whole reference; give it "
                "alone, or trajectories only"
            )
    return [read_run(name, stride_fs=stride, lammps_units=units) for name in names]


def _show(report: Report, out: Path, console: Console) -> None:
    from trajcast_ase.validation.output import (  # noqa: PLC0415
        console_table,
        write_report,
    )

    console.print(console_table(report.rows))
    console.print(report.odds)
    console.print(report.memory)
    if report.baths:
        console.print(report.baths, style="yellow")
    write_report(report, out)
    wrote = f"wrote {out}/report.{{json,md,png,pdf}}"
    console.print(f"{report.verdict}; {wrote}", soft_wrap=True)
