"""How much work each stage gets: what a budget of wall time affords, or fixed sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trajcast_ase.distill.words import budget_option, shown

SHARES = {
    "reference": 0.36,
    "choice": 0.12,
    "training": 0.34,
    "bath": 0.08,
    "report": 0.10,
}
"""Of the budget; of what is left when a stage begins, in proportion."""
USABLE = 0.88
"""Part of a share that is planned; the rest is for reading, judging and writing."""
SHORTEST_PS = 20.0
"""Reference MD for each canonical run: half of it is that run, the rest training."""
FEWEST_STEPS = 200
"""Optimizer steps of a training worth the name."""
SHORTEST_RUN_PS = 9.0
"""Run of a model that can be held against a reference."""
JUDGING_S = 4.0
"""Time to compare runs with a reference, at least."""
SPARE = 1.05
"""Of a budget that is asked for, over what is needed."""


class BudgetError(ValueError):
    """A budget that is too short for anything; the text says what is needed."""


@dataclass(frozen=True, slots=True)
class Length:
    """Of a training: steps or seconds; the other is None."""

    steps: int | None
    seconds: float | None


class Effort(Protocol):
    """Decides on sizes from measured speeds.

    `before` is the time that earlier stages took, s; `spent` what earlier commands
    have spent on this stage.
    """

    def md_steps(self, per_step: float, step_fs: float, n_tracks: int) -> int:
        """Return the number of time steps of all reference MD together.

        `per_step` is the time of a step of all processes together, s.
        """

    def seconds(self, stage: str, before: float, spent: float) -> float | None:
        """Return after how many seconds a stage begins nothing new; None: never."""

    def screening(self, seconds: float) -> Length:
        """Return the length of a screening that may take so long."""

    def screening_seconds(self, before: float, processes: int) -> float:
        """Return the time of all screenings together, of all processes, s."""

    def training(
        self, seconds_per_step: float, before: float, reserved: float
    ) -> Length:
        """Return the length of the training, of which `reserved` seconds are kept."""

    def strides(
        self, stage: str, before: float, per_run: float, horizon_fs: float
    ) -> int:
        """Return the strides of a run; `per_run` s for each stride of all runs."""

    def least_strides(self, horizon_fs: float) -> int:
        """Return the strides of a run that can be judged."""

    def extra_md(self, seconds_per_step: float, seconds: float) -> int:
        """Return the time steps of more MD where data limit, in so many seconds."""


@dataclass(frozen=True, slots=True)
class WallClock:
    """What a budget of wall time affords.

    Attributes
    ----------
    budget_s : float, s
    chooses : bool
        Whether there is a choice to make; without, its share is that of the others.
    """

    budget_s: float
    chooses: bool = True

    def share(self, stage: str, before: float) -> float:
        """Return the share of a stage in what is left of the budget, s."""
        shares = SHARES if self.chooses else SHARES | {"choice": 0.0}
        stages = list(shares)
        rest = sum(shares[name] for name in stages[stages.index(stage) :])
        return max(0.0, self.budget_s - before) * shares[stage] / rest

    def md_steps(self, per_step: float, step_fs: float, n_tracks: int) -> int:
        """Return the number of time steps of all reference MD together.

        Raises
        ------
        BudgetError
            They are fewer than what training and report need.
        """
        share = USABLE * self.share("reference", 0.0)
        steps = int(share / per_step)
        needed_ps = SHORTEST_PS * n_tracks
        needed = 1e3 * needed_ps / step_fs
        if steps < needed:
            total = self.budget_s * needed * per_step / share
            raise BudgetError(
                f"a budget of {shown(self.budget_s)} affords "
                f"{1e-3 * steps * step_fs:.2g} ps of reference MD at "
                f"{1e3 * per_step:.3g} ms a time step, and {needed_ps:g} ps are needed "
                f"for {n_tracks} canonical runs and the training; give --budget "
                f"{needed_budget(total)} or more, more --processes, or a smaller system"
            )
        return steps

    def seconds(self, stage: str, before: float, spent: float) -> float | None:
        """Return what is left of the stage's share, s."""
        return max(0.0, self.share(stage, before) - spent)

    def screening(self, seconds: float) -> Length:
        """Return the time."""
        return Length(None, seconds)

    def screening_seconds(self, before: float, processes: int) -> float:
        """Return the time of all screenings together, of all processes, s."""
        return USABLE * processes * self.share("choice", before)

    def training(
        self, seconds_per_step: float, before: float, reserved: float
    ) -> Length:
        """Return the time between `before` and what is reserved for later stages.

        Raises
        ------
        BudgetError
            There is no time left for a training.
        """
        most = self.budget_s * (SHARES["bath"] + SHARES["report"])
        left = self.budget_s - before - most
        needed = FEWEST_STEPS * seconds_per_step
        if left < needed:
            more = self.budget_s + needed - left
            raise BudgetError(
                f"{shown(max(left, 0))} of {shown(self.budget_s)} are left for the "
                f"training, and {FEWEST_STEPS} steps of {1e3 * seconds_per_step:.3g} "
                f"ms are needed at least, {shown(needed)}; finished stages are kept: "
                f"go on with --budget {needed_budget(more)} or more"
            )
        return Length(None, left + max(0.0, most - reserved))

    def strides(
        self, stage: str, before: float, per_run: float, horizon_fs: float
    ) -> int:
        """Return the strides of a run, never too few to judge."""
        affordable = (USABLE * self.share(stage, before) - JUDGING_S) / per_run
        return max(self.least_strides(horizon_fs), int(affordable))

    def least_strides(self, horizon_fs: float) -> int:
        """Return the strides of a run that can be judged."""
        return int(1e3 * SHORTEST_RUN_PS / horizon_fs) + 1

    def extra_md(self, seconds_per_step: float, seconds: float) -> int:
        """Return as many as fit."""
        return int(seconds / seconds_per_step)


def needed_budget(seconds: float) -> str:
    """Return a budget as the option takes it, with something to spare."""
    return budget_option(SPARE * seconds)


@dataclass(frozen=True, slots=True)
class FixedEffort:
    """Sizes that do not depend on the clock: the same result on any machine."""

    n_md_steps: int
    n_screening_steps: int
    n_training_steps: int
    n_strides: int
    n_extra_md_steps: int = 0

    def md_steps(self, per_step: float, step_fs: float, n_tracks: int) -> int:
        """Return `n_md_steps`."""
        del per_step, step_fs, n_tracks
        return self.n_md_steps

    def seconds(self, stage: str, before: float, spent: float) -> float | None:
        """Return None: all is done."""
        del stage, before, spent
        return None

    def screening(self, seconds: float) -> Length:
        """Return `n_screening_steps`."""
        del seconds
        return Length(self.n_screening_steps, None)

    def screening_seconds(self, before: float, processes: int) -> float:
        """Return enough for all candidates."""
        del before, processes
        return 1e9

    def training(
        self, seconds_per_step: float, before: float, reserved: float
    ) -> Length:
        """Return `n_training_steps`."""
        del seconds_per_step, before, reserved
        return Length(self.n_training_steps, None)

    def strides(
        self, stage: str, before: float, per_run: float, horizon_fs: float
    ) -> int:
        """Return `n_strides`."""
        del stage, before, per_run, horizon_fs
        return self.n_strides

    def least_strides(self, horizon_fs: float) -> int:
        """Return `n_strides`."""
        del horizon_fs
        return self.n_strides

    def extra_md(self, seconds_per_step: float, seconds: float) -> int:
        """Return `n_extra_md_steps`."""
        del seconds_per_step, seconds
        return self.n_extra_md_steps
