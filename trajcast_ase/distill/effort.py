"""How much work each stage gets: what a budget of wall time affords, or fixed sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trajcast_ase.distill.request import shown

SHARES = {
    "reference": 0.30,
    "choice": 0.12,
    "training": 0.38,
    "bath": 0.08,
    "report": 0.12,
}
"""Of the budget."""
USABLE = 0.85
"""Part of a share that is planned; the rest is for reading, judging and writing."""
SHORTEST_PS = 20.0
"""Reference MD that can be split into what training and report need."""
FEWEST_STEPS = 200
"""Optimizer steps of a training worth the name."""
SHORTEST_RUN_PS = 9.0
"""Run of a model that can be held against a reference."""


class BudgetError(ValueError):
    """A budget that is too short for anything; the text says what is needed."""


class Effort(Protocol):
    """Decides on sizes from measured speeds."""

    def md_steps(self, seconds_per_step: float, processes: int, step_fs: float) -> int:
        """Return the number of time steps of all reference MD together."""

    def md_seconds(self, spent: float) -> float | None:
        """Return after how many seconds no further NVE run begins; None: never.

        `spent` are those of this stage by earlier commands.
        """

    def screening_seconds(self) -> float:
        """Return the time of all screenings together, s."""

    def screening_steps(self, seconds: float, seconds_per_step: float) -> int:
        """Return the optimizer steps of one screening of so many seconds."""

    def training_steps(self, seconds_per_step: float, spent: float) -> int:
        """Return the optimizer steps of the training, after `spent` seconds."""

    def strides(
        self, stage: str, n_runs: int, seconds_per_stride: float, horizon_fs: float
    ) -> int:
        """Return the strides of each of `n_runs` model runs of a stage."""


@dataclass(frozen=True, slots=True)
class WallClock:
    """What a budget of wall time affords.

    Attributes
    ----------
    budget_s : float, s
    given : bool
        Whether trajectories are given: their share goes to the training.
    """

    budget_s: float
    given: bool = False

    def share(self, stage: str) -> float:
        """Return the planned time of a stage, s."""
        return USABLE * SHARES[stage] * self.budget_s

    def md_steps(self, seconds_per_step: float, processes: int, step_fs: float) -> int:
        """Return the number of time steps of all reference MD together.

        Raises
        ------
        BudgetError
            They are fewer than what training and report need.
        """
        steps = int(self.share("reference") * processes / seconds_per_step)
        needed = 1e3 * SHORTEST_PS / step_fs
        if steps < needed:
            total = needed * seconds_per_step / processes / USABLE / SHARES["reference"]
            raise BudgetError(
                f"a budget of {shown(self.budget_s)} affords "
                f"{1e-3 * steps * step_fs:.2g} ps of reference MD at "
                f"{1e3 * seconds_per_step:.3g} ms a time step, and {SHORTEST_PS:g} ps "
                f"are needed; give --budget {shown(1.05 * total + 1)} or more, more "
                "--processes, or a smaller system"
            )
        return steps

    def md_seconds(self, spent: float) -> float | None:
        """Return what is left of the stage's share, s."""
        return max(0.0, SHARES["reference"] * self.budget_s - spent)

    def screening_seconds(self) -> float:
        """Return the time of all screenings together, s."""
        return self.share("choice")

    def screening_steps(self, seconds: float, seconds_per_step: float) -> int:
        """Return the optimizer steps of one screening of so many seconds."""
        return max(FEWEST_STEPS // 4, int(seconds / seconds_per_step))

    def training_steps(self, seconds_per_step: float, spent: float) -> int:
        """Return the steps that fit between `spent` and the last two stages.

        Raises
        ------
        BudgetError
            There is no time left for a training.
        """
        reserved = (SHARES["bath"] + SHARES["report"]) * self.budget_s
        left = self.budget_s - reserved - spent
        steps = int(0.93 * left / seconds_per_step)
        if steps < FEWEST_STEPS:
            more = FEWEST_STEPS * seconds_per_step / 0.93 - left
            raise BudgetError(
                f"{shown(max(left, 0))} are left for the training, enough for "
                f"{max(steps, 0)} steps of {1e3 * seconds_per_step:.3g} ms, and at "
                f"least {FEWEST_STEPS} are needed; finished stages are kept: go on "
                f"with --budget {shown(self.budget_s + more + 60)} or more"
            )
        return steps

    def strides(
        self, stage: str, n_runs: int, seconds_per_stride: float, horizon_fs: float
    ) -> int:
        """Return the strides of each of `n_runs` model runs, never too few to judge."""
        least = 1e3 * SHORTEST_RUN_PS / horizon_fs
        affordable = self.share(stage) / (n_runs * seconds_per_stride)
        return int(max(least, affordable)) + 1


@dataclass(frozen=True, slots=True)
class FixedEffort:
    """Sizes that do not depend on the clock: the same result on any machine."""

    n_md_steps: int
    n_screening_steps: int
    n_training_steps: int
    n_strides: int

    def md_steps(self, seconds_per_step: float, processes: int, step_fs: float) -> int:
        """Return `n_md_steps`."""
        del seconds_per_step, processes, step_fs
        return self.n_md_steps

    def md_seconds(self, spent: float) -> float | None:
        """Return None: all runs are made."""
        del spent
        return None

    def screening_seconds(self) -> float:
        """Return enough for a few candidates."""
        return 50.0

    def screening_steps(self, seconds: float, seconds_per_step: float) -> int:
        """Return `n_screening_steps`."""
        del seconds, seconds_per_step
        return self.n_screening_steps

    def training_steps(self, seconds_per_step: float, spent: float) -> int:
        """Return `n_training_steps`."""
        del seconds_per_step, spent
        return self.n_training_steps

    def strides(
        self, stage: str, n_runs: int, seconds_per_stride: float, horizon_fs: float
    ) -> int:
        """Return `n_strides`."""
        del stage, n_runs, seconds_per_stride, horizon_fs
        return self.n_strides
