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

    def say(self, stage: str, line: str) -> None:
        """Print what a stage decided."""
        self.console.print(f"{stage}: {line}", soft_wrap=True, markup=False)

    def bar(self, total: int) -> StageProgress:
        """Return a progress bar with the time left."""
        return StageProgress(total, console=self.console)
