"""Second stage: horizon, cutoff, channels and layers, by screenings of equal cost."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from trajcast_ase.distill.candidates import AHEAD, GOAL, candidates, goal_of
from trajcast_ase.distill.choice_table import write_table
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate, Probe, Task, probe
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.screening import Screening, Test, screen
from trajcast_ase.distill.words import figures
from trajcast_ase.distill.workers import run_all
from trajcast_ase.dynamics.interruption import noted_signals
from trajcast_ase.strict import integer, members, number
from trajcast_ase.trajectory import read_frames

STAGE = "choice"
LEAST_SCREENING_S = 8.0
MOST_CANDIDATES = 12
LEAST_STEPS = 250
"""Of a screening in the first round: after fewer, all errors are large."""
LEARNT = 0.5
"""Relative error after one stride, beyond which growth says nothing yet."""
JUDGING_S = 2.0
"""Of a screening, beside data and training."""
LONGEST_S = 1e9


def choose(job: Job, facts: Facts) -> None:
    """Screen candidates by successive halving, and keep the best in the state.

    Nothing is screened where the training goes on from a model.
    """
    start = job.request.start
    if start is not None:
        why = f"those of {start.given}, whose weights the training goes on from"
        _settle(job, facts, [], start.candidate(facts.stride_fs), why)
        return
    held_out = read_frames(facts.paths(facts.validation, job.request.out)[0])
    pool = candidates(facts, held_out, job.request.fixed)
    plan = job.state.plans.get(STAGE)
    if plan is None:
        probed = _probed(job, facts, pool[0], len(held_out.masses))
        n_first = _n_first(job, probed, len(pool))
        plan = {"n_first": n_first, "overhead_s": probed.loading_s + JUDGING_S}
        plan["done"] = []
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
    best = _halved(job, facts, first, done)
    row = next(row for row in reversed(done) if row.candidate == best)
    if row.one_stride > LEARNT:
        why = (
            f"the likeliest; none of {n_first} tried has learnt enough in its time to "
            "tell them apart"
        )
        _settle(job, facts, done, first[0], why)
        return
    _settle(job, facts, done, best, _why(row, n_first, goal_of(facts)))


def _why(row: Screening, n_first: int, goal: float) -> str:
    """Return why a candidate was chosen, in words."""
    text = (
        f"the best of {n_first} in error and speed together: after a short training "
        f"the error grows by {figures(100 * row.growth_per_ps)} % per ps, at "
        f"{figures(row.speed)} ns/day"
    )
    if not goal:
        return text
    word = "beyond" if row.speed >= goal else "short of"
    times = f"{GOAL:g} times the calculator's {figures(goal / GOAL)}"
    return f"{text} ({word} the goal, {times})"


def _probed(job: Job, facts: Facts, likeliest: Candidate, n_atoms: int) -> Probe:
    task = Task(
        likeliest,
        job.effort.screening(60.0),
        "screening/probed",
        n_atoms=n_atoms,
        seed=job.request.seed,
        screening=True,
    )
    return probe(task, facts, job.request.out)


def _n_first(job: Job, probed: Probe, n_pool: int) -> int:
    """Return how many can be screened for long enough to tell them apart."""
    least = max(LEAST_SCREENING_S, LEAST_STEPS * probed.seconds_per_step)
    least += probed.loading_s + JUDGING_S
    affordable = _seconds(job) / least
    count = 1
    # Each round of halving takes as long as the first.
    while (count + 1) * max(1, int(math.log2(count + 1))) <= affordable:
        count += 1
    return min(n_pool, count, MOST_CANDIDATES)


def _seconds(job: Job) -> float:
    """Return the time of all screenings, of all processes together, s."""
    return job.effort.screening_seconds(job.before(STAGE), job.request.processes)


def _halved(
    job: Job, facts: Facts, first: Sequence[Candidate], done: list[Screening]
) -> Candidate:
    """Screen, keep the better half, screen for longer, and return the last one."""
    alive, goal = list(first), goal_of(facts)
    n_rounds = max(1, int(math.log2(len(alive))))
    ahead = AHEAD * max(one.lag for one in alive)
    overhead_s = number(
        job.state.plans[STAGE].get("overhead_s"), "overhead_s", 0, LONGEST_S
    )
    for round_ in range(1, n_rounds + 1):
        seconds = _seconds(job) / (n_rounds * len(alive)) - overhead_s
        length = job.effort.screening(max(seconds, LEAST_SCREENING_S))
        tests = [
            Test(one, round_, length, ahead, job.request.seed, facts, job.request.out)
            for one in alive
            if not _is_done(one, round_, done)
        ]
        _screen_all(job, tests, done)
        scores = {row.candidate: row.score(goal) for row in done if row.round == round_}
        alive = sorted(alive, key=lambda one: scores[one])
        alive = alive[: max(1, len(alive) // 2)]
    return alive[0]


def _screen_all(job: Job, tests: Sequence[Test], done: list[Screening]) -> None:
    """Make the screenings of a round, and keep each as it ends."""
    plan = job.state.plans[STAGE]
    before = len(done)

    def keep(_test: Test, row: Screening) -> None:
        done.append(row)
        job.state.keep_plan(STAGE, plan | {"done": [one.to_plain() for one in done]})
        n_done = len(done) - before
        text = f"{n_done} of {len(tests)} short trainings of round {row.round}"
        bar.update(n_done, text)

    with job.bar(len(tests)) as bar:
        if job.request.processes == 1:
            for test in tests:
                keep(test, screen(test))
            return
        with noted_signals() as signals:
            run_all(
                screen,
                tests,
                job.request.processes,
                done=keep,
                look=job.state.tick,
                signals=signals,
            )


def _is_done(candidate: Candidate, round_: int, done: Sequence[Screening]) -> bool:
    return any(row.candidate == candidate and row.round == round_ for row in done)


def _settle(
    job: Job, facts: Facts, done: Sequence[Screening], best: Candidate, why: str
) -> None:
    """Keep the choice, with the table of what was tried."""
    files: list[Path] = []
    if done:
        files = write_table(done, best, goal_of(facts), job.request.out)
    horizon = f"horizon (the time of one stride) {best.horizon_fs(facts):g} fs"
    line = f"{horizon}, {best.network}: {why}"
    job.state.finish(STAGE, best.to_plain(), line, files)
    shutil.rmtree(job.request.out / "screening", ignore_errors=True)
    job.say(STAGE, line)
