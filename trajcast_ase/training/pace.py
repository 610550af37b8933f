"""The clock of a training by time: steps are planned anew by the pace that is kept."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from trajcast_ase.strict import members, number
from trajcast_ase.training.config import MOST_STEPS
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.schedule import Schedule

LONGEST_S = 1e10
CLOSING = 3.0
"""Validations that close a training: the last, the final errors, and going back."""
UNUSED = 0.2
"""Share of its time that a training may leave when it ends."""
SMOOTHED = 20
"""Steps that a new pace must have been kept for to count half."""


class Pace:
    """Wall time of a training, and the steps that fit into what is left of it.

    Parameters
    ----------
    seconds : float, s
        That the training may take.
    schedule : Schedule
    elapsed : float, s
        Wall time so far, of earlier calls too.
    validation_s : float, s
        Of one validation.
    """

    def __init__(
        self, seconds: float, schedule: Schedule, elapsed: float, validation_s: float
    ) -> None:
        self.seconds = seconds
        self.schedule = schedule
        self.elapsed = elapsed
        self.validation_s = validation_s
        self._clock = time.monotonic()
        self._per_step = 0.0
        self._look: tuple[int, float] | None = None  # step and elapsed time

    @classmethod
    def from_checkpoint(cls, value: Any, step: int, seconds: float) -> Self:
        """Return the clock in a checkpoint of `step` steps.

        Raises
        ------
        ValueError
            A value is missing, of another type or out of range.
        """
        found = members(value, "pace", dict)
        return cls(
            seconds,
            Schedule.from_plain(found.get("schedule"), step),
            number(found.get("elapsed"), "pace.elapsed", 0, LONGEST_S),
            number(found.get("validation_s"), "pace.validation_s", 0, LONGEST_S),
        )

    def to_plain(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values."""
        self._count()
        return {
            "elapsed": self.elapsed,
            "validation_s": self.validation_s,
            "schedule": asdict(self.schedule),
        }

    def check_going_on(self, step: int, path: Path) -> None:
        """Refuse more time for a training that has come to its end.

        Parameters
        ----------
        step : int
            Steps done.
        path : Path
            Of the checkpoint, for the error.

        Raises
        ------
        ValueError
        """
        unused = self.left_s - CLOSING * self.validation_s
        if self.schedule.share(step) >= 1.0 and unused > UNUSED * self.seconds:
            raise ValueError(
                f"the training of {path} ended after {self.elapsed / 60:.3g} minutes, "
                f"and its learning rate with it; {self.seconds / 60:.3g} minutes would "
                "change nothing: go on from its model (init, in another folder), or "
                "train anew (--anew)"
            )

    @property
    def left_s(self) -> float:
        """Time until the end, s."""
        self._count()
        return max(0.0, self.seconds - self.elapsed)

    def validated(self, seconds: float) -> None:
        """Take note of what a validation takes, which is not the pace of steps."""
        self.validation_s = seconds
        if self._look is not None:
            step, elapsed = self._look
            self._look = step, elapsed + seconds

    def after(self, step: int, ranks: Ranks, *, least: int) -> bool:
        """Look at the clock after a step, and return whether the plan has changed.

        Parameters
        ----------
        step : int
            Number of steps done.
        ranks : Ranks
            That must agree.
        least : int
            Steps to come at least.
        """
        if self._look is None:
            self._count()
            self._look = step, self.elapsed
        if step < self.schedule.next_look or step == self._look[0]:
            return False
        self._count()
        fresh, began = self._look
        n_steps = step - fresh
        pace = (self.elapsed - began) / n_steps
        weight = n_steps / (n_steps + SMOOTHED) if self._per_step else 1.0
        self._per_step += weight * (pace - self._per_step)
        self._look = step, self.elapsed
        left = self.seconds - self.elapsed - CLOSING * self.validation_s
        fitting = ranks.mean(left / max(self._per_step, 1e-9))
        count = min(MOST_STEPS - step, max(least, int(fitting)))
        self.schedule = self.schedule.with_left(step, count)
        return True

    def _count(self) -> None:
        now = time.monotonic()
        self.elapsed += now - self._clock
        self._clock = now
