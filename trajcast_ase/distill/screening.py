"""Screening of a candidate: a short training, and how its errors grow."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trajcast_ase.distill.effort import Length
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate, Task, configuration
from trajcast_ase.distill.speed import model_speed
from trajcast_ase.strict import members, number
from trajcast_ase.training.loop import train
from trajcast_ase.training.pairs import make_pairs
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.growth import error_growth

N_STARTS = 8
LARGEST_GROWTH = 1e9


@dataclass(frozen=True, slots=True)
class Test:
    """A screening to make.

    Attributes
    ----------
    candidate : Candidate
    round : int
    length : Length
        Of the training.
    ahead : int
        Frames after which errors are compared.
    seed : int
    facts : Facts
    folder : Path
        Of distill.
    """

    candidate: Candidate
    round: int
    length: Length
    ahead: int
    seed: int
    facts: Facts
    folder: Path

    @property
    def name(self) -> str:
        """Name of the training's folder."""
        one = self.candidate
        wide = f"-{one.surroundings_A:g}" if one.surroundings_A else ""
        return (
            f"screening/{self.round}-{one.lag}-{one.cutoff_A:g}{wide}-"
            f"{one.n_channels}-{one.n_layers}"
        )


@dataclass(frozen=True, slots=True)
class Screening:
    """What a short training of a candidate reached.

    Attributes
    ----------
    round : int
    candidate : Candidate
    horizon_fs : float, fs
    steps : int
    seconds : float, s
    one_stride : float
        Relative error of the velocity after one stride.
    growth_per_ps : float, 1/ps
        Relative error of the velocity after the same time for all, over this time.
    speed : float, ns/day
    """

    round: int
    candidate: Candidate
    horizon_fs: float
    steps: int
    seconds: float
    one_stride: float
    growth_per_ps: float
    speed: float

    def score(self, goal: float) -> float:
        """Return what is lowest for the best.

        Up to `goal` (ns/day) twice the speed is worth twice the error; beyond, half
        the error is worth 16 times the speed.
        """
        speed = max(self.speed, 1e-9)
        worth = max(speed, goal) ** 0.25 * min(1.0, speed / max(goal, 1e-9))
        return float(self.growth_per_ps / worth)

    def to_plain(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"candidate": self.candidate.to_plain()}

    @classmethod
    def from_plain(cls, values: Any) -> Screening:
        """Return a result of a state file.

        Raises
        ------
        ValueError
            A value is missing, or of another type.
        """
        found = dict(members(values, "a screening", dict))
        if found.keys() != set(cls.__slots__):
            raise ValueError("a screening of the state lacks a key or has another")
        candidate = Candidate.from_plain(members(found.pop("candidate"), "it", dict))
        for name, value in found.items():
            number(value, name, 0)
        return cls(candidate=candidate, **found)


def screen(test: Test) -> Screening:
    """Train a candidate for as long as the test says, and follow its errors."""
    facts, candidate = test.facts, test.candidate
    held_out = read_frames(facts.paths(facts.validation, test.folder)[0])
    began = time.perf_counter()
    task = Task(
        candidate,
        test.length,
        test.name,
        n_atoms=len(held_out.masses),
        seed=test.seed,
        screening=True,
    )
    result = train(configuration(task, facts, test.folder))
    growth = error_growth(
        result.model,
        make_pairs(held_out, candidate.horizon_fs(facts), checks_motion=False),
        n_strides=math.ceil(test.ahead / candidate.lag),
        n_starts=N_STARTS,
    )
    after_fs = test.ahead * facts.stride_fs
    error = float(np.interp(after_fs, growth.time_fs, growth.velocity))
    typical = float(np.abs(held_out.velocities).mean())
    return Screening(
        round=test.round,
        candidate=candidate,
        horizon_fs=candidate.horizon_fs(facts),
        steps=result.steps,
        seconds=time.perf_counter() - began,
        one_stride=_bounded(result.errors.velocity.relative_mae),
        growth_per_ps=_bounded(error / typical / (1e-3 * after_fs)),
        speed=model_speed(result.path, held_out, facts.middle),
    )


def _bounded(growth: float) -> float:
    """Return a growth that JSON can hold: errors may explode."""
    return min(growth, LARGEST_GROWTH) if math.isfinite(growth) else LARGEST_GROWTH
