"""Measure how far the residuals of a forecast persist from stride to stride.

    python benchmarks/training/persistence.py water-5fs data/water/nve-1.h5

For K consecutive pairs of a held-out run, the squared sum of the residuals of the
velocity over the sum of their squares,

    P(K) = sum_i m_i |sum_k r_ik|^2 / sum_i m_i sum_k |r_ik|^2,

is 1 for residuals that forget each other within a stride, K for constant ones. What
persists adds up in a rollout like a wrong force, whatever its size in one stride.
Prints a Markdown table, one row for all atoms and one for each element. Cost: two
forward passes of 64 systems, seconds to a minute.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from ase.data import chemical_symbols

from trajcast_ase import load_model
from trajcast_ase.network import Forecaster
from trajcast_ase.stride import conserved_forecast
from trajcast_ase.training.data import load_pairs
from trajcast_ase.training.dataset import PairDataset

LENGTHS = (2, 4, 8, 16, 32)
ROW = 64
"""Consecutive pairs of a row; a multiple of each length."""
ROWS = 2


def residuals(
    model: Forecaster, pairs: PairDataset, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return velocity residuals (strides, atoms, 3), masses and atomic numbers."""
    batch = pairs.batch(pairs.in_a_row(np.array([start]), ROW)[0])
    with torch.no_grad():
        _, velocities = conserved_forecast(model, batch.state)
    n_atoms = batch.state.n_atoms // ROW
    found = (velocities - batch.velocities).view(ROW, n_atoms, 3).numpy()
    masses = batch.state.masses[:n_atoms].numpy()
    return found, masses, batch.state.atomic_numbers[:n_atoms].numpy()


def persistence(found: np.ndarray, masses: np.ndarray, length: int) -> np.ndarray:
    """Return numerator and denominator of P(`length`)."""
    rows = found.reshape(ROW // length, length, *found.shape[1:])
    weights = masses[:, None]
    together = (weights * rows.sum(axis=1) ** 2).sum()
    return np.array([together, (weights * rows**2).sum()])


def main(
    model: Annotated[str, typer.Argument(help="Bundled name or path of a model.")],
    run: Annotated[Path, typer.Argument(help="Held-out NVE run.")],
) -> None:
    """Print P(K) for all atoms and for each element."""
    network = load_model(model)
    pairs = PairDataset(load_pairs((str(run),), network.horizon_fs))
    starts = np.linspace(0, len(pairs) - 1, ROWS + 2).astype(int)[1:-1]
    samples = [residuals(network, pairs, int(start)) for start in starts]
    print("| " + " | ".join(["P(K), K =", *map(str, LENGTHS)]) + " |")
    print("| --- |" + " ---: |" * len(LENGTHS))
    for number in (None, *np.unique(samples[0][2])):
        name = "all" if number is None else chemical_symbols[number]
        cells = []
        for length in LENGTHS:
            parts = sum(
                persistence(
                    found, np.where((number is None) | (z == number), m, 0.0), length
                )
                for found, m, z in samples
            )
            cells.append(f"{parts[0] / parts[1]:.2f}")
        print("| " + " | ".join([name, *cells]) + " |")


if __name__ == "__main__":
    typer.run(main)
