"""What a guard of a run is, and what it objects to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel


@dataclass(frozen=True, slots=True)
class Finding:
    """What a guard objects to.

    Attributes
    ----------
    atom : int or None
        Its index in the batch of systems; None where it is a system as a whole.
    system : int
        Its index in the batch.
    value, limit : float
        In the unit that the text tells.
    text : str
        One clause, with atoms numbered within their system: "the O-H bond of atoms 3
        and 4 is 1.92 Å long, the limit is 1.45 Å".
    """

    atom: int | None
    system: int
    value: float
    limit: float
    text: str


class Guard(Protocol):
    """Looks at forecasts, and objects to those that are no sound dynamics.

    A guard has no memory: what it says depends on the two states alone, so that a run
    that goes on from a checkpoint is judged as one that was never interrupted.
    """

    @property
    def every(self) -> int:
        """Strides between two looks; 1 looks at each."""

    def find(
        self, model: ForecastModel, before: State, after: State
    ) -> Sequence[Finding]:
        """Return what is wrong with a stride of a batch of systems.

        Parameters
        ----------
        model : ForecastModel
            Without calibrated noise.
        before, after : State
            Of the stride; finite, and thermostats have not acted yet on `after`.
            Constraints have acted on both.
        """


@runtime_checkable
class JoiningGuard(Guard, Protocol):
    """A guard that knows what is its system's own, and can do so for a batch."""

    def is_like(self, other: Self) -> bool:
        """Return whether one guard of a batch can look for both."""

    @classmethod
    def joined(cls, guards: Mapping[int, Self], n_systems: int) -> Self:
        """Return guards that are alike as one.

        Parameters
        ----------
        guards : mapping of int to guard
            By the system of the batch that each is for.
        n_systems : int
            Of the batch.

        Raises
        ------
        ValueError
            It cannot look at some of the systems only.
        """


@dataclass(frozen=True, slots=True)
class Objection:
    """A finding, and whose it is.

    Attributes
    ----------
    guard : str
        Name of the guard's class.
    finding : Finding
    """

    guard: str
    finding: Finding
