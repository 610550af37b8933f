"""What all stages share: the request, the effort, the state, and how to speak."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from trajcast_ase.distill.effort import Effort
from trajcast_ase.distill.request import Request
from trajcast_ase.distill.state import StateFile
from trajcast_ase.progress import StageProgress


@dataclass(frozen=True, slots=True)
class Job:
    """A run of distill.

    Attributes
    ----------
    request : Request
    effort : Effort
    state : StateFile
    console : rich.console.Console
    """

    request: Request
    effort: Effort
    state: StateFile
    console: Console

    @property
    def processes(self) -> int:
        """Number of processes that the calculator can be in at once."""
        calculator = self.request.calculator
        if calculator is not None and calculator.is_shared:
            return 1
        return self.request.processes

    def before(self, stage: str) -> float:
        """Return the time that was spent on other stages, s."""
        return self.state.spent() - self.state.spent_on(stage)

    def seconds(self, stage: str, parts: int = 1) -> float | None:
        """Return after how many seconds a stage begins nothing new; None: never.

        Of `parts` that are still to come the first has its part of the time.
        """
        spent = self.state.spent_on(stage)
        left = self.effort.seconds(stage, self.before(stage), spent)
        return None if left is None else left / parts

    def say(self, stage: str, line: str) -> None:
        """Print what a stage decided."""
        self.console.print(f"{stage}: {line}", soft_wrap=True, markup=False)

    def bar(self, total: int) -> StageProgress:
        """Return a progress bar with the time left."""
        return StageProgress(total, console=self.console)
