"""Normalisation constants of a data set, and what they were computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from trajcast_ase.neighbors import find_edges
from trajcast_ase.training.dataset import PairDataset

# Enough for three digits of an rms; computing from all pairs would change nothing.
STATISTICS_PAIRS = 2000
PAIRS_AT_A_TIME = 20


@dataclass(frozen=True, slots=True)
class Statistics:
    """Constants that go into the network's configuration.

    Attributes
    ----------
    elements : tuple of int
        Atomic numbers, ascending.
    masses_amu : tuple of float
        Mass of each element in the data.
    displacement_rms : float, Å
        Per Cartesian component.
    velocity_rms : float, Å/fs
        Per Cartesian component.
    velocity_scales : tuple of float, Å/fs
        Rms speed of each element.
    avg_num_neighbors : float
    n_pairs : int
        Pairs that the numbers were computed from.
    """

    elements: tuple[int, ...]
    masses_amu: tuple[float, ...]
    displacement_rms: float
    velocity_rms: float
    velocity_scales: tuple[float, ...]
    avg_num_neighbors: float
    n_pairs: int


def compute_statistics(dataset: PairDataset, cutoff: float) -> Statistics:
    """Return the constants of `dataset` from evenly spaced pairs."""
    count = min(STATISTICS_PAIRS, len(dataset))
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(np.int64)
    batch = dataset.batch(chosen)
    state = batch.state
    numbers = state.atomic_numbers.numpy()
    speeds = state.velocities.norm(dim=1).numpy()
    elements = tuple(int(number) for number in np.unique(numbers))
    scales = {z: float(np.sqrt(np.mean(speeds[numbers == z] ** 2))) for z in elements}
    return Statistics(
        elements=elements,
        masses_amu=tuple(
            float(state.masses.numpy()[numbers == z].mean()) for z in elements
        ),
        displacement_rms=float(batch.displacements.square().mean().sqrt()),
        velocity_rms=float(batch.velocities.square().mean().sqrt()),
        velocity_scales=tuple(scales[z] for z in elements),
        avg_num_neighbors=_n_edges(dataset, chosen, cutoff) / state.n_atoms,
        n_pairs=count,
    )


def _n_edges(
    dataset: PairDataset, chosen: Int[np.ndarray, " pairs"], cutoff: float
) -> int:
    """Return the number of edges of some pairs; few at a time, for the memory."""
    parts = np.array_split(chosen, -(-len(chosen) // PAIRS_AT_A_TIME))
    states = (dataset.batch(part).state for part in parts)
    return sum(len(find_edges(state, cutoff).receivers) for state in states)
