"""From trajectory files to training and validation sets, and their constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Int

from trajcast_ase.neighbors import find_edges
from trajcast_ase.training.config import DataConfig
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.pairs import (
    Pairs,
    content_hash,
    make_pairs,
    split_in_time,
    thin,
)
from trajcast_ase.trajectory import TrajectoryError, read_frames

# Enough for three digits of an rms; computing from all pairs would change nothing.
STATISTICS_PAIRS = 2000
PAIRS_AT_A_TIME = 20
FRAMES_AT_A_TIME = 1000
# Programs round masses differently, in amu.
SAME_MASS = 0.05


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
    largest_speeds : tuple of float, Å/fs
        Of each element, in all frames of all pairs.
    avg_num_neighbors : float
    n_pairs : int
        Pairs that the numbers were computed from.
    """

    elements: tuple[int, ...]
    masses_amu: tuple[float, ...]
    displacement_rms: float
    velocity_rms: float
    velocity_scales: tuple[float, ...]
    largest_speeds: tuple[float, ...]
    avg_num_neighbors: float
    n_pairs: int


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Sets of pairs with their constants.

    Attributes
    ----------
    train, validation : PairDataset
    statistics : Statistics
        Of the training pairs.
    hash : str
        SHA-256 of the training pairs.
    """

    train: PairDataset
    validation: PairDataset
    statistics: Statistics
    hash: str


def load_pairs(
    files: tuple[str, ...],
    horizon_fs: float,
    stride_fs: float | None = None,
    *,
    lammps_units: str | None = None,
    checks_motion: bool = True,
) -> list[Pairs]:
    """Return all pairs of each file at the horizon; see :func:`make_pairs`.

    Raises
    ------
    TrajectoryError
        A file cannot give pairs.
    FileNotFoundError
    """
    return [
        make_pairs(
            read_frames(file, stride_fs, lammps_units=lammps_units),
            horizon_fs,
            checks_motion=checks_motion,
        )
        for file in files
    ]


def load_data(config: DataConfig, cutoff: float) -> TrainingData:
    """Return the sets that a configuration describes.

    Raises
    ------
    TrajectoryError
        A file cannot give pairs, one element has several masses, or a run is in both
        sets.
    """
    train = _pairs(config, config.train)
    if config.validation:
        held_out = _pairs(config, config.validation)
        _check_apart(train, held_out)
    else:
        parts = [split_in_time(part, config.validation_fraction) for part in train]
        train = [early for early, _ in parts]
        held_out = [late for _, late in parts]
    if config.max_pairs is not None:
        train = thin(train, config.max_pairs)
    dataset = PairDataset(train)
    return TrainingData(
        train=dataset,
        validation=PairDataset(thin(held_out, config.validation_pairs)),
        statistics=compute_statistics(dataset, cutoff),
        hash=content_hash(train),
    )


def _check_apart(train: list[Pairs], held_out: list[Pairs]) -> None:
    """Refuse a run that stands in both sets: its errors would say nothing."""
    known = {content_hash([part]): part.frames.source for part in train}
    for part in held_out:
        source = known.get(content_hash([part]))
        if source is not None:
            raise TrajectoryError(
                f"data.validation: {part.frames.source} holds the same frames as "
                f"{source} of data.train; validate on another run, or leave "
                "data.validation out, so that the end of each run is held out"
            )


def _pairs(config: DataConfig, files: tuple[str, ...]) -> list[Pairs]:
    return load_pairs(
        files,
        config.horizon_fs,
        config.stride_fs,
        lammps_units=config.lammps_units,
        checks_motion=config.check_motion,
    )


def compute_statistics(dataset: PairDataset, cutoff: float) -> Statistics:
    """Return the constants of `dataset` from evenly spaced pairs.

    Raises
    ------
    TrajectoryError
        Atoms of one element have different masses, or none has a neighbor.
    """
    masses = _element_masses(dataset)
    count = min(STATISTICS_PAIRS, len(dataset))
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(np.int64)
    batch = dataset.batch(chosen)
    state = batch.state
    numbers = state.atomic_numbers.numpy()
    speeds = state.velocities.norm(dim=1).numpy()
    n_edges = _n_edges(dataset, chosen, cutoff)
    if n_edges == 0 and state.n_atoms > len(chosen):
        raise TrajectoryError(
            f"network.cutoff = {cutoff:g} Å is below all distances between atoms of "
            f"{dataset.parts[0].frames.source}; a few Å reach the first neighbors, and "
            "5 Å most of what matters"
        )
    elements = tuple(masses)
    scales = {z: float(np.sqrt(np.mean(speeds[numbers == z] ** 2))) for z in elements}
    return Statistics(
        elements=elements,
        masses_amu=tuple(masses.values()),
        displacement_rms=float(batch.displacements.square().mean().sqrt()),
        velocity_rms=float(batch.velocities.square().mean().sqrt()),
        velocity_scales=tuple(scales[z] for z in elements),
        largest_speeds=_largest_speeds(dataset, elements),
        avg_num_neighbors=n_edges / state.n_atoms,
        n_pairs=count,
    )


def _largest_speeds(
    dataset: PairDataset, elements: tuple[int, ...]
) -> tuple[float, ...]:
    """Return the largest speed of each element in all frames that begin a pair.

    Reversed pairs begin at the later frame.
    """
    largest = dict.fromkeys(elements, 0.0)
    for part in dataset.parts:
        frames, numbers = part.frames, part.frames.atomic_numbers
        used = np.union1d(part.starts, part.starts + part.lag)
        for rows in np.array_split(used, -(-len(used) // FRAMES_AT_A_TIME)):
            squares = np.square(frames.velocities[rows]).sum(axis=2).max(axis=0)
            for number in np.unique(numbers):
                fastest = float(np.sqrt(squares[numbers == number].max()))
                largest[int(number)] = max(largest[int(number)], fastest)
    return tuple(largest[number] for number in elements)


def _element_masses(dataset: PairDataset) -> dict[int, float]:
    """Return the mass of each element by atomic number, ascending, amu."""
    runs = [part.frames for part in dataset.parts]
    numbers = np.concatenate([frames.atomic_numbers for frames in runs])
    masses = np.concatenate([frames.masses for frames in runs])
    found = {}
    for number in np.unique(numbers):
        of_element = masses[numbers == number]
        if np.ptp(of_element) > SAME_MASS:
            raise TrajectoryError(
                f"{chemical_symbols[number]} has masses from {of_element.min():g} to "
                f"{of_element.max():g} amu in {', '.join(one.source for one in runs)}; "
                "a model knows one mass of each element, so train on one"
            )
        found[int(number)] = float(of_element.mean())
    return found


def _n_edges(
    dataset: PairDataset, chosen: Int[np.ndarray, " pairs"], cutoff: float
) -> int:
    """Return the number of edges of some pairs; few at a time, for the memory."""
    parts = np.array_split(chosen, -(-len(chosen) // PAIRS_AT_A_TIME))
    states = (dataset.batch(part).state for part in parts)
    return sum(len(find_edges(state, cutoff).receivers) for state in states)
