"""Progress of rollouts and trainings: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from trajcast_ase.units import ns_per_day

if TYPE_CHECKING:
    from trajcast_ase.dynamics.driver import TrajCast
    from trajcast_ase.dynamics.replicas import Replicas
    from trajcast_ase.ensemble.engine import Status
    from trajcast_ase.training.log import TrainingStep
    from trajcast_ase.training.plan import TrainingPlan

LINE_INTERVAL_S = 10.0
"""Shortest time between two plain lines; later they come at each 5 % of the time."""
UPDATES = 200
"""Of the bar in a run, at most."""
TRAINING_INTERVAL_S = 5.0
"""The same of a training, whose first line comes at once."""


class _Progress:
    """Bar or lines for `total` steps; subclasses say what stands in them."""

    interval_s: float | None = None  # None: LINE_INTERVAL_S
    begins_at_once = False

    def __init__(self, total: int, console: Console | None) -> None:
        self._total = total
        self._console = console or Console(highlight=False)
        self._start = self._next_line = 0.0
        self._first: int | None = None
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.description}{task.fields[left]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, left="")

    def __enter__(self) -> Self:
        """Start the clock and show the bar."""
        self._start = time.perf_counter()
        self._next_line = self._start + (0.0 if self.begins_at_once else self._wait)
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    @property
    def _wait(self) -> float:
        return LINE_INTERVAL_S if self.interval_s is None else self.interval_s

    def _show(self, n_done: int, text: str, left_s: float | None = None) -> None:
        """Move the bar, or print a line where one is due.

        `left_s`, where it is known, takes the place of the time left at this speed.
        """
        if self._first is None:
            self._first = n_done
        if not self._bar.disable:
            left = self._time_left(n_done, left_s)
            self._bar.update(self._task, completed=n_done, description=text, left=left)
            return
        now = time.perf_counter()
        if now >= self._next_line or n_done >= self._total:
            spacing = max(self._wait, 0.05 * (now - self._start))
            self._next_line = now + spacing
            line = self._line(n_done, text) + self._time_left(n_done, left_s)
            self._console.print(line, soft_wrap=True)

    def _line(self, n_done: int, text: str) -> str:
        return f"{n_done}/{self._total}  {text}"

    def _time_left(self, n_done: int, left_s: float | None) -> str:
        """Return the time left in words; empty where unknown, and at the end."""
        seconds = self._seconds_left(n_done) if left_s is None else left_s
        if seconds is None or n_done >= self._total:
            return ""
        return f"  {duration(seconds)} left"

    def _seconds_left(self, n_done: int) -> float | None:
        """Return the time left at the mean speed so far, s; None without one."""
        n_fresh = n_done - (self._first or 0)
        if n_fresh == 0:
            return None
        elapsed = time.perf_counter() - self._start
        return elapsed / n_fresh * (self._total - n_done)


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds: ``1:02:03``."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}"


class RolloutProgress(_Progress):
    """Simulated time, temperature and ns/day of a run.

    Parameters
    ----------
    n_strides : int
    horizon_fs : float, fs
    first : int
        Strides that were made before, by the run that this one continues.
    n_replicas : int
        Runs that advance together; the speed is that of all.
    console : rich.console.Console, optional
        Default: standard output.
    """

    def __init__(
        self,
        n_strides: int,
        horizon_fs: float,
        *,
        first: int = 0,
        n_replicas: int = 1,
        console: Console | None = None,
    ) -> None:
        super().__init__(n_strides, console)
        self._horizon_fs = horizon_fs
        self._made_before = first
        self._n_replicas = n_replicas
        self._temperature_sum = 0.0
        self._n_updates = 0

    def update(self, n_done: int, temperature_K: float) -> None:
        """Show that `n_done` strides are done, the last of them at `temperature_K`.

        Of replicas the mean temperature.
        """
        self._temperature_sum += temperature_K
        self._n_updates += 1
        mean = self._temperature_sum / self._n_updates
        to_ps = self._horizon_fs * 1e-3
        text = (
            f"{n_done * to_ps:.1f} of {self._total * to_ps:.1f} ps  "
            f"T {temperature_K:.0f} K, mean {mean:.0f} K"
        )
        if n_done > self._made_before:
            n_fresh = n_done - self._made_before
            seconds = (time.perf_counter() - self._start) / n_fresh
            speed = self._n_replicas * ns_per_day(seconds, self._horizon_fs)
            text += f"  {speed:.2f} ns/day{' in all' * (self._n_replicas > 1)}"
        self._show(n_done, text)


class EnsembleProgress(_Progress):
    """Shares, simulated time and ns/day of an ensemble; a reporter of its engine.

    Parameters
    ----------
    n_strides : int
        Of all replicas together.
    horizon_fs : float, fs
    console : rich.console.Console, optional
        Default: standard output.
    """

    def __init__(
        self, n_strides: int, horizon_fs: float, *, console: Console | None = None
    ) -> None:
        super().__init__(n_strides, console)
        self._horizon_fs = horizon_fs
        self._made_before: int | None = None

    def __call__(self, status: Status) -> None:
        """Show how far the ensemble is."""
        if self._made_before is None:
            self._made_before = status.strides
        text = (
            f"{status.strides * self._horizon_fs * 1e-6:.3g} of "
            f"{status.total * self._horizon_fs * 1e-6:.3g} ns  {status.ended} of "
            f"{status.shares} shares, {status.running} running"
        )
        if status.strides > self._made_before:
            n_fresh = status.strides - self._made_before
            seconds = (time.perf_counter() - self._start) / n_fresh
            text += f"  {ns_per_day(seconds, self._horizon_fs):.2f} ns/day in all"
        self._show(status.strides, text)


@contextmanager
def followed(
    dynamics: TrajCast | Replicas,
    runs: Sequence[TrajCast],
    observers: list[Any],
    steps: int,
) -> Iterator[None]:
    """Show the progress of the next `steps` of a dynamics while the block lasts.

    Parameters
    ----------
    dynamics : TrajCast or Replicas
    runs : sequence of TrajCast
        The systems whose temperatures are shown.
    observers : list
        To which ``dynamics.attach`` adds.
    steps : int
    """
    first, fs = dynamics.nsteps, runs[0].model.horizon_fs
    progress = RolloutProgress(steps, fs, n_replicas=len(runs))

    def report() -> None:
        kelvin = sum(one.get_temperature() for one in runs) / len(runs)
        progress.update(dynamics.nsteps - first, kelvin)

    dynamics.attach(report, max(1, steps // UPDATES))
    entry = observers[-1]
    try:
        with progress:
            yield
            report()
    finally:
        observers.remove(entry)


class TrainingProgress(_Progress):
    """Loss, learning rate and validation errors; a reporter of the training loop.

    Parameters
    ----------
    console : rich.console.Console, optional
        Default: standard output.
    """

    interval_s = TRAINING_INTERVAL_S
    begins_at_once = True

    def __init__(self, *, console: Console | None = None) -> None:
        super().__init__(1, console)
        self._by_time = False

    def announce(self, plan: TrainingPlan) -> None:
        """Print what the training is going to do."""
        self._total = plan.steps
        self._bar.update(self._task, total=plan.steps)
        atoms = " to ".join(
            f"{count}" for count in sorted({*plan.n_atoms[:1], *plan.n_atoms[-1:]})
        )
        self._console.print(
            f"{atoms} atoms, {plan.n_pairs} pairs to train on and "
            f"{plan.n_validation_pairs} held out; {plan.n_parameters} parameters",
            soft_wrap=True,
        )
        done = (
            f"steps {plan.first + 1} to {plan.steps}"
            if plan.first
            else f"{plan.steps} steps"
        )
        if plan.first >= plan.steps:
            self._console.print(f"all {plan.steps} steps are done")
            return
        self._console.print(
            f"{done} of {plan.batch_size} pairs, {1e3 * plan.seconds_per_step:.3g} ms "
            f"each on {plan.device} (threads: {plan.threads}): about "
            f"{duration(plan.seconds)}",
            soft_wrap=True,
        )
        self._start = time.perf_counter()

    def __call__(self, report: TrainingStep) -> None:
        """Show one report of the training loop; validations get a line of their own."""
        text = (
            f"loss {report.loss:.3e}  lr {report.learning_rate:.1e}  "
            f"{1e3 * report.seconds_per_step:.1f} ms/step"
        )
        if report.left_s is None:
            self._show(report.step, text)
        else:
            self._show_by_time(report, text)
        if report.errors is not None:
            displacement, velocity = (
                report.errors.displacement,
                report.errors.velocity,
            )
            self._console.print(
                f"step {report.step}: validation "
                f"displacement {100 * displacement.relative_mae:.3f} % "
                f"({displacement.mae:.2e} Å)  velocity "
                f"{100 * velocity.relative_mae:.3f} % ({velocity.mae:.2e} Å/fs)",
                soft_wrap=True,
            )

    def _show_by_time(self, report: TrainingStep, text: str) -> None:
        """Show the part that is done: how many steps fit is planned anew each time."""
        self._by_time, self._total = True, 100
        self._bar.update(self._task, total=self._total)
        done = int(100 * report.share)
        self._show(done, f"{done} %  step {report.step}  {text}", report.left_s)

    def _line(self, n_done: int, text: str) -> str:
        return text if self._by_time else super()._line(n_done, text)


class StageProgress(_Progress):
    """How much of a stage is done, in the words of the stage.

    Parameters
    ----------
    total : int
    console : rich.console.Console, optional
        Default: standard output.
    """

    def __init__(self, total: int, *, console: Console | None = None) -> None:
        super().__init__(total, console)

    def update(
        self,
        n_done: int,
        text: str,
        *,
        left_s: float | None = None,
        at_most_s: float | None = None,
    ) -> None:
        """Show that `n_done` are done.

        Parameters
        ----------
        n_done : int
        text : str
            How far the stage is.
        left_s : float, s, optional
            Until the end, where that is known.
        at_most_s : float, s, optional
            After which the stage ends with what it has.
        """
        if left_s is None and at_most_s is not None:
            left_s = self._seconds_left(n_done)
            # Beyond its time it makes what it needs at least.
            if left_s is not None and at_most_s > 0.0:
                left_s = min(left_s, at_most_s)
        self._show(n_done, text, left_s)

    def _line(self, n_done: int, text: str) -> str:
        del n_done
        return text
