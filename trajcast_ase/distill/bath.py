"""Fourth stage: the weakest thermostat whose runs pass, stored in the model file."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from typing import Any

from trajcast_ase.distill.baths import (
    UNTRIED,
    Bath,
    baths_to_try,
    is_of_molecules,
    most_baths,
    stored_bath,
)
from trajcast_ase.distill.effort import JUDGING_S
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.rollouts import (
    Strides,
    judge,
    make_runs,
    references_at,
    starts,
)
from trajcast_ase.distill.speed import NO_STRIDE_S, stride_time
from trajcast_ase.models.model_file import load_model, with_thermostat
from trajcast_ase.network import Forecaster
from trajcast_ase.progress import StageProgress
from trajcast_ase.strict import flag, integer, members, number, text
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.report import Report, Row

STAGE = "bath"
LONGEST = 2.0
"""Length of a run, in reference runs: longer ones would not sharpen the report."""
LARGEST = 10**9


@dataclass(frozen=True, slots=True)
class Judged:
    """A row of a short report.

    Attributes
    ----------
    name : str
        Observable and temperature.
    miss, allowed : float
        Distance from the reference, and the greatest that passes, in the row's unit;
        both 0 for rows that rest on no pieces, or have no finite limit.
    passes : bool
    """

    name: str
    miss: float
    allowed: float
    passes: bool

    @classmethod
    def of(cls, row: Row, kelvin: float) -> Judged:
        """Return what is kept of a row."""
        name = f"{row.observable}, {kelvin:g} K"
        miss = abs(row.value - row.reference)
        if row.memory is None or not math.isfinite(miss + row.allowed):
            return cls(name, 0.0, 0.0, row.passes)
        return cls(name, miss, row.allowed, row.passes)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a bath gave.

    Attributes
    ----------
    bath : Bath
    rows : tuple of Judged
        Of short reports; none where a run was lost.
    """

    bath: Bath
    rows: tuple[Judged, ...]


def choose_bath(job: Job, facts: Facts, choice: Candidate, model_name: str) -> None:
    """Choose the bath by short runs, and write it into the final model file."""
    out = job.request.out
    source = out / model_name
    final = out / f"{out.resolve().name}.trajcast"
    horizon_fs = choice.horizon_fs(facts)
    fixed, tried = job.request.fixed.langevin_fs, list[Tried]()
    if fixed is not None:
        best, line = Bath(fixed), f"{Bath(fixed)}, as asked"
    else:
        tried = _try_all(job, facts, choice, model_name)
        best, line = weakest(tried)
    setting = best.setting(horizon_fs, f"trajcast distill: {line}")
    with_thermostat(source, setting, final)
    result = {
        "langevin_fs": best.langevin_fs,
        "tried_fs": [one.bath.langevin_fs for one in tried],
        "model": final.name,
    }
    job.state.finish(STAGE, result, line, [final])
    shutil.rmtree(out / STAGE, ignore_errors=True)
    job.say(STAGE, f"thermostat of the model {setting}: {line}")


def weakest(tried: list[Tried]) -> tuple[Bath, str]:
    """Return the weakest bath with the most rows passed, and why in words."""
    if not tried:
        return UNTRIED, "untried, since the budget leaves no time for short runs"
    passed = passed_alike(tried)
    most = max(passed)
    all_baths = [one.bath for one in tried]
    if most == 0:
        strongest = min(all_baths, key=lambda bath: bath.weakness_fs)
        return strongest, "the strongest of all, since no short run has held"
    good = [bath for bath, n in zip(all_baths, passed, strict=True) if n == most]
    best = max(good, key=lambda bath: bath.weakness_fs)
    counts = ", ".join(
        f"{one.bath} {count} of {len(one.rows)}"
        for one, count in zip(tried, passed, strict=True)
    )
    why = (
        f"the weakest of {len(tried)} baths whose short report passes most rows, "
        f"with one set of limits for all ({counts})"
    )
    return best, why


def passed_alike(tried: list[Tried]) -> list[int]:
    """Return how many rows each bath passes within the narrowest limits of them all.

    Under a weak bath pieces of a run scatter more, and so do the limits widen that its
    own report draws: these would let it pass with what a stronger one fails by.
    """
    narrowest: dict[str, float] = {}
    for one in tried:
        for row in one.rows:
            allowed = min(row.allowed, narrowest.get(row.name, math.inf))
            narrowest[row.name] = allowed
    return [
        sum(row.passes and row.miss <= narrowest[row.name] for row in one.rows)
        for one in tried
    ]


