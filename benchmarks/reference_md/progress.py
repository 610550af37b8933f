"""A bar with the time left on a terminal, plain lines in a pipe."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

LINE_INTERVAL = 10.0
"""Shortest time between two plain lines, s."""


class Progress:
    """Progress of the stages of one run.

    Parameters
    ----------
    title : str
        Name of the run.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._name = ""
        self._total = 0
        self._next_line = 0.0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=not sys.stdout.isatty(),
        )
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Self:
        """Show the bar."""
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

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Begin a stage of `total` frames of which `done` exist."""
        self._name, self._total = name, total
        self._next_line = time.monotonic() + LINE_INTERVAL
        description = f"{self._title} {name}"
        self._bar.reset(
            self._task, description=description, total=total, completed=done
        )

    def update(self, done: int) -> None:
        """Show that `done` frames exist."""
        if not self._bar.disable:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() > self._next_line or done == self._total:
            self._next_line = time.monotonic() + LINE_INTERVAL
            line = f"{self._title} {self._name} {done}/{self._total}"
            print(line, flush=True)
