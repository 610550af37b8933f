"""Progress of rollouts and trainings: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from trajcast_ase.units import ns_per_day

if TYPE_CHECKING:
    from trajcast_ase.training.log import TrainingStep

LINE_INTERVAL_S = 10.0
"""Shortest time between two plain lines; later they come at each 5 % of the time."""


class _Progress:
    """Bar or lines for `total` steps; subclasses say what stands in them."""

    def __init__(self, total: int, console: Console | None) -> None:
        self._total = total
        self._console = console or Console(highlight=False)
        self._start = self._next_line = 0.0
        self._first: int | None = None
        self._bar = Progress(
            BarColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        """Start the clock and show the bar."""
        self._start = time.perf_counter()
        self._next_line = self._start + LINE_INTERVAL_S
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

    def _show(self, n_done: int, text: str) -> None:
        """Move the bar, or print a line where one is due."""
        if self._first is None:
            self._first = n_done
        if not self._bar.disable:
            self._bar.update(self._task, completed=n_done, description=text)
            return
        now = time.perf_counter()
        if now >= self._next_line or n_done >= self._total:
            spacing = max(LINE_INTERVAL_S, 0.05 * (now - self._start))
            self._next_line = now + spacing
            self._print_line(n_done, text)

    def _print_line(self, n_done: int, text: str) -> None:
        counts = f"{n_done}/{self._total}"
        self._console.print(
            f"{counts}  {text}{self._time_left(n_done)}", soft_wrap=True
        )

    def _time_left(self, n_done: int) -> str:
        """Return the time left at the mean speed so far, empty at either end."""
        n_fresh = n_done - (self._first or 0)
        if n_fresh == 0 or n_done >= self._total:
            return ""
        elapsed = time.perf_counter() - self._start
        seconds = round(elapsed / n_fresh * (self._total - n_done))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"  {hours}:{minutes:02d}:{seconds:02d} left"


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


class TrainingProgress(_Progress):
    """Loss, learning rate and validation errors; a reporter of the training loop.

    Parameters
    ----------
    n_steps : int
        Of the whole training; a resumed one starts within.
    console : rich.console.Console, optional
        Default: standard output.
    """

    def __init__(self, n_steps: int, *, console: Console | None = None) -> None:
        super().__init__(n_steps, console)

    def __call__(self, report: TrainingStep) -> None:
        """Show one report of the training loop; validations get a line of their own."""
        text = (
            f"loss {report.loss:.3e}  lr {report.learning_rate:.1e}  "
            f"{1e3 * report.seconds_per_step:.1f} ms/step"
        )
        self._show(report.step, text)
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


class StageProgress(_Progress):
    """How much of a stage is done.

    Parameters
    ----------
    total : int
    console : rich.console.Console, optional
        Default: standard output.
    """

    def __init__(self, total: int, *, console: Console | None = None) -> None:
        super().__init__(total, console)

    def update(self, n_done: int, text: str) -> None:
        """Show that `n_done` are done, with what they are."""
        self._show(n_done, text)
