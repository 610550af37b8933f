"""Fourth stage: the weakest thermostat whose runs pass, stored in the model file."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.rollouts import bath, judge, make_runs, starts
from trajcast_ase.distill.speed import model_speed
from trajcast_ase.models.model_file import load_model, with_thermostat
from trajcast_ase.strict import integer, members, number
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.report import Report

STAGE = "bath"
LANGEVIN_FS = (5000.0, 2000.0, 1000.0, 500.0)
"""Time constants to try, the weakest bath first."""
LARGEST = 10**9


@dataclass(frozen=True, slots=True)
class Tried:
    """What a bath gave.

    Attributes
    ----------
    langevin_fs : float, fs
    passed, rows : int
        Of a short report.
    """

    langevin_fs: float
    passed: int
    rows: int


def choose_bath(job: Job, facts: Facts, choice: Candidate, model_name: str) -> None:
    """Choose the bath by short runs, and write it into the final model file."""
    out = job.request.out
    source = out / model_name
    final = out / f"{out.resolve().name}.trajcast"
    horizon_fs = choice.horizon_fs(facts)
    fixed = job.request.fixed.langevin_fs
    if fixed is not None:
        best, line = fixed, f"Langevin {fixed:g} fs, as asked"
    else:
        tried = _try_all(job, facts, choice, model_name)
        best, line = weakest(tried)
    setting = bath(best, horizon_fs, f"trajcast distill: {line}")
    with_thermostat(source, setting, final)
    shutil.rmtree(out / STAGE, ignore_errors=True)
    job.state.finish(STAGE, {"langevin_fs": best, "model": final.name}, line, [final])
    job.say(STAGE, f"{setting}; {line}")


def weakest(tried: list[Tried]) -> tuple[float, str]:
    """Return the weakest bath with the most rows passed, and why in words."""
    most = max(one.passed for one in tried)
    if most == 0:
        strongest = min(one.langevin_fs for one in tried)
        return strongest, "the strongest of all, since no short run has held"
    best = max(
        (one for one in tried if one.passed == most), key=lambda one: one.langevin_fs
    )
    counts = ", ".join(
        f"{one.langevin_fs:g} fs {one.passed} of {one.rows}" for one in tried
    )
    return (
        best.langevin_fs,
        (
            "the weakest Langevin bath with the most rows of a short report passed "
            f"({counts})"
        ),
    )


def _try_all(job: Job, facts: Facts, choice: Candidate, model_name: str) -> list[Tried]:
    model = load_model(job.request.out / model_name)
    horizon_fs = choice.horizon_fs(facts)
    references = [
        read_frames(path) for path in facts.paths(facts.canonical, job.request.out)
    ]
    plan = job.state.plans.get(STAGE)
    if plan is None:
        speed = model_speed(
            job.request.out / model_name, references[0], facts.temperature_K
        )
        per_stride = 86_400.0 * horizon_fs * 1e-6 / max(speed, 1e-3)
        n_strides = job.effort.strides(STAGE, len(LANGEVIN_FS), per_stride, horizon_fs)
        plan = {"n_strides": n_strides, "done": []}
        job.state.keep_plan(STAGE, plan)
    n_strides = integer(plan.get("n_strides"), "n_strides", 1, LARGEST)
    tried = [_from_plain(one) for one in members(plan.get("done"), "done", list)]
    with job.bar(n_strides * len(LANGEVIN_FS)) as bar:
        for k, langevin_fs in enumerate(LANGEVIN_FS):
            if any(one.langevin_fs == langevin_fs for one in tried):
                continue

            def tick(made: int, before: int = k * n_strides) -> None:
                job.state.tick()
                bar.update(before + made, "strides of short runs")

            runs = make_runs(
                model,
                starts(facts, job.request.out, 1),
                bath(langevin_fs, horizon_fs, ""),
                temperature_K=facts.temperature_K,
                n_strides=n_strides,
                folder=job.request.out / STAGE / f"langevin-{langevin_fs:g}",
                seed=job.request.seed + 100 + k,
                tick=tick,
            )
            if runs.lost:
                tried.append(Tried(langevin_fs, 0, 0))
            else:
                report = judge(runs.paths, facts, references, choice.lag)
                tried.append(_counted(langevin_fs, report))
            rows: list[dict[str, Any]] = [
                {name: getattr(one, name) for name in Tried.__slots__} for one in tried
            ]
            job.state.keep_plan(STAGE, plan | {"done": rows})
    return tried


def _counted(langevin_fs: float, report: Report) -> Tried:
    passed = sum(row.passes for row in report.rows)
    return Tried(langevin_fs, passed, len(report.rows))


def _from_plain(value: Any) -> Tried:
    found = members(value, "a bath", dict)
    if found.keys() != set(Tried.__slots__):
        raise ValueError("a bath of the state lacks a key or has another")
    return Tried(
        number(found["langevin_fs"], "langevin_fs", 0),
        integer(found["passed"], "passed", 0, LARGEST),
        integer(found["rows"], "rows", 0, LARGEST),
    )
