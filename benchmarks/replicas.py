"""Time replicas of paracetamol in one batch against one alone, in turns.

    python benchmarks/replicas.py --numbers 1,4,16,64

Prints, for each number of replicas, the CPU time of a stride of all (CSVR, no frames),
the simulated time of all replicas together, and its ratio to that of one.
"""

import time
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from ase import units

from trajcast_ase import CSVR, Replicas, load_model
from trajcast_ase.data import paracetamol
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster
from trajcast_ase.units import ns_per_day

STRIDES = 200
"""Of a turn of one replica; of more fewer, so that turns last alike."""


def make(model: Forecaster, number: int) -> Replicas:
    """Return replicas at 300 K that have left their start."""
    starts = []
    for k in range(number):
        atoms = paracetamol()
        draw_momenta(atoms, 300.0, np.random.default_rng(k), model.conservation)
        starts.append(atoms)
    replicas = Replicas(
        starts, model, thermostat=lambda rng: CSVR(300.0, 70.0 * units.fs, rng)
    )
    replicas.run(5)
    return replicas


def main(
    numbers: Annotated[str, typer.Option(help="Of replicas, the first is one.")] = (
        "1,4,16,64"
    ),
    turns: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Time replicas in one batch."""
    torch.set_num_threads(1)
    model = load_model("paracetamol-7fs")
    groups = {int(n): make(model, int(n)) for n in numbers.split(",")}
    times: dict[int, list[float]] = {number: [] for number in groups}
    for _ in range(turns):
        for number, replicas in groups.items():
            strides = max(4, STRIDES // number)
            start = time.process_time()
            replicas.run(strides)
            times[number].append((time.process_time() - start) / strides)
    speeds = {
        number: number * ns_per_day(median(found), model.horizon_fs)
        for number, found in times.items()
    }
    print(f"torch {torch.__version__}, 1 thread, median of {turns} turns")
    for number, speed in speeds.items():
        print(
            f"{number:4d} replicas  {1e3 * median(times[number]):7.1f} ms per stride  "
            f"{speed:6.0f} ns/day in all  x {speed / next(iter(speeds.values())):.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
