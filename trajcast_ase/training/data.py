"""Trajectory files of a configuration to training and validation sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trajcast_ase.conservation import Conservation
from trajcast_ase.kinetics import degrees_of_freedom
from trajcast_ase.training.config import DataConfig
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.pairs import (
    Pairs,
    content_hash,
    make_pairs,
    split_in_time,
    thin,
)
from trajcast_ase.training.statistics import Statistics, compute_statistics
from trajcast_ase.training.trajectory import Frames, read_frames
from trajcast_ase.units import EV_PER_AMU_A2_FS2, KB


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
    files: tuple[str, ...], horizon_fs: float, stride_fs: float | None = None
) -> list[Pairs]:
    """Return all pairs of each file at the horizon."""
    return [make_pairs(read_frames(file, stride_fs), horizon_fs) for file in files]


def load_data(config: DataConfig, cutoff: float) -> TrainingData:
    """Return the sets that a configuration describes.

    Raises
    ------
    TrajectoryError
        A file cannot give pairs.
    """
    train = load_pairs(config.train, config.horizon_fs, config.stride_fs)
    if config.validation:
        held_out = load_pairs(config.validation, config.horizon_fs, config.stride_fs)
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


def run_temperature(frames: Frames) -> float:
    """Return the mean kinetic temperature of a run, K.

    Of the degrees of freedom that carry one (:func:`degrees_of_freedom`); 0 where
    there is none, as for a single isolated atom.
    """
    n_dof = degrees_of_freedom(frames.atoms(-1), Conservation())
    if n_dof == 0:
        return 0.0
    twice_kinetic = np.einsum("fac,a->f", frames.velocities**2, frames.masses)
    return float(twice_kinetic.mean() * EV_PER_AMU_A2_FS2 / (n_dof * KB))
