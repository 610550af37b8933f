"""``trajcast train`` and ``trajcast evaluate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from trajcast_ase.training.evaluate import ForecastErrors, TargetError


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, TOML.")],
    restart: Annotated[
        bool,
        typer.Option(
            "--restart/--resume",
            help="Begin anew, or go on from the checkpoint where there is one.",
        ),
    ] = False,
) -> None:
    """Train a model on the trajectories that a configuration names."""
    from trajcast_ase.progress import TrainingProgress  # noqa: PLC0415
    from trajcast_ase.training.config import TrainingConfig  # noqa: PLC0415
    from trajcast_ase.training.loop import train as train_model  # noqa: PLC0415

    settings = TrainingConfig.from_toml(config)
    # torchrun starts one process for each device; the first one speaks.
    console = Console(highlight=False, quiet=os.environ.get("RANK", "0") != "0")
    with TrainingProgress(settings.optimizer.steps, console=console) as progress:
        result = train_model(settings, reporter=progress, restart=restart)
    console.print(_error_table(result.errors))
    console.print(f"wrote {result.path}", soft_wrap=True)


def evaluate(
    model: Annotated[str, typer.Argument(help="Bundled name, or a .trajcast file.")],
    trajectories: Annotated[
        list[Path], typer.Argument(help="Trajectories of runs not trained on.")
    ],
    max_pairs: Annotated[
        int, typer.Option(min=1, help="Use this many pairs, evenly spaced.")
    ] = 1000,
    stride: Annotated[
        float | None,
        typer.Option(help="Time between frames, fs, where the file does not tell."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compare forecasts of a model with trajectories that it has not seen."""
    from trajcast_ase.model_file import load_model  # noqa: PLC0415
    from trajcast_ase.training.data import load_pairs  # noqa: PLC0415
    from trajcast_ase.training.dataset import PairDataset  # noqa: PLC0415
    from trajcast_ase.training.evaluate import (  # noqa: PLC0415
        evaluate as evaluate_model,
    )
    from trajcast_ase.training.pairs import thin  # noqa: PLC0415

    network = load_model(model, device=device)
    files = tuple(str(path) for path in trajectories)
    pairs = thin(load_pairs(files, network.horizon_fs, stride), max_pairs)
    errors = evaluate_model(network, PairDataset(pairs))
    Console(highlight=False).print(_error_table(errors))


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


def _cells(error: TargetError) -> tuple[str, str]:
    return f"{error.mae:.3e}", f"{100 * error.relative_mae:.3f}"
