"""Third stage: the training, with the time that is left."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from trajcast_ase.distill.baths import most_baths
from trajcast_ase.distill.effort import FEWEST_STEPS, JUDGING_S, Length
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import (
    HIGH_RATE,
    LONG_TRAINING,
    LOW_RATE,
    Candidate,
    Task,
    configuration,
    probe,
)
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.more_md import Round, make_more, plan_round
from trajcast_ase.distill.report_stage import LONGEST, N_RUNS
from trajcast_ase.distill.request import shown_range
from trajcast_ase.distill.rollouts import starts
from trajcast_ase.distill.speed import stride_time
from trajcast_ase.distill.words import shown
from trajcast_ase.strict import members, number
from trajcast_ase.training.checkpoint import CHECKPOINT_NAME
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import ForecastErrors, evaluate
from trajcast_ase.training.log import TrainingStep
from trajcast_ase.training.loop import train
from trajcast_ase.training.pairs import thin
from trajcast_ase.training.result import TrainingResult
from trajcast_ase.training.resume import read_checkpoint
from trajcast_ase.trajectory import read_frames

STAGE = "training"
FIRST_MODEL = "training/first/first.trajcast"
PEEK = 0.5
"""Share of the training after which data and steps are told apart."""
GAP, PEEKED_GAP = 1.25, 1.15
"""Held-out error over that of the training pairs, from which on data limit: at the
end, and in the middle, where the rate is high and hides a part of it."""
GOING_ON = 0.5
"""Rate of the training with more data over that of the first, as its cosine was."""
STARTED_RATE = 0.05
"""Of a training that goes on from a finished model (docs/training.md)."""
MORE_MD = 0.25
"""Of the time that is left then, for MD."""
COMPARED_PAIRS = 300
FORWARD = 1 / 3
"""Time of a stride in that of an optimizer step, before there is a model to ask."""
LONGEST_S = 1e10
SLOWER, MOST_SLOWER = 0.5, 3
"""What the rate is multiplied with where a training diverges, and how often."""


def fit(job: Job, facts: Facts, choice: Candidate) -> None:
    """Train the chosen network, or go on with it, and keep the model in the state.

    In the middle a stride is timed, for the time that later stages need, and errors on
    training and held-out pairs are compared; where data limit, more MD is made and the
    training goes on with it from the weights reached.
    """
    stage = _Stage(job, facts, _task(job, facts, choice))
    plan = stage.plan()
    if "round" not in plan:
        plan = stage.peek()
    extra: tuple[str, ...] = ()
    if plan.get("round") is not None:
        sizes = Round.from_plain(members(plan["round"], "round", dict))
        extra = make_more(
            job, facts, choice, FIRST_MODEL, sizes, seconds=stage.md_seconds
        )
    if extra:
        facts = replace(facts, train=facts.train + extra)
        result = stage.train("second", facts, init=FIRST_MODEL)
    else:
        result = stage.train("first", facts)
    seen = stage.seen(result, facts)
    _finish(job, result, seen, extra)


def _task(job: Job, facts: Facts, choice: Candidate) -> Task:
    frames = read_frames(job.request.out / facts.train[0])
    calculator, start = job.request.calculator, job.request.start
    source = "given trajectories" if calculator is None else calculator.name
    return Task(
        choice,
        Length(1, None),
        f"{STAGE}/first",
        n_atoms=len(frames.masses),
        seed=job.request.seed,
        description=f"distilled from {source} at {shown_range(facts.temperatures_K)} K",
        init=None if start is None else start.copy_to(job.request.out),
    )


def _can_make_more(job: Job, facts: Facts) -> bool:
    return job.request.calculator is not None and facts.timestep_fs is not None


@dataclass(frozen=True, slots=True)
class _Stage:
    """The trainings of this stage, whose plan is in the state."""

    job: Job
    facts: Facts
    task: Task

    def plan(self) -> dict[str, Any]:
        """Return what was planned, or plan it."""
        plan = self.job.state.plans.get(STAGE)
        if plan is not None:
            return plan
        probed = probe(self.task, self.facts, self.job.request.out)
        plan = {
            "seconds_per_step": probed.seconds_per_step,
            "loading_s": probed.loading_s,
            "learning_rate": LOW_RATE,
        }
        length = self._whole(plan)
        steps = length.steps or (length.seconds or 0.0) / probed.seconds_per_step
        if self.task.init is not None:
            plan["learning_rate"] = STARTED_RATE
        elif steps < LONG_TRAINING:
            plan["learning_rate"] = HIGH_RATE
        self.job.state.keep_plan(STAGE, plan)
        time = "" if length.seconds is None else f" in {shown(length.seconds)}"
        self.job.say(
            STAGE,
            f"about {steps:.0f} steps of {1e3 * probed.seconds_per_step:.3g} ms{time}",
        )
        return plan

    def _whole(self, plan: dict[str, Any]) -> Length:
        """Return the length of all trainings of the stage."""
        per_step = number(plan["seconds_per_step"], "seconds_per_step", 0)
        before = self.job.before(STAGE)
        per_stride = plan.get("seconds_per_stride", FORWARD * per_step)
        reserved = self._reserved(number(per_stride, "seconds_per_stride", 0))
        return self.job.effort.training(per_step, before, reserved)

    def _reserved(self, per_stride: float) -> float:
        """Return the time that the runs of the last two stages need, about, s."""
        paths = self.facts.paths(self.facts.report, self.job.request.out)
        longest_fs = max(
            one.n_frames * one.stride_fs for one in map(read_frames, paths)
        )
        n_strides = LONGEST * longest_fs / self.task.candidate.horizon_fs(self.facts)
        start = starts(self.facts, self.job.request.out, 1)[0]
        n_runs = (N_RUNS + most_baths(start)) * len(self.facts.temperatures_K)
        return n_runs * (n_strides * per_stride + JUDGING_S)

    def train(
        self, name: str, facts: Facts, *, until: float = 1.0, init: str | None = None
    ) -> TrainingResult:
        """Train, or go on; by time, with what is left of the stage's.

        One that diverges goes on from its last checkpoint at half the rate.

        Raises
        ------
        FloatingPointError
            It has diverged at each of the rates.
        """
        for _ in range(MOST_SLOWER):
            try:
                return self._train_once(name, facts, until, init)
            except FloatingPointError as error:
                self._slow_down(error)
        return self._train_once(name, facts, until, init)

    def _slow_down(self, error: FloatingPointError) -> None:
        """Lower the rate from here on, also for the next call of the command."""
        plan = self.job.state.plans[STAGE]
        rate = SLOWER * number(plan["learning_rate"], "learning_rate", 0)
        self.job.state.keep_plan(STAGE, plan | {"learning_rate": rate})
        self.job.say(
            STAGE,
            f"it diverged ({error}); goes on from its last checkpoint at a learning "
            f"rate of {rate:g}",
        )

    def _train_once(
        self, name: str, facts: Facts, until: float, init: str | None
    ) -> TrainingResult:
        config = self._config(name, facts, init)
        before = 0.0 if init is None else PEEK  # of the stage
        with self.job.bar(100) as bar:

            def reporter(report: TrainingStep) -> None:
                self.job.state.tick()
                done = int(100 * (before + (1.0 - before) * report.share))
                text = f"{done} % of the training, step {report.step}"
                text += f", loss {report.loss:.2e}"
                bar.update(done, text, left_s=report.left_s)

            return train(config, reporter=reporter, until=until)

    def _config(self, name: str, facts: Facts, init: str | None) -> TrainingConfig:
        job, plan = self.job, self.job.state.plans[STAGE]
        length = self._whole(plan)
        folder = f"{STAGE}/{name}"
        if length.seconds is not None:
            left = length.seconds - job.state.spent_on(STAGE)
            left -= number(plan["loading_s"], "loading_s", 0) + JUDGING_S
            trained = _trained(job, folder)
            least = FEWEST_STEPS * number(plan["seconds_per_step"], "a step", 0)
            length = Length(None, max(trained + left, least))
        elif init is not None and length.steps is not None:
            length = Length(max(1, int((1 - PEEK) * length.steps)), None)
        rate = number(plan["learning_rate"], "learning_rate", 0)
        if init is not None:
            rate *= GOING_ON
        task = replace(
            self.task,
            length=length,
            name=folder,
            learning_rate=rate,
            init=init or self.task.init,
        )
        return configuration(task, facts, job.request.out)

    def seen(self, result: TrainingResult, facts: Facts) -> _Seen:
        """Return the errors on pairs that were trained on."""
        config = self._config("first", facts, None)
        data = load_data(config.data, config.network.cutoff)
        pairs = PairDataset(thin(list(data.train.parts), COMPARED_PAIRS))
        return _Seen(evaluate(result.model, pairs), len(data.train))

    @property
    def md_seconds(self) -> float | None:
        """Time that more MD may take, s; None: any."""
        if self.job.seconds(STAGE) is None:
            return None
        return number(self.job.state.plans[STAGE]["round_s"], "round_s", 0)

    def peek(self) -> dict[str, Any]:
        """Train half of it, and plan more MD where data limit."""
        job, facts = self.job, self.facts
        result = self.train("first", facts, until=PEEK)
        gap = _gap(result, self.seen(result, facts))
        plan = job.state.plans[STAGE] | {"round": None}
        frames = read_frames(facts.paths(facts.report, job.request.out)[0])
        measured = stride_time(result.path, frames, facts.middle)
        if measured is not None:
            plan["seconds_per_stride"] = measured.wall
        if gap > PEEKED_GAP and _can_make_more(job, facts):
            length = self._whole(plan)
            left = (length.seconds or 0.0) - job.state.spent_on(STAGE)
            sizes = plan_round(job, facts, MORE_MD * left)
            if sizes is not None:
                plan["round"] = asdict(sizes)
                plan["round_s"] = MORE_MD * left
            what = "there is no time for more MD" if sizes is None else sizes.told
            job.say(
                STAGE,
                f"half-way held-out errors are {gap:.2f} times those of training "
                f"pairs, so data limit it: {what}",
            )
        job.state.keep_plan(STAGE, plan)
        return plan


@dataclass(frozen=True, slots=True)
class _Seen:
    """Errors on training pairs, and how many there are in all."""

    errors: ForecastErrors
    n_pairs: int


def _gap(result: TrainingResult, seen: _Seen) -> float:
    held_out = result.errors.velocity.relative_mae
    return held_out / max(seen.errors.velocity.relative_mae, 1e-12)


def _finish(
    job: Job, result: TrainingResult, seen: _Seen, extra: tuple[str, ...]
) -> None:
    """Keep the model, its errors and what limits them."""
    held_out, errors = result.errors, seen.errors
    limit = "data" if _gap(result, seen) > GAP else "steps"
    means = {
        "data": "data limit it: more reference MD would help, more steps less",
        "steps": "steps or the network limit it, not the data: more steps (a larger "
        "--budget) would help, more MD less",
    }
    line = (
        f"errors of one stride on held-out MD "
        f"{100 * held_out.displacement.relative_mae:.2f} % of the displacement and "
        f"{100 * held_out.velocity.relative_mae:.2f} % of the velocity after "
        f"{result.steps} steps, on the {seen.n_pairs} pairs of frames trained on "
        f"{100 * errors.displacement.relative_mae:.2f} and "
        f"{100 * errors.velocity.relative_mae:.2f} %: {means[limit]}"
    )
    if extra:
        line += (
            f"; {len(extra)} more NVE runs were made half-way, from where the model's "
            "runs had come to"
        )
    path = job.request.out / result.path.relative_to(job.request.out.resolve())
    job.state.finish(
        STAGE,
        {
            "model": str(path.relative_to(job.request.out)),
            "displacement": held_out.displacement.relative_mae,
            "velocity": held_out.velocity.relative_mae,
            "steps": result.steps,
            "limit": limit,
        },
        line,
        [path, *(job.request.out / name for name in extra)],
    )
    job.say(STAGE, line)


def _trained(job: Job, folder: str) -> float:
    """Return for how long a training by time has run, s."""
    path = job.request.out / folder / CHECKPOINT_NAME
    if not path.exists():
        return 0.0
    checkpoint, _, _ = read_checkpoint(path)
    pace = members(checkpoint.extra.get("pace"), "pace", dict)
    return number(pace.get("elapsed"), "pace.elapsed", 0, LONGEST_S)
