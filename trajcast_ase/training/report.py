"""What a training tells of itself while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trajcast_ase.training.evaluate import ForecastErrors


@dataclass(frozen=True, slots=True)
class Progress:
    """What a reporter learns after an optimiser step.

    Attributes
    ----------
    step, steps : int
    loss : float
        Mean over the steps since the last report.
    learning_rate : float
    seconds_per_step : float
    errors : ForecastErrors or None
        Validation errors, where this step was validated.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds_per_step: float
    errors: ForecastErrors | None = None


class Reporter(Protocol):
    """Receives the progress of a training."""

    def __call__(self, progress: Progress) -> None:
        """Show or store `progress`."""
