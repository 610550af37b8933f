"""``trajcast demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHORTEST_PS = 14.0
"""That of trajcast_ase.demo, whose import takes longer than --help."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for trajectory, log, report.")] = (
        Path("trajcast-demo")
    ),
    picoseconds: Annotated[
        float,
        typer.Option(
            min=SHORTEST_PS,
            help=f"Length of the run, ps; a report needs at least {SHORTEST_PS:g}.",
        ),
    ] = 40.0,
    seed: Annotated[int, typer.Option(min=0, help="Of velocities and noise.")] = 1,
) -> None:
    """Run paracetamol at 300 K with the bundled model beside reference MD."""
    import torch  # noqa: PLC0415  --help does without these

    from trajcast_ase.demo import InterruptedRunError, run_demo  # noqa: PLC0415

    # Twenty atoms keep one thread busy. More of them gain little on an idle machine and
    # wait for each other on a loaded one, which is many times slower.
    torch.set_num_threads(1)
    try:
        result = run_demo(out, picoseconds=picoseconds, seed=seed)
    except InterruptedRunError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_status) from error
    if not result.intact:
        raise typer.Exit(1)
