"""How far a training is: in steps, and of a time, whatever pace the machine keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from trajcast_ase.strict import integer, members, number, shortened
from trajcast_ase.training.config import MOST_STEPS, OptimizerConfig

LOOKED_AFTER = 0.05
"""Share of the steps that are left after which the pace is looked at again."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of a training, which may be planned anew in its course.

    Attributes
    ----------
    steps, warmup : int
        In all, and with a rising learning rate.
    since : int
        Step at which `steps` were planned.
    done : float
        Share of the training that was done then.
    """

    steps: int
    warmup: int
    since: int = 0
    done: float = 0.0

    @classmethod
    def of(cls, options: OptimizerConfig) -> Self:
        """Return the schedule of a number of steps."""
        return cls(options.n_steps, options.n_warmup_steps)

    @classmethod
    def from_plain(cls, value: Any, step: int) -> Self:
        """Return the schedule in a checkpoint of `step` steps.

        Raises
        ------
        ValueError
            A value is missing, of another type or out of range.
        """
        found = members(value, "schedule", dict)
        if found.keys() != set(cls.__slots__):
            raise ValueError(f"schedule = {shortened(value)} lacks a key or has more")
        since = integer(found["since"], "schedule.since", 0, step)
        done = number(found["done"], "schedule.done", 0)
        if done > 1.0:
            raise ValueError(f"schedule.done = {done:g} is more than all")
        return cls(
            steps=integer(found["steps"], "schedule.steps", max(step, 1), MOST_STEPS),
            warmup=integer(found["warmup"], "schedule.warmup", 0, MOST_STEPS),
            since=since,
            done=done,
        )

    @property
    def next_look(self) -> int:
        """Step after which the pace is looked at again."""
        return self.since + max(1, int(LOOKED_AFTER * (self.steps - self.since)))

    def share(self, step: int) -> float:
        """Return how much of the training is done after `step` steps."""
        if step >= self.steps:
            return 1.0
        part = (step - self.since) / (self.steps - self.since)
        return self.done + (1.0 - self.done) * part

    def with_left(self, step: int, left: int) -> Schedule:
        """Return the schedule after `step` steps that ends `left` steps later.

        The share done goes on from where it is, so that nothing jumps.
        """
        return Schedule(step + left, self.warmup, step, self.share(step))
