"""What a training is going to do: sizes, time of a step, steps that fit a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trajcast_ase.network import Forecaster
from trajcast_ase.training.config import OptimizerConfig, TrainingConfig
from trajcast_ase.training.data import TrainingData
from trajcast_ase.training.dataset import Batch, PairDataset
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.loss import ForecastLoss
from trajcast_ase.training.update import Update

ATOMS_AT_A_TIME = 200
"""In a batch of default size; more pairs of small molecules, one of a crystal."""
LARGEST_BATCH = 10
LONGEST_TIMING_S = 3.0
SHARE_TIMED = 0.1
"""Of the steps that are asked for, at most."""
FORWARD = 1 / 3
"""Time of a forecast in that of a step, roughly."""
FEWEST_STEPS = 20
"""Below, a training has not begun to learn."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training tells before its first step.

    Attributes
    ----------
    n_atoms : tuple of int
        Different numbers of atoms of the runs, ascending.
    n_pairs, n_validation_pairs, n_parameters : int
    batch_size, threads : int
    device : str
    first, steps : int
        Steps that are done already, and steps in all.
    seconds_per_step, seconds : float
        Of a step, and of all that are left, with validations.
    validation_s : float
        Of one validation.
    """

    n_atoms: tuple[int, ...]
    n_pairs: int
    n_validation_pairs: int
    n_parameters: int
    batch_size: int
    threads: int
    device: str
    first: int
    steps: int
    seconds_per_step: float
    seconds: float
    validation_s: float


def with_batch(config: TrainingConfig, data: TrainingData) -> TrainingConfig:
    """Return the configuration with a number of pairs in a batch."""
    if config.optimizer.batch_size is not None:
        return config
    n_atoms = max(atom_counts(data))
    size = min(max(ATOMS_AT_A_TIME // n_atoms, 1), LARGEST_BATCH)
    return _with(config, batch_size=size)


def with_steps(config: TrainingConfig, steps: int) -> TrainingConfig:
    """Return the configuration with a number of steps."""
    return _with(config, steps=steps)


def _with(config: TrainingConfig, **settings: int) -> TrainingConfig:
    optimizer = config.optimizer.model_copy(update=settings)
    return config.model_copy(update={"optimizer": optimizer})


def atom_counts(data: TrainingData) -> tuple[int, ...]:
    """Return the different numbers of atoms of the training runs, ascending."""
    return tuple(sorted({len(part.frames.atomic_numbers) for part in data.train.parts}))


def planned(
    config: TrainingConfig,
    data: TrainingData,
    model: Forecaster,
    batch: Callable[[], Batch],
    *,
    first: int,
    ranks: Ranks,
) -> tuple[TrainingConfig, TrainingPlan]:
    """Time steps; return the configuration with their number, and the plan.

    Parameters
    ----------
    config : TrainingConfig
        With a size of batches.
    data : TrainingData
    model : Forecaster
    batch : callable
        Returns what this process sees of a step.
    first : int
        Steps that are done already.
    ranks : Ranks

    Raises
    ------
    ValueError
        ``optimizer.minutes`` are too few for a training.
    """
    options, every = config.optimizer, config.run.validate_every
    pace = 0.0
    if options.steps is None or first < options.steps:
        pace = ranks.mean(seconds_per_step(model, options, data.train, batch))
    check = validation_seconds(data, options, pace)
    if options.steps is None:
        config = with_steps(
            config, steps_in(options.minutes or 0.0, pace, check, every)
        )
    steps = config.optimizer.n_steps
    left = max(steps - first, 0)
    plan = TrainingPlan(
        n_atoms=atom_counts(data),
        n_pairs=len(data.train),
        n_validation_pairs=len(data.validation),
        n_parameters=sum(one.numel() for one in model.parameters()),
        batch_size=options.batch_size or 1,
        threads=torch.get_num_threads(),
        device=str(model.device),
        first=first,
        steps=steps,
        seconds_per_step=pace,
        seconds=left * pace + (left // every + 1) * check,
        validation_s=check,
    )
    return config, plan


def seconds_per_step(
    model: Forecaster,
    options: OptimizerConfig,
    data: PairDataset,
    batch: Callable[[], Batch],
) -> float:
    """Return the time of an optimiser step, measured on a copy of `model`, s.

    The first step, which compiles and allocates, does not count, nor on a CUDA device
    the second, in which a graph is captured.
    """
    uncounted = 2 if model.device.type == "cuda" else 1
    twin = copy.deepcopy(model)
    update = Update.of(twin, options)
    loss = ForecastLoss.of(twin, options, data)
    most = 2 * options.refresh_every
    if options.steps is not None:
        most = min(most, max(2, int(SHARE_TIMED * options.steps)))
    laps = 0
    began = started = time.perf_counter()
    while laps <= most:
        value = loss(batch())
        torch.autograd.backward(value)
        update(options.learning_rate, laps)
        twin.zero_grad(set_to_none=True)
        float(value.detach())  # waits for a GPU
        laps += 1
        if laps == uncounted:
            started = time.perf_counter()
        if laps > uncounted and time.perf_counter() - began > LONGEST_TIMING_S:
            break
    return (time.perf_counter() - started) / (laps - uncounted)


def validation_seconds(
    data: TrainingData, options: OptimizerConfig, per_step: float
) -> float:
    """Return about how long a validation takes, s."""
    pairs_in_a_step = (options.batch_size or 1) * options.consecutive_pairs
    return FORWARD * per_step * len(data.validation) / pairs_in_a_step


def steps_in(
    minutes: float, per_step: float, validation: float, validate_every: int
) -> int:
    """Return the number of steps that fit, with their validations.

    Raises
    ------
    ValueError
        Too few for a training.
    """
    # One validation more closes the training.
    left = 60.0 * minutes - 2.0 * validation
    steps = int(left / (per_step + validation / validate_every))
    if steps < FEWEST_STEPS:
        least = FEWEST_STEPS * per_step + 3.0 * validation
        raise ValueError(
            f"minutes = {minutes:g} (optimizer.minutes, --minutes) leaves time for "
            f"{max(steps, 0)} steps of {1e3 * per_step:.3g} ms; give at least "
            f"{least / 60.0:.2g}, or a smaller network or data.validation_pairs"
        )
    return steps
