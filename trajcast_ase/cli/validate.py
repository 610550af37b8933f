"""``trajcast validate``: a rollout beside a reference run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trajcast_ase.cli.run import run as run_model

if TYPE_CHECKING:
    from trajcast_ase.validation.inputs import Run
    from trajcast_ase.validation.report import Report

FAILED = 3
"""Exit status of a run that fails; 1 is for what cannot be compared."""


@dataclass(frozen=True, slots=True)
class _Rollout:
    """A rollout that the command has yet to make: ps, K, fs."""

    model: str
    start: Path
    length: float
    temperature: float | None
    taut: float | None
    seed: int | None
    noise: bool
    device: str


def validate(
    rollout: Annotated[
        Path | None, typer.Argument(help="Trajectory of the run, with velocities.")
    ] = None,
    *,
    reference: Annotated[
        str | None,
        typer.Option(help="Trajectory, observables (.json), or a bundled name."),
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
    taut: Annotated[
        float | None, typer.Option(help="Time constant of CSVR, fs, for --model.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="For --model.")] = None,
    noise: Annotated[
        bool, typer.Option("--noise", help="With the calibrated noise of --model.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda, for --model.")] = "cpu",
    skip: Annotated[
        float, typer.Option(min=0.0, help="Leave out this much of the run's start, ps.")
    ] = 0.0,
    stride: Annotated[
        float | None,
        typer.Option(help="Time between frames, fs, where files do not tell."),
    ] = None,
    piece: Annotated[
        float | None,
        typer.Option(help="Length of a piece, ps. Default: a tenth of the run."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path(
        "validation"
    ),
    write_observables: Annotated[
        Path | None,
        typer.Option(help="Write the run's observables here, a later --reference."),
    ] = None,
) -> None:
    """Hold a rollout against a reference run; exits with 3 where it fails.

    Give a trajectory, or a model and a start. With --write-observables and no
    --reference, only the observables are written.
    """
    from trajcast_ase.validation.inputs import read_run  # noqa: PLC0415

    console = Console(highlight=False)
    if reference is None and write_observables is None:
        raise ValueError("give --reference, --write-observables, or both")
    if (rollout is None) == (model is None):
        raise ValueError("give either a trajectory or --model with --start, not both")
    if model is not None:
        if start is None or length is None:
            raise ValueError("--model needs --start and --length (ps)")
        wanted = _Rollout(model, start, length, temperature, taut, seed, noise, device)
        rollout = _make_rollout(wanted, out)
    assert rollout is not None  # noqa: S101  one of the two was given
    run = read_run(rollout, stride_fs=stride, temperature_K=temperature, skip_ps=skip)
    if write_observables is not None:
        _write_observables(run, piece, write_observables)
        console.print(f"wrote {write_observables}", soft_wrap=True)
    if reference is not None:
        report = _report(run, reference, stride, piece)
        _show(report, out, console)
        if not report.passes:
            raise typer.Exit(FAILED)


def _write_observables(run: Run, piece: float | None, path: Path) -> None:
    from trajcast_ase.validation.inputs import DEFAULT_PIECES  # noqa: PLC0415
    from trajcast_ase.validation.observables import observe  # noqa: PLC0415
    from trajcast_ase.validation.storage import save_observables  # noqa: PLC0415

    # Twice as many as of a pair of runs: a reference may be held against shorter runs.
    piece_fs = 1e3 * piece if piece else run.length_fs / (2 * DEFAULT_PIECES)
    observables = observe(run.frames, piece_fs, temperature_K=run.temperature_K)
    save_observables(observables, path)


def _make_rollout(wanted: _Rollout, out: Path) -> Path:
    """Run the model and return its trajectory."""
    from trajcast_ase.model_file import load_model  # noqa: PLC0415

    horizon_fs = load_model(wanted.model).horizon_fs
    run_model(
        wanted.start,
        model=wanted.model,
        steps=max(1, round(1e3 * wanted.length / horizon_fs)),
        temperature=wanted.temperature,
        taut=wanted.taut,
        seed=wanted.seed,
        noise=wanted.noise,
        interval=1,
        out=out / "rollout",
        device=wanted.device,
    )
    return out / "rollout.traj"


def _report(
    run: Run, reference: str, stride: float | None, piece: float | None
) -> Report:
    from trajcast_ase.validation.inputs import (  # noqa: PLC0415
        load_reference,
        observe_both,
        read_run,
    )
    from trajcast_ase.validation.report import compare  # noqa: PLC0415

    wanted = load_reference(reference) or read_run(reference, stride_fs=stride)
    return compare(*observe_both(run, wanted, piece))


def _show(report: Report, out: Path, console: Console) -> None:
    from trajcast_ase.validation.output import cells, write_report  # noqa: PLC0415
    from trajcast_ase.validation.permutation import Verdict  # noqa: PLC0415

    table = Table("observable", "run", "reference", "limit", "verdict", box=None)
    for row in report.rows:
        *texts, verdict = cells(row)
        table.add_row(*texts, verdict.replace(Verdict.FAIL, "[bold red]FAIL[/]"))
    console.print(table)
    console.print(report.odds)
    console.print(report.memory)
    write_report(report, out)
    wrote = f"wrote {out}/report.{{json,md,png,pdf}}"
    console.print(f"{report.verdict}; {wrote}", soft_wrap=True)
