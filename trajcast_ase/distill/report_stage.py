"""Last stage: the report against held-out MD, and what all of it was worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trajcast_ase.distill.advice import advice
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.rollouts import judge, make_runs, starts
from trajcast_ase.distill.speed import atoms_of, calculator_speed, model_speed
from trajcast_ase.models.model_file import load_model
from trajcast_ase.strict import integer
from trajcast_ase.thermostats.recommended import setting_of
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.output import write_report

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
    model = load_model(job.request.out / model_name)
    references = [
        read_frames(path) for path in facts.paths(facts.canonical, job.request.out)
    ]
    horizon_fs = choice.horizon_fs(facts)
    speeds = _speeds(job, facts, model_name)
    plan = job.state.plans.get(STAGE)
    if plan is None:
        per_stride = 86_400.0 * horizon_fs * 1e-6 / max(speeds.model, 1e-3)
        n_strides = job.effort.strides(STAGE, N_RUNS, per_stride, horizon_fs)
        reference_fs = min(one.n_frames * one.stride_fs for one in references)
        least = job.effort.strides(STAGE, N_RUNS, 1e9, horizon_fs)
        most = max(least, round(LONGEST * reference_fs / horizon_fs))
        plan = {"n_strides": min(n_strides, most)}
        job.state.keep_plan(STAGE, plan)
    n_strides = integer(plan.get("n_strides"), "n_strides", 1, LARGEST)
    with job.bar(n_strides) as bar:

        def tick(made: int) -> None:
            job.state.tick()
            bar.update(made, f"strides of {N_RUNS} runs")

        runs = make_runs(
            model,
            starts(facts, job.request.out, N_RUNS),
            setting_of(model),
            temperature_K=facts.temperature_K,
            n_strides=n_strides,
            folder=job.request.out / "runs",
            seed=job.request.seed + 1000,
            tick=tick,
        )
    if runs.lost:
        result = _result(speeds, passes=False, verdict=f"the runs failed: {runs.lost}")
        result["try"] = advice([], limit, lost=True)
        files = []
    else:
        report = judge(runs.paths, facts, references, choice.lag)
        write_report(report, job.request.out)
        result = _result(speeds, passes=report.passes, verdict=report.verdict)
        result["passed"] = sum(row.passes for row in report.rows)
        result["rows"] = len(report.rows)
        failing = [row.observable for row in report.rows if not row.passes]
        result["failing"] = failing
        result["try"] = [] if report.passes else advice(failing, limit)
        names = ("report.json", "report.md", "report.png", "report.pdf")
        files = [job.request.out / name for name in names]
    line = f"{result['verdict']}; {_fast(speeds)}"
    job.state.finish(STAGE, result, line, files)
    job.say(STAGE, line)


def _result(speeds: Speeds, *, passes: bool, verdict: str) -> dict[str, Any]:
    return {
        "passes": passes,
        "verdict": verdict,
        "model_ns_per_day": speeds.model,
        "calculator_ns_per_day": speeds.calculator,
        "passed": 0,
        "rows": 0,
        "failing": [],
        "try": [],
    }


def _speeds(job: Job, facts: Facts, model_name: str) -> Speeds:
    """Measure model and calculator one after the other, on the same frame."""
    frames = read_frames(job.request.out / facts.canonical[0])
    of_calculator = None
    if job.request.calculator is not None and facts.timestep_fs is not None:
        of_calculator = calculator_speed(
            job.request.calculator.make(), atoms_of(frames, -1), facts.timestep_fs
        )
    of_model = model_speed(job.request.out / model_name, frames, facts.temperature_K)
    return Speeds(of_model, of_calculator)


def _fast(speeds: Speeds) -> str:
    text = f"{speeds.model:.3g} ns/day on one core"
    if speeds.calculator is None:
        return text
    ratio = speeds.model / speeds.calculator
    return f"{text}, the calculator {speeds.calculator:.3g} ({ratio:.2g} times)"
