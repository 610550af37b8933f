"""Second stage: horizon, cutoff, channels and layers, by screenings of equal cost."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trajcast_ase.distill.choice_table import write_table
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.findings import has_bonds, nearest_distances
from trajcast_ase.distill.fitting import Candidate, configuration, seconds_per_step
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.request import Fixed
from trajcast_ase.distill.speed import model_speed
from trajcast_ase.strict import integer, members, number
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.loop import train
from trajcast_ase.training.pairs import make_pairs
from trajcast_ase.trajectory import Frames, read_frames
from trajcast_ase.validation.growth import error_growth

STAGE = "choice"
PERIODS = (0.25, 0.5, 0.125, 0.75)
"""Horizons to try, in periods of the fastest motion, the likeliest first."""
NETWORKS = ((16, 3, 1.0, 0.0), (16, 2, 1.0, 0.0), (32, 3, 1.0, 1.6), (16, 3, 1.3, 0.0))
"""Channels, layers, cutoff in units of the shorter, surroundings in units of it."""
MOLECULAR_CUTOFF_A = 4.0
SHELLS = 1.6
"""Cutoff of a system without bonds to speak of, in distances of neighbors."""
CUTOFFS_A = (3.5, 7.0)
LEAST_SCREENING_S = 8.0
MOST_CANDIDATES = 12
LEAST_STEPS = 250
"""Of a screening in the first round: after fewer, all errors are large."""
AHEAD = 2
"""Longest horizons over which errors grow before they are compared."""
N_STARTS = 8
LARGEST_GROWTH = 1e9
LARGEST_STEPS = 10**9


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

    @property
    def score(self) -> float:
        """What is lowest for the best: half the error is worth 16 times the time."""
        return self.growth_per_ps / math.sqrt(math.sqrt(max(self.speed, 1e-9)))

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


def candidates(facts: Facts, frames: Frames, fixed: Fixed) -> list[Candidate]:
    """Return what may be tried, the likeliest first.

    Parameters
    ----------
    facts : Facts
    frames : Frames
        Of a run.
    fixed : Fixed
        What the user has decided.
    """
    lags = _lags(facts, frames, fixed)
    base = short_cutoff(frames) if fixed.cutoff_A is None else fixed.cutoff_A
    nets = []
    for channels, layers, factor, wide in NETWORKS:
        cutoff = base if fixed.cutoff_A is not None else round(base * factor, 2)
        one = Candidate(
            lag=1,
            cutoff_A=cutoff,
            surroundings_A=round(wide * cutoff, 2) if wide else None,
            n_channels=fixed.n_channels or channels,
            n_layers=fixed.n_layers or layers,
        )
        if one not in nets:
            nets.append(one)
    # Along the diagonals: a likely network at each horizon, and each network at a
    # likely horizon, come before what is unlikely in both.
    places = [(i + j, i, j) for i in range(len(nets)) for j in range(len(lags))]
    return [replace(nets[i], lag=lags[j]) for _, i, j in sorted(places)]


def _lags(facts: Facts, frames: Frames, fixed: Fixed) -> list[int]:
    if fixed.horizon_fs is not None:
        lag = max(1, round(fixed.horizon_fs / facts.stride_fs))
        found = [lag]
    else:
        wanted = (part * facts.fastest_period_fs / facts.stride_fs for part in PERIODS)
        found = list(dict.fromkeys(max(1, round(lag)) for lag in wanted))
    longest = max(1, (frames.n_frames - 2) // (2 * AHEAD))
    if fixed.horizon_fs is not None and found[0] > longest:
        raise ValueError(
            f"--horizon {fixed.horizon_fs:g} fs is too long for held-out runs of "
            f"{frames.n_frames * facts.stride_fs:g} fs; at most "
            f"{longest * facts.stride_fs:g} fs can be judged on them"
        )
    return list(dict.fromkeys(min(lag, longest) for lag in found))


def short_cutoff(frames: Frames) -> float:
    """Return the shorter cutoff to try, Å, by bonds or distances of neighbors."""
    near = float(np.median(nearest_distances(frames)))
    # Bonds of molecules, not the contacts of a metal.
    if near < 2.0 and _has_bonds(frames):  # noqa: PLR2004
        return MOLECULAR_CUTOFF_A
    return round(float(np.clip(SHELLS * near, *CUTOFFS_A)), 2)


def _has_bonds(frames: Frames) -> bool:
    try:
        return has_bonds(frames)
    except ValueError:  # a cell too small for bonds to be unique
        return False


def choose(job: Job, facts: Facts) -> None:
    """Screen candidates by successive halving, and keep the best in the state."""
    held_out = read_frames(facts.paths(facts.validation, job.request.out)[0])
    pool = candidates(facts, held_out, job.request.fixed)
    plan = job.state.plans.get(STAGE)
    if plan is None:
        n_first = _n_first(job, facts, pool, len(held_out.masses))
        plan = {"n_first": n_first, "done": []}
        job.state.keep_plan(STAGE, plan)
    n_first = integer(plan.get("n_first"), "n_first", 1, MOST_CANDIDATES)
    done = [
        Screening.from_plain(one) for one in members(plan.get("done"), "done", list)
    ]
    first = pool[:n_first]
    if len(first) == 1:
        why = "the likeliest; there is time or room for no other"
        _settle(job, facts, done, first[0], why)
        return
    best = _halved(job, facts, held_out, first, done)
    row = next(row for row in reversed(done) if row.candidate == best)
    why = (
        f"of {n_first} tried it has the lowest error growth per ps over the fourth "
        f"root of the speed: {100 * row.growth_per_ps:.3g} % per ps at {row.speed:.3g} "
        "ns/day"
    )
    _settle(job, facts, done, best, why)


def _n_first(job: Job, facts: Facts, pool: Sequence[Candidate], n_atoms: int) -> int:
    """Return how many can be screened for long enough to tell them apart."""
    config = _config(job, facts, pool[0], n_atoms, steps=100)
    least = max(LEAST_SCREENING_S, LEAST_STEPS * seconds_per_step(config))
    affordable = job.effort.screening_seconds() / least
    count = 1
    # Each round of halving takes as long as the first.
    while (count + 1) * max(1, int(math.log2(count + 1))) <= affordable:
        count += 1
    return min(len(pool), count, MOST_CANDIDATES)


def _config(
    job: Job,
    facts: Facts,
    candidate: Candidate,
    n_atoms: int,
    *,
    steps: int,
    folder: str = "measured",
) -> TrainingConfig:
    """Return the configuration of a screening."""
    return configuration(
        candidate,
        facts,
        job.request.out,
        n_atoms=n_atoms,
        steps=steps,
        name=f"screening/{folder}",
        description="",
        seed=job.request.seed,
        screening=True,
    )


def _halved(
    job: Job,
    facts: Facts,
    held_out: Frames,
    first: Sequence[Candidate],
    done: list[Screening],
) -> Candidate:
    """Screen, keep the better half, screen for longer, and return the last one."""
    alive = list(first)
    n_rounds = max(1, int(math.log2(len(alive))))
    ahead = AHEAD * max(one.lag for one in alive)
    with job.bar(_n_screenings(len(alive))) as bar:
        for number_of_round in range(1, n_rounds + 1):
            seconds = job.effort.screening_seconds() / (n_rounds * len(alive))
            for candidate in alive:
                if not _is_done(candidate, number_of_round, done):
                    test = _Test(candidate, number_of_round, seconds, ahead)
                    done.append(_screen(job, facts, held_out, test))
                    rows = [row.to_plain() for row in done]
                    job.state.keep_plan(STAGE, {"n_first": len(first), "done": rows})
                bar.update(len(done), "screenings")
            scores = {
                row.candidate: row.score for row in done if row.round == number_of_round
            }
            alive = sorted(alive, key=lambda one: scores[one])
            alive = alive[: max(1, len(alive) // 2)]
    return alive[0]


def _n_screenings(n_first: int) -> int:
    total, left = 0, n_first
    for _ in range(max(1, int(math.log2(n_first)))):
        total, left = total + left, max(1, left // 2)
    return total


def _is_done(candidate: Candidate, number: int, done: Sequence[Screening]) -> bool:
    return any(row.candidate == candidate and row.round == number for row in done)


@dataclass(frozen=True, slots=True)
class _Test:
    """A screening to make: its length, and the frames after which it is judged."""

    candidate: Candidate
    round: int
    seconds: float
    ahead: int


def _screen(job: Job, facts: Facts, held_out: Frames, test: _Test) -> Screening:
    """Train a candidate for so many seconds, and follow its errors."""
    candidate = test.candidate
    n_atoms = len(held_out.masses)
    began = time.perf_counter()
    steps = _steps(job, facts, test, n_atoms)
    folder = f"{test.round}-{_label(candidate)}"
    result = train(_config(job, facts, candidate, n_atoms, steps=steps, folder=folder))
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
        steps=steps,
        seconds=time.perf_counter() - began,
        one_stride=result.errors.velocity.relative_mae,
        growth_per_ps=_bounded(error / typical / (1e-3 * after_fs)),
        speed=model_speed(result.path, held_out, facts.temperature_K),
    )


def _steps(job: Job, facts: Facts, test: _Test, n_atoms: int) -> int:
    """Return the optimizer steps of a screening; of one that goes on, as before."""
    plan = job.state.plans[STAGE]
    name = f"{test.round}-{_label(test.candidate)}"
    running = members(plan.get("running", {}), "running", dict)
    if name in running:
        return integer(running[name], f"the steps of {name}", 1, LARGEST_STEPS)
    began = time.perf_counter()
    config = _config(job, facts, test.candidate, n_atoms, steps=100)
    per_step = seconds_per_step(config)
    left = test.seconds - (time.perf_counter() - began)
    steps = job.effort.screening_steps(max(left, 0.5 * test.seconds), per_step)
    job.state.keep_plan(STAGE, plan | {"running": {name: steps}})
    return steps


def _bounded(growth: float) -> float:
    """Return a growth that JSON can hold: errors may explode."""
    return min(growth, LARGEST_GROWTH) if math.isfinite(growth) else LARGEST_GROWTH


def _label(candidate: Candidate) -> str:
    wide = f"-{candidate.surroundings_A:g}" if candidate.surroundings_A else ""
    return (
        f"{candidate.lag}-{candidate.cutoff_A:g}{wide}-{candidate.n_channels}-"
        f"{candidate.n_layers}"
    )


def _settle(
    job: Job, facts: Facts, done: Sequence[Screening], best: Candidate, why: str
) -> None:
    """Keep the choice, with the table of what was tried."""
    files: list[Path] = []
    if done:
        files = write_table(done, best, job.request.out)
    shutil.rmtree(job.request.out / "screening", ignore_errors=True)
    line = f"horizon {best.horizon_fs(facts):g} fs, {best.network}: {why}"
    job.state.finish(STAGE, best.to_plain(), line, files)
    job.say(STAGE, line)
