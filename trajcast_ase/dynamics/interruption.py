"""An interrupt, or a scheduler's warning: noted, so that a step can end first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training or run that ended early, with all that it had done on disk.

    Attributes
    ----------
    exit_status : int
        By convention, 128 plus the number of the signal.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect the numbers of SIGINT and SIGTERM instead of ending at the first one.

    A second signal ends the block at once. Signals that the process ignores, as under
    ``nohup``, stay ignored; in another thread than the main one nothing changes.
    """
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    watched = [n for n in SIGNALS if in_main and _is_heard(n)]
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_heard(number: signal.Signals) -> bool:
    """Return whether the signal does anything, by a handler that can be restored."""
    return signal.getsignal(number) not in (signal.SIG_IGN, None)
