"""Third stage: the training, with the time that is left."""

from __future__ import annotations

from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate, configuration, seconds_per_step
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.request import shown
from trajcast_ase.strict import integer
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import ForecastErrors, evaluate
from trajcast_ase.training.log import TrainingStep
from trajcast_ase.training.loop import train
from trajcast_ase.training.pairs import thin
from trajcast_ase.training.trainer import TrainingResult
from trajcast_ase.trajectory import read_frames

STAGE = "training"
GAP = 1.25
"""Held-out error over that of the training pairs, from which on data limit."""
COMPARED_PAIRS = 300
LARGEST = 10**9


def fit(job: Job, facts: Facts, choice: Candidate) -> None:
    """Train the chosen network, or go on with it, and keep the model in the state."""
    n_atoms = len(read_frames(job.request.out / facts.train[0]).masses)
    calculator = job.request.calculator
    source = "given trajectories" if calculator is None else calculator.name
    plan = job.state.plans.get(STAGE)
    steps = 0 if plan is None else integer(plan.get("steps"), "steps", 1, LARGEST)

    def settings(n_steps: int) -> TrainingConfig:
        return configuration(
            choice,
            facts,
            job.request.out,
            n_atoms=n_atoms,
            steps=n_steps,
            name=STAGE,
            description=f"distilled from {source} at {facts.temperature_K:g} K",
            seed=job.request.seed,
            screening=False,
        )

    if plan is None:
        per_step = seconds_per_step(settings(1000))
        steps = job.effort.training_steps(per_step, job.state.spent())
        job.state.keep_plan(STAGE, {"steps": steps})
        job.say(
            STAGE,
            f"{steps} steps of {1e3 * per_step:.3g} ms, {shown(steps * per_step)}",
        )
    config = settings(steps)
    with job.bar(steps) as bar:

        def reporter(report: TrainingStep) -> None:
            job.state.tick()
            bar.update(report.step, f"loss {report.loss:.2e}")

        result = train(config, reporter=reporter)
    data = load_data(config.data, config.network.cutoff)
    pairs = PairDataset(thin(list(data.train.parts), COMPARED_PAIRS))
    seen = evaluate(result.model, pairs)
    line, limit = _verdict(result, seen, len(data.train))
    job.state.finish(
        STAGE,
        {
            "model": str(result.path.relative_to(job.request.out.resolve())),
            "displacement": result.errors.displacement.relative_mae,
            "velocity": result.errors.velocity.relative_mae,
            "steps": steps,
            "limit": limit,
        },
        line,
        [job.request.out / result.path.relative_to(job.request.out.resolve())],
    )
    job.say(STAGE, line)


def _verdict(
    result: TrainingResult, seen: ForecastErrors, n_pairs: int
) -> tuple[str, str]:
    """Return errors and what limits them in words, and the limit in one."""
    held_out = result.errors
    gap = held_out.velocity.relative_mae / seen.velocity.relative_mae
    limit = "data" if gap > GAP else "steps"
    means = {
        "data": "so more reference MD would help, more steps less",
        "steps": "so more steps (a longer --budget) would help, more data less",
    }
    line = (
        f"held-out errors {100 * held_out.displacement.relative_mae:.2f} % of the "
        f"displacement and {100 * held_out.velocity.relative_mae:.2f} % of the "
        f"velocity, on {n_pairs} training pairs "
        f"{100 * seen.displacement.relative_mae:.2f} and "
        f"{100 * seen.velocity.relative_mae:.2f} %: {limit} limit it, {means[limit]}"
    )
    return line, limit
