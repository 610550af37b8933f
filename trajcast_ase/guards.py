"""What watches a run: guards look at a stride and say what they object to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel


@dataclass(frozen=True, slots=True)
class Finding:
    """What a guard objects to.

    Attributes
    ----------
    atom : int or None
        Index in the batch of systems, or None for a system as a whole.
    system : int
        Index in the batch.
    value, limit : float
    text : str
        One clause.
    """

    atom: int | None
    system: int
    value: float
    limit: float
    text: str


class Guard(Protocol):
    """Looks at the strides of a run.

    Attributes
    ----------
    every : int
        Strides between two looks; 1 = each stride.
    """

    every: int

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return what is wrong with the forecast from `before` to `after`."""
