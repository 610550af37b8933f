"""``trajcast distill``: from a structure and a calculator to a model with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

FAILED = 3
"""Exit status where the report has not passed; the model is there all the same."""


def distill(
    structure: Annotated[
        Path | None, typer.Argument(help="Structure to start from, as ASE reads it.")
    ] = None,
    *,
    calculator: Annotated[
        str | None,
        typer.Option(
            help="Name of an ASE calculator (emt, lj), tblite:GFN2-xTB, or "
            "package.module:callable."
        ),
    ] = None,
    calculator_option: Annotated[
        list[str] | None,
        typer.Option(help="Keyword argument of it, name=value; may be repeated."),
    ] = None,
    trajectories: Annotated[
        list[str] | None,
        typer.Option(
            help="NVE trajectories with velocities, instead of a structure: a file or "
            "a quoted pattern; may be repeated."
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Canonical runs for the report, beside --trajectories."),
    ] = None,
    temperature: Annotated[
        str | None, typer.Option(help="In K, or a range, 280-350.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Wall time of everything: 2h, 90min, 1h 30min.")
    ] = "2h",
    out: Annotated[Path, typer.Option(help="Folder of model, report and card.")] = Path(
        "distilled"
    ),
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="That make reference MD, or try networks, at once, each on one core; "
            "default: all cores, at most 8.",
        ),
    ] = None,
    timestep: Annotated[
        float | None, typer.Option(help="Of the reference MD, fs.")
    ] = None,
    horizon: Annotated[float | None, typer.Option(help="Of the model, fs.")] = None,
    cutoff: Annotated[float | None, typer.Option(help="Of the model, Å.")] = None,
    channels: Annotated[int | None, typer.Option(min=4, help="Of the model.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Of the model.")] = None,
    langevin: Annotated[
        float | None, typer.Option(help="Bath of the model: a time constant, fs.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Model of the same elements, such as one of a cheaper engine, to go "
            "on from: a bundled name or a file. It decides horizon and network."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    redo: Annotated[
        str | None,
        typer.Option(
            help="Make this stage and those after it again: reference, choice, "
            "training, bath or report."
        ),
    ] = None,
) -> None:
    """Make a model of a system, and hold it against MD of the same system.

    Reference MD, choice of the network, training, choice of the bath, report: each
    stage says what it decided, and the same command goes on where it was stopped.
    Exits with 3 where the report has not passed; the model is there all the same.
    """
    from trajcast_ase.distill.calculators import parse_options  # noqa: PLC0415
    from trajcast_ase.distill.conduct import distill as conduct  # noqa: PLC0415
    from trajcast_ase.distill.request import Fixed  # noqa: PLC0415
    from trajcast_ase.distill.workers import MOST_PROCESSES, cores  # noqa: PLC0415
    from trajcast_ase.dynamics.interruption import Interrupted  # noqa: PLC0415

    console = Console(highlight=False)
    try:
        outcome = conduct(
            structure,
            calculator,
            out=out,
            temperature_K=None if temperature is None else _kelvin(temperature),
            budget=budget,
            calculator_options=parse_options(calculator_option or ()),
            trajectories=_files(trajectories or (), "--trajectories"),
            references=_files(reference or (), "--reference"),
            processes=processes or min(cores(), MOST_PROCESSES),
            seed=seed,
            fixed=Fixed(timestep, horizon, cutoff, channels, layers, langevin),
            init=init,
            redo=redo,
            console=console,
        )
    except Interrupted as interrupted:
        console.print(str(interrupted), soft_wrap=True)
        raise typer.Exit(interrupted.exit_status) from interrupted
    if outcome.pays_after_ns is not None:
        ns = f"{outcome.pays_after_ns:.2g}"
        console.print(f"all of it has paid for itself after {ns} ns of simulated time")
    console.print(
        f"wrote the model {outcome.model} and its card {outcome.card}, which tells "
        "all of this",
        soft_wrap=True,
    )
    for one in outcome.to_try:
        console.print(f"to try: {one}", soft_wrap=True, markup=False)
    if not outcome.passes:
        raise typer.Exit(FAILED)


def _kelvin(text: str) -> float | tuple[float, float]:
    """Return a temperature, or both ends of a range."""
    from trajcast_ase.distill.request import parse_temperature  # noqa: PLC0415

    kelvins = parse_temperature(text)
    return kelvins[0] if len(kelvins) == 1 else (kelvins[0], kelvins[-1])


def _files(patterns: list[str] | tuple[str, ...], option: str) -> list[str]:
    """Return the files that match patterns, sorted within each."""
    from glob import glob  # noqa: PLC0415  absolute patterns, which Path refuses

    found: list[str] = []
    for pattern in patterns:
        # A name with brackets that is there is no pattern.
        files = [pattern] if Path(pattern).is_file() else sorted(glob(pattern))  # noqa: PTH207
        if not files:
            raise FileNotFoundError(f"{option} {pattern} matches no file")
        found += files
    return found