def _try_all(job: Job, facts: Facts, choice: Candidate, model_name: str) -> list[Tried]:
    """Make short runs with each bath that there is time for, and count rows."""
    model = load_model(job.request.out / model_name)
    plan = job.state.plans.get(STAGE)
    if plan is None:
        plan = _plan(job, facts, choice, model_name)
        job.state.keep_plan(STAGE, plan)
    start = starts(facts, job.request.out, 1)[0]
    most = integer(plan.get("n_strides"), "n_strides", 1, LARGEST)
    n_baths = integer(plan.get("n_baths"), "n_baths", 0, most_baths(start))
    tried = [_from_plain(one) for one in members(plan.get("done"), "done", list)]
    baths = baths_to_try(n_baths, of_molecules=is_of_molecules(start))
    with job.bar(most * len(baths) * len(facts.temperatures_K)) as bar:
        for k, bath in enumerate(baths):
            if any(one.bath == bath for one in tried):
                continue
            trial = _Trial(job, facts, choice, model, bath, most, bar, k, len(baths))
            tried.append(trial.made())
            plain = [_plain(one) for one in tried]
            job.state.keep_plan(STAGE, plan | {"done": plain})
    return tried


def _plan(job: Job, facts: Facts, choice: Candidate, model_name: str) -> dict[str, Any]:
    """Return how many baths are tried, and the strides of each run."""
    horizon_fs, effort = choice.horizon_fs(facts), job.effort
    first = read_frames(facts.paths(facts.bath, job.request.out)[0])
    measured = stride_time(job.request.out / model_name, first, facts.middle)
    per_stride = NO_STRIDE_S if measured is None else measured.wall
    n_kelvins = len(facts.temperatures_K)
    n_baths = most_baths(starts(facts, job.request.out, 1)[0])
    before = job.before(STAGE)
    share = effort.seconds(STAGE, before, 0.0)
    if share is not None:
        least = n_kelvins * (effort.least_strides(horizon_fs) * per_stride + JUDGING_S)
        n_baths = min(n_baths, int(share / least))
    n_strides = effort.strides(
        STAGE, before, max(1, n_baths) * n_kelvins * per_stride, horizon_fs
    )
    longest = round(LONGEST * first.n_frames * first.stride_fs / horizon_fs)
    most = max(effort.least_strides(horizon_fs), longest)
    return {"n_baths": n_baths, "n_strides": min(n_strides, most), "done": []}


@dataclass(frozen=True, slots=True)
class _Trial:
    """A bath to try, by a run at each temperature; `number` of `n_baths`."""

    job: Job
    facts: Facts
    choice: Candidate
    model: Forecaster
    bath: Bath
    most: int
    bar: StageProgress
    number: int
    n_baths: int

    def made(self) -> Tried:
        """Return the rows of all reports; none where a run is lost."""
        kelvins = self.facts.temperatures_K
        rows: list[Judged] = []
        for j, kelvin in enumerate(kelvins):
            report = self._report(kelvin, self.number * len(kelvins) + j)
            if report is None:
                return Tried(self.bath, ())
            rows += [Judged.of(row, kelvin) for row in report.rows]
        return Tried(self.bath, tuple(rows))

    def _report(self, kelvin: float, n_before: int) -> Report | None:
        job, facts = self.job, self.facts
        horizon_fs = self.choice.horizon_fs(facts)
        least = min(self.most, job.effort.least_strides(horizon_fs))
        n_left = self.n_baths * len(facts.temperatures_K) - n_before

        def tick(made: int) -> None:
            job.state.tick()
            done = n_before * self.most + made
            total = self.most * self.n_baths * len(facts.temperatures_K)
            text = f"{done} of {total} strides of short runs"
            self.bar.update(done, text, at_most_s=job.seconds(STAGE))

        runs = make_runs(
            self.model,
            starts(facts, job.request.out, 1),
            self.bath.setting(horizon_fs),
            temperature_K=kelvin,
            strides=Strides(least, self.most, job.seconds(STAGE, n_left)),
            folder=job.request.out / STAGE / f"{self.bath.number}-{kelvin:g}K",
            seed=job.request.seed + 100 + self.bath.number,
            tick=tick,
        )
        if runs.lost:
            return None
        references = references_at(facts.bath, kelvin, facts, job.request.out)
        thermostatted = facts.has_thermostat
        lag = self.choice.lag
        return judge(runs.paths, references, lag, has_thermostat=thermostatted)


def _plain(tried: Tried) -> dict[str, Any]:
    rows = [asdict(row) for row in tried.rows]
    return {"langevin_fs": tried.bath.langevin_fs, "rows": rows}


def _from_plain(value: Any) -> Tried:
    found = members(value, "a bath", dict)
    if found.keys() != {"langevin_fs", "rows"}:
        raise ValueError("a bath of the state lacks a key or has another")
    rows = members(found["rows"], "rows", list)
    return Tried(
        stored_bath(found["langevin_fs"]),
        tuple(_row_from_plain(one) for one in rows),
    )


def _row_from_plain(value: Any) -> Judged:
    found = members(value, "a row", dict)
    if found.keys() != set(Judged.__slots__):
        raise ValueError("a row of the state lacks a key or has another")
    return Judged(
        text(found["name"], "name"),
        number(found["miss"], "miss", 0),
        number(found["allowed"], "allowed", 0),
        flag(found["passes"], "passes"),
    )
