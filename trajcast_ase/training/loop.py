"""Training: begun, or gone on with exactly, by one process in its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trajcast_ase.files import sole_writer
from trajcast_ase.models.model_file import checked_device
from trajcast_ase.training.checkpoint import CHECKPOINT_NAME
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.distributed import Ranks, process_ranks, thread_count
from trajcast_ase.training.log import Reporter
from trajcast_ase.training.plan import (
    TrainingPlan,
)
from trajcast_ase.training.result import TrainingResult
from trajcast_ase.training.trainer import Trainer


def train(
    config: TrainingConfig,
    *,
    reporter: Reporter | None = None,
    announce: Callable[[TrainingPlan], None] | None = None,
    anew: bool = False,
    until: float = 1.0,
) -> TrainingResult:
    """Train a forecaster, or go on with the training in ``config.run.directory``.

    Under ``torchrun`` every process takes its share of each batch.

    Parameters
    ----------
    config : TrainingConfig
    reporter : Reporter, optional
        Called after the first step, every ``run.log_every`` steps, every few seconds
        and after each validation.
    announce : callable, optional
        Called once with the :class:`TrainingPlan`, before the first step.
    anew : bool
        Begin anew; log and checkpoint of an earlier run get the suffix ``.old``.
    until : float
        Share of the training after which it pauses: the model is that of its averaged
        weights so far, and the next call goes on.

    Raises
    ------
    TrajectoryError
        The trajectories cannot give pairs at the horizon.
    ValueError
        There is no such device, or the checkpoint is damaged or belongs to another
        configuration.
    FileExistsError
        Another process trains in this folder now.
    FloatingPointError
        Gradients are not finite in ten steps in a row, or in the last one; the last
        checkpoint stays.
    Interrupted
        SIGINT or SIGTERM came; the checkpoint holds all steps. A kind of
        KeyboardInterrupt.
    """
    checked_device(config.run.device)
    with process_ranks(config.run.device) as ranks, _sole_trainer(config, ranks):
        data = load_data(config.data, config.network.cutoff)
        trainer = Trainer(config, data, ranks)
        threads = config.run.threads
        if anew:
            trainer.set_aside()
        else:
            measured = trainer.resume()
            # Another count would round sums otherwise, and not go on exactly.
            threads = measured if measured and threads == "measure" else threads
        with thread_count(threads, trainer.probe, ranks):
            trainer.plan(announce)
            trainer.run(reporter, until)
        return trainer.finish()


@contextmanager
def _sole_trainer(config: TrainingConfig, ranks: Ranks) -> Iterator[None]:
    """Keep other trainings out of the folder; the first process speaks for all."""
    if not ranks.is_first:
        yield
        return
    config.run.directory.mkdir(parents=True, exist_ok=True)
    with sole_writer(config.run.directory / CHECKPOINT_NAME):
        yield
