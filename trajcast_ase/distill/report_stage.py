"""Last stage: the report against held-out MD, and what all of it was worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trajcast_ase.distill.advice import Course, advice
from trajcast_ase.distill.baths import stored_bath
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
from trajcast_ase.distill.speed import (
    NO_STRIDE_S,
    atoms_of,
    calculator_speed,
    model_speed,
    stride_time,
)
from trajcast_ase.distill.words import figures, listed
from trajcast_ase.models.model_file import load_model
from trajcast_ase.strict import integer, members
from trajcast_ase.thermostats.recommended import setting_of
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.output import write_report
from trajcast_ase.validation.report import Report, Row

STAGE = "report"
N_RUNS = 3
LONGEST = 2.0
"""Length of a run, in canonical runs: longer ones would not sharpen the report."""
LARGEST = 10**9


@dataclass(frozen=True, slots=True)
class Speeds:
    """Speeds on one core, one after the other on the same machine.

    Attributes
    ----------
    model : float, ns/day
    calculator : float or None, ns/day
        None where there is no calculator.
    """

    model: float
    calculator: float | None

    def breaks_even(self, spent_s: float) -> float | None:
        """Return after how much simulated time all has paid for itself, ns.

        None where it never does, or without a calculator.
        """
        if self.calculator is None or self.model <= self.calculator:
            return None
        return spent_s / 86_400.0 / (1.0 / self.calculator - 1.0 / self.model)


def make_report(
    job: Job, facts: Facts, choice: Candidate, model_name: str, limit: str
) -> None:
    """Run the model, hold it against reference MD, and keep verdict and speeds."""
    speeds = _speeds(job, facts, model_name)
    plan = job.state.plans.get(STAGE)
    if plan is None:
        plan = {"n_strides": _n_strides(job, facts, choice, model_name)}
        job.state.keep_plan(STAGE, plan)
    most = integer(plan.get("n_strides"), "n_strides", 1, LARGEST)
    least = job.effort.least_strides(choice.horizon_fs(facts))
    reports: dict[float, Report] = {}
    result, files = _result(speeds), []
    course = _course(job, facts, choice, limit)
    with job.bar(most * len(facts.temperatures_K)) as bar:
        for k, kelvin in enumerate(facts.temperatures_K):

            def tick(made: int, before: int = k * most) -> None:
                job.state.tick()
                done, all_of_it = before + made, most * len(facts.temperatures_K)
                text = f"{done} of {all_of_it} strides of {N_RUNS} runs at once"
                bar.update(done, text, at_most_s=job.seconds(STAGE))

            seconds = job.seconds(STAGE, len(facts.temperatures_K) - k)
            strides = Strides(min(most, least), most, seconds)
            task = _Task(job, facts, choice, model_name, kelvin, strides)
            found = task.report(tick)
            if isinstance(found, str):
                result["verdict"] = f"at {kelvin:g} K {found}"
                result["try"] = advice([], course, lost=True)
                break
            reports[kelvin] = found
        else:
            result |= _judged(reports, course)
            files = _write(job, facts, reports)
    first = result["verdict"]
    if len(reports) == len(facts.temperatures_K):
        first += named(wrong_rows(reports))
    lines = [*filter(None, (first, result["sharpness"])), _fast(speeds)]
    job.state.finish(STAGE, result, "; ".join(lines), files)
    for line in lines:
        job.say(STAGE, line)


def _n_strides(job: Job, facts: Facts, choice: Candidate, model_name: str) -> int:
    """Return the strides of each run: what there is time for, and of use."""
    horizon_fs = choice.horizon_fs(facts)
    first = read_frames(facts.paths(facts.report, job.request.out)[0])
    measured = stride_time(job.request.out / model_name, first, facts.middle)
    per_stride = NO_STRIDE_S if measured is None else measured.wall
    n_runs = N_RUNS * len(facts.temperatures_K)
    before = job.before(STAGE)
    n_strides = job.effort.strides(STAGE, before, n_runs * per_stride, horizon_fs)
    references = map(read_frames, facts.paths(facts.report, job.request.out))
    reference_fs = max(one.n_frames * one.stride_fs for one in references)
    most = round(LONGEST * reference_fs / horizon_fs)
    return min(n_strides, max(job.effort.least_strides(horizon_fs), most))


@dataclass(frozen=True, slots=True)
class _Task:
    """The runs at a temperature, and their report."""

    job: Job
    facts: Facts
    choice: Candidate
    model_name: str
    kelvin: float
    strides: Strides

    def report(self, tick: Callable[[int], None]) -> Report | str:
        """Return the report, or why the runs failed."""
        job, facts = self.job, self.facts
        model = load_model(job.request.out / self.model_name)
        runs = make_runs(
            model,
            starts(facts, job.request.out, N_RUNS),
            setting_of(model),
            temperature_K=self.kelvin,
            strides=self.strides,
            folder=job.request.out / "runs" / f"{self.kelvin:g}K",
            seed=job.request.seed + 1000,
            tick=tick,
        )
        if runs.lost:
            return runs.lost
        references = references_at(facts.report, self.kelvin, facts, job.request.out)
        thermostatted = facts.has_thermostat
        lag = self.choice.lag
        return judge(runs.paths, references, lag, has_thermostat=thermostatted)


def report_folder(facts: Facts, kelvin: float) -> str:
    """Return the folder of the report at a temperature, relative to that of all."""
    return "." if len(facts.temperatures_K) == 1 else f"report-{kelvin:g}K"


def _write(job: Job, facts: Facts, reports: dict[float, Report]) -> list[Path]:
    """Write all reports and return their files."""
    files = []
    for kelvin, report in reports.items():
        folder = job.request.out / report_folder(facts, kelvin)
        write_report(report, folder)
        names = ("report.json", "report.md", "report.png", "report.pdf")
        files += [folder / name for name in names]
    return files


def _course(job: Job, facts: Facts, choice: Candidate, limit: str) -> Course:
    """Return what was chosen and tried, for the advice."""
    found = job.state.stages["bath"]["result"]
    tried = members(found.get("tried_fs"), "tried_fs", list)
    return Course(
        horizon_fs=choice.horizon_fs(facts),
        cutoff_A=choice.cutoff_A,
        n_channels=choice.n_channels,
        bath=stored_bath(found.get("langevin_fs")),
        tried=tuple(map(stored_bath, tried)),
        limit=limit,
        makes_md=job.request.calculator is not None,
        budget_s=job.request.budget_s,
    )


def _judged(reports: dict[float, Report], course: Course) -> dict[str, Any]:
    """Return verdict and counts over the temperatures."""
    several = len(reports) > 1
    rows = [row for report in reports.values() for row in report.rows]
    wrong = wrong_rows(reports)
    verdicts = [
        f"at {kelvin:g} K {report.verdict}" if several else report.verdict
        for kelvin, report in reports.items()
    ]
    return {
        "passes": not wrong,
        "verdict": ", ".join(verdicts),
        "passed": len(rows) - len(wrong),
        "rows": len(rows),
        "failing": list(wrong),
        "sharpness": sharpness(list(reports.values())),
        "try": advice(list(wrong.values()), course) if wrong else [],
    }


def wrong_rows(reports: dict[float, Report]) -> dict[str, Row]:
    """Return the rows that do not pass, by name and, of several, temperature."""
    several = len(reports) > 1
    return {
        f"{row.observable} at {kelvin:g} K" if several else row.observable: row
        for kelvin, report in reports.items()
        for row in report.rows
        if not row.passes
    }


def named(wrong: dict[str, Row]) -> str:
    """Return which rows do not pass, with what doubt means, in words."""
    failed = [name for name, row in wrong.items() if row.is_failed]
    doubtful = [name for name, row in wrong.items() if not row.is_failed]
    text = f"; failed: {listed(failed)}" if failed else ""
    if doubtful:
        text += (
            f"; not trustworthy: {listed(doubtful)} (off by more than chance in the "
            "pieces, but slow motions may be why; longer runs decide)"
        )
    return text


def sharpness(reports: Sequence[Report]) -> str:
    """Return how long the reports are, and what they would have seen, in words."""
    rows = [row for report in reports for row in report.rows if row.seen is not None]
    off = [row.seen or 0.0 for row in rows if row.observable == "temperature"]
    curves = [row.seen or 0.0 for row in rows if row.observable.startswith("overlap")]
    # Infinite, or an overlap below zero, where memory hides any deviation.
    seen = []
    if off and np.isfinite(max(off)):
        seen.append(f"a mean temperature off by {max(off):.0f} K")
    if curves and min(curves) > 0:
        seen.append(f"any overlap of curves below {min(curves):.2g}")
    ours = sum(report.run.length_ps for report in reports)
    theirs = sum(report.reference.length_ps for report in reports)
    text = f"{figures(ours)} ps of the model beside {figures(theirs)} ps of MD"
    if not seen:
        return f"{text}, too short to be sure to show any deviation"
    return f"{text}, which show {' and '.join(seen)} in four of five cases"


def _result(speeds: Speeds) -> dict[str, Any]:
    return {
        "passes": False,
        "verdict": "",
        "model_ns_per_day": speeds.model,
        "calculator_ns_per_day": speeds.calculator,
        "passed": 0,
        "rows": 0,
        "failing": [],
        "sharpness": "",
        "try": [],
    }


def _speeds(job: Job, facts: Facts, model_name: str) -> Speeds:
    """Measure model and calculator one after the other, on the same frame."""
    frames = read_frames(job.request.out / facts.report[0])
    request, of_calculator = job.request, None
    if request.calculator is not None and facts.timestep_fs is not None:
        assert request.atoms is not None  # noqa: S101  there is a calculator
        last, atoms = atoms_of(frames, -1), request.atoms.copy()  # with its charges
        atoms.positions = last.positions
        atoms.set_momenta(last.get_momenta())
        of_calculator = calculator_speed(
            request.calculator.make(), atoms, facts.timestep_fs
        )
    of_model = model_speed(job.request.out / model_name, frames, facts.middle)
    return Speeds(of_model, of_calculator)


def _fast(speeds: Speeds) -> str:
    text = f"{figures(speeds.model)} ns/day on one core"
    if speeds.calculator is None:
        return text
    ratio, theirs = speeds.model / speeds.calculator, figures(speeds.calculator)
    return f"{text}, {figures(ratio)} times the calculator's {theirs}"
