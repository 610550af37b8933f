"""``trajcast new``: a first training configuration for given trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trajcast_ase.cli.options import LammpsUnitStyle


def new(
    trajectories: Annotated[
        list[Path], typer.Argument(help="NVE runs with velocities; the last held out.")
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="Configuration to write; names the model, too.")
    ] = Path("model.toml"),
    horizon: Annotated[
        float | None,
        typer.Option(help="Time of a forecast, fs. Default: by the fastest vibration."),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(help="Time between frames, fs, where the files do not tell."),
    ] = None,
    lammps_units: Annotated[
        LammpsUnitStyle | None,
        typer.Option(help="Units of LAMMPS dumps, where they do not tell."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="To train.")] = 30.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Look at trajectories and write a configuration with choices that suit them."""
    from trajcast_ase.training.config import TrainingConfig  # noqa: PLC0415
    from trajcast_ase.training.suggest import as_toml, suggest  # noqa: PLC0415

    if out.suffix != ".toml":
        raise ValueError(f"--out {out} must end in .toml")
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another --out or pass --overwrite")
    units = None if lammps_units is None else lammps_units.value
    found = suggest(
        trajectories,
        out.parent,
        stride_fs=stride,
        horizon_fs=horizon,
        lammps_units=units,
    )
    content = as_toml(
        found,
        name=out.stem,
        minutes=minutes,
        told_stride=stride,
        lammps_units=units,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(content, encoding="utf-8")
    TrainingConfig.from_toml(out)
    console = Console(highlight=False, markup=False)
    console.print(content, soft_wrap=True)
    console.print(f"wrote {out}; next: trajcast train {out}", soft_wrap=True)
