"""One training: model, averages, optimiser, schedule, and what of it is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trajcast_ase.device.out_of_memory import explained_memory
from trajcast_ase.dynamics.interruption import Interrupted, noted_signals
from trajcast_ase.network import Forecaster
from trajcast_ase.training.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    save_checkpoint,
)
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import TrainingData
from trajcast_ase.training.dataset import Batch, BatchOrder
from trajcast_ase.training.distributed import Ranks, share_gradients
from trajcast_ase.training.evaluate import ForecastErrors, evaluate
from trajcast_ase.training.identity import check_identity, identity_of
from trajcast_ase.training.log import CsvLog, Reporter, TrainingStep
from trajcast_ase.training.loss import ForecastLoss
from trajcast_ase.training.optimizer import Plateau, learning_rate
from trajcast_ase.training.pace import Pace
from trajcast_ase.training.plan import (
    TrainingPlan,
    planned,
    with_batch,
    with_steps,
)
from trajcast_ase.training.resident import placed
from trajcast_ase.training.result import TrainingResult, finished
from trajcast_ase.training.resume import (
    Progress,
    TrainingParts,
    read_checkpoint,
    unusable,
)
from trajcast_ase.training.schedule import Schedule
from trajcast_ase.training.start import first_model
from trajcast_ase.training.update import LeftOut, Update

QUIET_S = 5.0
"""Longest time without a word to the reporter, but for a longer step."""
MOST_SKIPPED = 10
"""Steps in a row whose gradient is not finite, before a training gives up."""


class Trainer:
    """Model, averages, optimiser and schedule of one training."""

    def __init__(
        self, config: TrainingConfig, data: TrainingData, ranks: Ranks
    ) -> None:
        self.config = config = with_batch(config, data)
        run, optimizer = config.run, config.optimizer
        self.data, self.ranks = data, ranks
        self.step = 0
        self.left_out = LeftOut(0, 0)  # when the device was last asked
        self.seconds = self.seconds_reported = 0.0
        self.unreported: list[torch.Tensor] = []
        self.model = first_model(config, data.statistics, ranks.device)
        self.resident = placed(data.train, self.model, run.data_on)
        self.loss = self._loss_module()
        self.update = Update.of(self.model, optimizer)
        # A GPU is not asked at every step, since the host would wait for it.
        self.asks_often = self.model.device.type != "cuda"
        self.plateau = Plateau()
        self.pace: Pace | None = None  # of a training by time, once it is planned
        self.order = BatchOrder(
            len(data.train),
            optimizer.batch_size or 1,
            run.seed,
            optimizer.reversal_probability,
        )
        self.log = CsvLog(run.directory, tensorboard=run.tensorboard)

    def _loss_module(self) -> ForecastLoss:
        return ForecastLoss.of(self.model, self.config.optimizer, self.data.train)

    @property
    def path(self) -> Path:
        """Checkpoint file."""
        return self.config.run.directory / CHECKPOINT_NAME

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must share with the one it continues."""
        return identity_of(self.config, self.model.config, self.data.hash)

    def probe(self) -> None:
        """Do the work of one step without changing anything (to time threads)."""
        torch.autograd.backward(self._loss_module()(self._batch(slice(None))))
        self.model.zero_grad(set_to_none=True)

    def plan(self, announce: Callable[[TrainingPlan], None] | None) -> None:
        """Time a step, decide how many there are, and tell."""
        if announce is None and self.config.optimizer.steps is not None:
            return
        began = time.monotonic()
        largest = slice(None, None, self.ranks.size)  # that of the first process
        self.config, plan = planned(
            self.config,
            self.data,
            self.model,
            lambda: self._batch(largest),
            first=self.step,
            ranks=self.ranks,
        )
        minutes = self.config.optimizer.minutes
        if minutes is not None and self.pace is None:
            self.pace = Pace(
                60.0 * minutes,
                Schedule.of(self.config.optimizer),
                time.monotonic() - began,
                plan.validation_s,
            )
        if announce is not None and self.ranks.is_first:
            announce(plan)

    @property
    def schedule(self) -> Schedule:
        """Steps in all, and how much of the training they are so far."""
        if self.pace is None:
            return Schedule.of(self.config.optimizer)
        return self.pace.schedule

    def run(self, reporter: Reporter | None, until: float = 1.0) -> None:
        """Take the remaining steps; a signal ends them with a checkpoint."""
        with noted_signals() as noted:
            self._run(reporter, noted, until)

    def _run(self, reporter: Reporter | None, noted: list[int], until: float) -> None:
        settings = self.config.run
        saved = told = time.monotonic()
        first = self.step + 1
        while self.schedule.share(self.step) < until:
            if number := self.ranks.largest(noted[0] if noted else 0):
                self.save()
                raise Interrupted(
                    f"interrupted at step {self.step} of {self.schedule.steps}; "
                    f"{self.path} holds all that was done, the same command goes on",
                    number,
                )
            self._timed_step(until, saved)
            self._look_at_pace()
            last = self.schedule.share(self.step) >= until
            sound = self.left_out.now == 0  # else the weights may be what is wrong
            due = (self.step % settings.validate_every == 0 and sound) or last
            if due or self.step % settings.log_every == 0:
                self._report(reporter, validate=due)
                told = time.monotonic()
            elif self.step == first or time.monotonic() - told > QUIET_S:
                self._tell(reporter)
                told = time.monotonic()
            minutes = (time.monotonic() - saved) / 60.0
            if (minutes > settings.checkpoint_minutes and sound) or last:
                self.save()
                saved = time.monotonic()

    def _timed_step(self, until: float, saved: float) -> None:
        """Take a step; ask the device how it goes where something depends on it."""
        started = time.perf_counter()
        self.unreported.append(self.optimize())
        settings = self.config.run
        if (
            self.asks_often
            or self.step % settings.log_every == 0
            or self.step % settings.validate_every == 0
            or (self.pace is not None and self.step >= self.schedule.next_look)
            or self.schedule.share(self.step) >= until
            or time.monotonic() - saved > 60.0 * settings.checkpoint_minutes
        ):
            self._ask()
        self.seconds += time.perf_counter() - started

    def _ask(self) -> None:
        """Ask the device how many steps were left out.

        One pair, such as a very fast atom, may be beyond floats.

        Raises
        ------
        FloatingPointError
            It is not one pair, but the weights.
        """
        self.left_out = found = self.update.left_out()
        ends = self.step == self.config.optimizer.n_steps
        if found.most >= MOST_SKIPPED or (ends and found.now):
            raise FloatingPointError(
                f"the gradient is not finite in {max(found.most, found.now)} steps in "
                f"a row, up to step {self.step - 1} at most (loss "
                f"{float(self.unreported[-1]):g}); lower optimizer.learning_rate = "
                f"{self.config.optimizer.learning_rate:g} and go on from the last "
                "checkpoint"
            )

    def _look_at_pace(self) -> None:
        """Plan the steps that are left anew, where the time and not they are given."""
        # The last step must not be one that was left out.
        least = int(self.left_out.now > 0)
        if self.pace is not None and self.pace.after(
            self.step, self.ranks, least=least
        ):
            self.config = with_steps(self.config, self.schedule.steps)

    def optimize(self) -> torch.Tensor:
        """Take one optimiser step and return its loss, which is where the model is."""
        options = self.config.optimizer
        rate = learning_rate(self.step, options, self.plateau, self.schedule)
        self.model.zero_grad(set_to_none=True)
        loss = self._backward()
        self.update(rate, self.step)
        self.step += 1
        return loss

    def _backward(self) -> torch.Tensor:
        """Set the gradients of the next batch, and return its loss."""
        ranks, device = self.ranks, self.model.device
        mine = ranks.share(self.order.batch_size)
        loss, weight = torch.zeros((), dtype=torch.float64, device=device), 0.0
        if mine.start < mine.stop:
            batch = self._batch(mine)
            way_out = "lower optimizer.batch_size, or choose run.device = 'cpu'"
            n_atoms = batch.state.n_atoms
            with explained_memory("a batch", n_atoms, device, way_out):
                value: torch.Tensor = self.loss(batch)
                torch.autograd.backward(value)
            loss, weight = value.detach().double(), float(len(batch.velocities))
        if ranks.size > 1:
            parameters = tuple(self.model.parameters())
            shared = share_gradients(parameters, float(loss), weight, ranks)
            loss = torch.tensor(shared, dtype=torch.float64, device=device)
        return loss

    def _batch(self, mine: slice) -> Batch:
        """Return a share of the pairs of the next step."""
        indices, reverse = self.order(self.step)
        count = self.config.optimizer.consecutive_pairs
        rows = self.data.train.in_a_row(indices[mine], count).ravel()
        reversed_rows = np.repeat(reverse[mine], count)
        if self.resident is not None:
            return self.resident.batch(rows, reversed_rows)
        return self.data.train.batch(
            rows, reverse=reversed_rows, device=self.model.device
        )

    def _tell(self, reporter: Reporter | None) -> None:
        """Show what happened since the last report, which is still to come."""
        if reporter is None or not self.ranks.is_first:
            return
        reporter(self._told(None))

    def _told(self, errors: ForecastErrors | None) -> TrainingStep:
        """Return what a reporter learns of the steps since the last report."""
        return TrainingStep(
            step=self.step,
            steps=self.schedule.steps,
            share=self.schedule.share(self.step),
            loss=self._mean_loss(),
            learning_rate=self.update.rate,
            seconds_per_step=(self.seconds - self.seconds_reported)
            / len(self.unreported),
            errors=errors,
            left_s=None if self.pace is None else self.pace.left_s,
        )

    def _report(self, reporter: Reporter | None, *, validate: bool) -> None:
        errors = None
        if validate:
            began = time.monotonic()
            errors = self.validate()
            if self.pace is not None:
                self.pace.validated(time.monotonic() - began)
            if self.step >= self.schedule.warmup:
                self.plateau = self.plateau.after(
                    errors.displacement.relative_mae + errors.velocity.relative_mae,
                    self.config.optimizer,
                )
        report = self._told(errors)
        self.unreported, self.seconds_reported = [], self.seconds
        if not self.ranks.is_first:
            return
        self.log.write(report)
        if reporter is not None:
            reporter(report)

    def averaged(self) -> Forecaster:
        """Return the model with averaged weights."""
        return self.update.average.module

    def validate(self) -> ForecastErrors:
        """Return the averaged model's errors on the validation pairs."""
        return evaluate(self.averaged(), self.data.validation)

    def save(self) -> None:
        """Write the checkpoint (first process only)."""
        if not self.ranks.is_first:
            return
        progress = Progress(
            step=self.step,
            seconds=self.seconds,
            seconds_reported=self.seconds_reported,
            unreported=self._unreported_losses(),
            plateau=self.plateau,
            threads=torch.get_num_threads(),
            steps=self.schedule.steps,
        )
        extra = {"identity": self.identity, **progress.to_plain()}
        if self.pace is not None:
            extra["pace"] = self.pace.to_plain()
        save_checkpoint(Checkpoint(self.step, self._parts.tensors(), extra), self.path)

    def _unreported_losses(self) -> tuple[float, ...]:
        """Return the losses since the last report, but of steps that were left out."""
        losses = torch.stack(self.unreported).tolist() if self.unreported else []
        return tuple(loss for loss in losses if math.isfinite(loss))

    def _mean_loss(self) -> float:
        losses = self._unreported_losses()
        return sum(losses) / len(losses) if losses else math.nan

    def set_aside(self) -> None:
        """Rename what an earlier training left, so that nothing goes on with it."""
        if self.ranks.is_first:
            for path in (self.path, self.log.path):
                if path.exists():
                    path.replace(path.with_name(path.name + ".old"))

    def resume(self) -> int | None:
        """Go on from the checkpoint, where there is one, and return its threads."""
        if not self.path.exists():
            self.set_aside()  # the log of a training that was killed before its first
            return None
        checkpoint, progress, identity = read_checkpoint(self.path)
        check_identity(identity, self.identity, self.path)
        try:
            self._parts.restore(checkpoint)
        except ValueError as error:
            raise unusable(self.path, error) from error
        self.update.restored()
        minutes = self.config.optimizer.minutes
        if minutes is not None:
            self.config = with_steps(self.config, progress.steps)
            self.pace = self._pace_of(checkpoint, progress, 60.0 * minutes)
            self.pace.check_going_on(progress.step, self.path)
        self.plateau = progress.plateau
        self.step = progress.step
        self.seconds = progress.seconds
        self.seconds_reported = progress.seconds_reported
        losses = torch.tensor(progress.unreported, dtype=torch.float64)
        self.unreported = list(losses.to(self.model.device))
        if self.ranks.is_first:
            self.log.cut_after(self.step)
        return progress.threads

    def _pace_of(
        self, checkpoint: Checkpoint, progress: Progress, seconds: float
    ) -> Pace:
        """Return the clock of a checkpoint; one by steps has run for their time."""
        found = checkpoint.extra.get("pace")
        if found is None:
            schedule = Schedule.of(self.config.optimizer)
            return Pace(seconds, schedule, progress.seconds, 0.0)
        try:
            return Pace.from_checkpoint(found, progress.step, seconds)
        except ValueError as error:
            raise unusable(self.path, error) from error

    @property
    def _parts(self) -> TrainingParts:
        """All that has tensors."""
        update, options = self.update, self.config.optimizer
        return TrainingParts(self.model, update.average, update.optimizers, options)

    def finish(self) -> TrainingResult:
        """Write the model file and return what was reached."""
        return finished(
            self.averaged().requires_grad_(requires_grad=False),
            config=self.config,
            data=self.data,
            seconds=self.seconds,
            steps=self.step,
            write=self.ranks.is_first,
        )
