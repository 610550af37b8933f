"""First stage: reference MD with the user's calculator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms

from trajcast_ase.distill.calculators import try_calculator
from trajcast_ase.distill.chains import (
    FEWEST_TRACKS,
    Chains,
    Lengths,
    canonical_piece,
    make_chains,
    plan_lengths,
    run_chains,
    track_temperatures,
)
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.findings import findings
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.journal import write_frames
from trajcast_ase.distill.request import Request
from trajcast_ase.distill.segments import Setup
from trajcast_ase.distill.speed import calculator_speed
from trajcast_ase.distill.timestep import (
    RELAXING_STEPS,
    TRIAL_STEPS,
    Trial,
    Trials,
    choose_timestep,
    ladder,
    seconds_of_a_step,
)
from trajcast_ase.distill.words import counted, figures
from trajcast_ase.distill.workers import check_signals
from trajcast_ase.dynamics.interruption import noted_signals
from trajcast_ase.strict import integer, members, number
from trajcast_ase.trajectory import Frames, read_frames

FOLDER = "reference"
FRAMES_PER_PERIOD = 12
"""Frames in the period of the fastest motion: any horizon can be cut from them."""
STAGE = "reference"
KICK_FS, KICK_PERIODS, KICK_HORIZONS = 250.0, 5, 4
"""Between two actions of the bath of a canonical run: so much, and so many periods of
the fastest motion and horizons, that of most pairs none of them is within."""
KICKS_PER_PIECE = 4
"""At least; the pieces of a canonical run may be short."""
LEARNABLE_PERIODS, LEARNABLE_HORIZONS = 2, 2
"""Between two actions, from which on a canonical run is learnt from."""


def make_reference(job: Job) -> None:
    """Make reference MD, or go on with it, and keep what it found in the state.

    Raises
    ------
    CalculatorError
        The calculator does not serve.
    BudgetError
        The budget is too short.
    MDError
        The MD failed.
    """
    assert job.request.atoms is not None  # noqa: S101  the caller has checked
    assert job.request.calculator is not None  # noqa: S101
    try_calculator(job.request.calculator, job.request.atoms)
    folder = job.request.out / FOLDER
    job.state.save()  # before other files, which are ours from now on
    folder.mkdir(parents=True, exist_ok=True)
    plan = job.state.plans.get(STAGE, {})
    if "timestep_fs" not in plan:
        plan = _make_plan(job)
    setup = Setup(
        atoms=_bare(job.request.atoms),
        timestep_fs=number(plan["timestep_fs"], "timestep_fs", 0, 100),
        frame_steps=integer(plan["frame_steps"], "frame_steps", 1, 10**6),
        folder=folder,
        kick_frames=integer(plan["kick_frames"], "kick_frames", 1, 10**9),
    )
    lengths = Lengths(
        **{name: integer(plan[name], name, 1, 10**12) for name in Lengths.__slots__}
    )
    chains = make_chains(lengths, job.request.temperatures_K, job.request.seed)
    total = sum(segment.n_frames for chain in chains for segment in chain)
    with job.bar(total) as bar:

        def report(n_frames: int) -> None:
            job.state.tick()
            ps = setup.stride_fs * 1e-3
            text = f"{n_frames * ps:.1f} of {total * ps:.1f} ps of MD"
            bar.update(n_frames, text, at_most_s=job.seconds(STAGE))

        run_chains(
            setup,
            chains,
            job.request.calculator,
            job.processes,
            report=report,
            seconds=job.seconds(STAGE),
        )
    _finish(job, setup, lengths, chains, plan)


def _bare(atoms: Atoms) -> Atoms:
    bare: Atoms = atoms.copy()
    bare.calc = None
    return bare


def _n_tracks(job: Job) -> int:
    """Return a canonical run for the bath and one for the report, at least."""
    return max(FEWEST_TRACKS * len(job.request.temperatures_K), job.processes)


def _make_plan(job: Job) -> dict[str, Any]:
    assert job.request.atoms is not None  # noqa: S101
    assert job.request.calculator is not None  # noqa: S101
    calculator = job.request.calculator.make()
    n_tracks = _n_tracks(job)
    # A calculator that is far too slow is not to be tried for hours.
    step_fs = job.request.fixed.timestep_fs or ladder(job.request.atoms)[0]
    per_step = seconds_of_a_step(job.request.atoms, calculator)
    job.effort.md_steps(per_step / job.processes, step_fs, n_tracks)
    trial = _tried(job, calculator)
    n_steps = job.effort.md_steps(
        trial.seconds_per_step / job.processes, trial.timestep_fs, n_tracks
    )
    timestep_fs = trial.timestep_fs
    frame_steps = max(
        1, round(trial.fastest_period_fs / FRAMES_PER_PERIOD / timestep_fs)
    )
    if job.request.start is not None:
        timestep_fs, frame_steps = job.request.start.grid(timestep_fs, frame_steps)
    lengths = plan_lengths(n_steps, frame_steps, timestep_fs, n_tracks)
    stride_fs = frame_steps * timestep_fs
    _, wanted_fs = _between_kicks(job.request, trial.fastest_period_fs)
    most = max(1, lengths.canonical // KICKS_PER_PIECE)
    kick_frames = min(math.ceil(wanted_fs / stride_fs), most)
    plan = {
        "timestep_fs": timestep_fs,
        "frame_steps": frame_steps,
        "kick_frames": kick_frames,
        "fastest_period_fs": trial.fastest_period_fs,
        "seconds_per_step": trial.seconds_per_step,
        "calculator_ns_per_day": calculator_speed(
            calculator, job.request.atoms, timestep_fs
        ),
        **{name: getattr(lengths, name) for name in Lengths.__slots__},
    }
    ps = stride_fs * 1e-3
    job.say(
        STAGE,
        f"planned: {lengths.n_tracks * lengths.n_rounds} runs at constant energy of "
        f"{figures(lengths.nve * ps)} ps to learn from, begun {lengths.pause * ps:.2g} "
        f"ps apart, and {lengths.n_tracks} canonical runs of "
        f"{figures(lengths.n_rounds * lengths.canonical * ps)} ps to choose the bath "
        f"of the model and for the report; a frame every {1e3 * ps:g} fs, as the "
        f"fastest motion has a period of {trial.fastest_period_fs:.3g} fs; in "
        + counted(job.processes, "process", "processes"),
    )
    job.state.keep_plan(STAGE, plan)
    return plan


def _between_kicks(request: Request, period_fs: float) -> tuple[float, float]:
    """Return the shortest and the wanted time between kicks of canonical runs, fs.

    From the shortest on the runs are learnt from.
    """
    horizon = request.fixed.horizon_fs or 0.0
    if request.start is not None:
        horizon = request.start.header.horizon_fs
    shortest = max(LEARNABLE_PERIODS * period_fs, LEARNABLE_HORIZONS * horizon)
    return shortest, max(KICK_FS, KICK_PERIODS * period_fs, KICK_HORIZONS * horizon)


def _tried(job: Job, calculator: Any) -> Trial:
    """Return the trial of the time step that is taken."""
    assert job.request.atoms is not None  # noqa: S101
    plan = job.state.plans.get(STAGE, {})
    trials = Trials(
        _bare(job.request.atoms),
        calculator,
        job.request.temperatures_K[-1],
        job.request.seed,
        job.request.out / FOLDER,
        tuple(map(Trial.from_plain, members(plan.get("trials", []), "trials", list))),
    )
    fixed_fs, total = job.request.fixed.timestep_fs, RELAXING_STEPS + TRIAL_STEPS

    def keep(done: tuple[Trial, ...]) -> None:
        job.state.keep_plan(STAGE, {"trials": [one.to_plain() for one in done]})

    @contextmanager
    def follow(step_fs: float) -> Iterator[Callable[[int], None]]:
        with noted_signals() as signals, job.bar(total) as bar:

            def tick(n_frames: int) -> None:
                job.state.tick()
                text = f"trial of {step_fs:g} fs: {n_frames} of {total} steps"
                bar.update(n_frames, text)
                check_signals(signals)

            yield tick

    trial = choose_timestep(trials, fixed_fs, keep=keep, follow=follow)
    why = "as asked" if fixed_fs is not None else "the longest that keeps the energy"
    job.say(STAGE, f"time step, {why}: {trial}")
    trials.clear()
    return trial


def _finish(
    job: Job, setup: Setup, lengths: Lengths, chains: Chains, plan: dict[str, Any]
) -> None:
    """Keep the runs, and remove what only led to them."""
    every = [segment.name for chain in chains for segment in chain]
    made = [name for name in every if setup.path(name).exists()]
    nve = sorted(name for name in made if name.startswith("nve-"))
    kelvins = job.request.temperatures_K
    heats = track_temperatures(kelvins, lengths.n_tracks)
    canonical = {
        f"canonical-{k}": _join_pieces(setup, lengths, k, heat.canonical_K)
        for k, heat in enumerate(heats, 1)
    }
    runs = [read_frames(setup.path(name)) for name in nve]
    notes = findings(list(canonical.values()), runs, float(np.mean(kelvins)))
    # The last of a track in the middle, whose temperature is.
    middle = f"nve-{(lengths.n_tracks + 1) // 2}-"
    held_out = [name for name in nve if name.startswith(middle)][-1]
    of_bath = tuple(_file(f"canonical-{k + 1}") for k in range(len(kelvins)))
    period_fs = number(plan["fastest_period_fs"], "fastest_period_fs", 0)
    shortest_fs, _ = _between_kicks(job.request, period_fs)
    # Those of the report stay unseen.
    is_learnt_from = setup.kick_frames * setup.stride_fs >= shortest_fs
    facts = Facts(
        train=(
            *(_file(name) for name in nve if name != held_out),
            *(of_bath if is_learnt_from else ()),
        ),
        validation=(_file(held_out),),
        bath=of_bath,
        report=tuple(
            _file(f"canonical-{k + 1}") for k in range(len(kelvins), lengths.n_tracks)
        ),
        has_thermostat=True,
        temperatures_K=kelvins,
        stride_fs=setup.stride_fs,
        fastest_period_fs=period_fs,
        timestep_fs=setup.timestep_fs,
        seconds_per_step=number(plan["seconds_per_step"], "seconds_per_step", 0),
        calculator_ns_per_day=number(plan["calculator_ns_per_day"], "its speed", 0),
        notes=tuple(notes),
    )
    line = _told(facts, setup, runs, list(canonical.values()))
    left_out = lengths.n_tracks * lengths.n_rounds - len(nve)
    if left_out:
        line += (
            f"; {left_out} more at constant energy were planned, but the machine was "
            "slower than on trial and their time was over"
        )
    for note in notes:
        line += f"; note: {note}"
    kept = facts.train + facts.validation + facts.bath + facts.report
    files = [job.request.out / name for name in dict.fromkeys(kept)]
    job.state.finish(STAGE, facts.to_plain(), line, files)
    for name in set(made) - set(nve):
        setup.path(name).unlink(missing_ok=True)
    job.say(STAGE, line)


def _file(name: str) -> str:
    return f"{FOLDER}/{name}.h5"


def _join_pieces(
    setup: Setup, lengths: Lengths, track: int, temperature_K: float
) -> Frames:
    """Write the canonical run of a track, of its pieces, and return it."""
    paths = [
        setup.path(canonical_piece(track, number))
        for number in range(1, lengths.n_rounds + 1)
    ]
    frames = joined([read_frames(path) for path in paths if path.exists()])
    path = setup.path(f"canonical-{track}")
    write_frames(
        path,
        frames,
        {
            "ensemble": "nvt",
            "temperature_K": temperature_K,
            "timestep_fs": setup.timestep_fs,
        },
    )
    return read_frames(path)


def joined(pieces: list[Frames]) -> Frames:
    """Return pieces as one run; each begins with the last frame of the one before."""
    rest = pieces[1:]
    begins = np.cumsum([0, *(one.n_frames - 1 for one in pieces[:-1])])
    kicks = [
        begin + one.kicks
        for begin, one in zip(begins, pieces, strict=True)
        if one.kicks is not None
    ]
    return replace(
        pieces[0],
        positions=np.concatenate(
            [pieces[0].positions, *(one.positions[1:] for one in rest)]
        ),
        velocities=np.concatenate(
            [pieces[0].velocities, *(one.velocities[1:] for one in rest)]
        ),
        kicks=np.concatenate(kicks) if kicks else None,
    )


def _told(
    facts: Facts, setup: Setup, runs: list[Frames], canonical: list[Frames]
) -> str:
    """Return what was made, in words."""
    nve_ps = sum(run.n_frames for run in runs) * setup.stride_fs * 1e-3
    of_bath = sum(run.n_frames for run in canonical[: len(facts.bath)])
    learnt = (
        ", which is learnt from, too," if set(facts.bath) & set(facts.train) else ""
    )
    of_report = sum(run.n_frames for run in canonical[len(facts.bath) :])
    ps = setup.stride_fs * 1e-3
    return (
        f"made {figures(nve_ps)} ps at constant energy in {len(runs)} runs (one is "
        "held out of the training), canonical runs of "
        f"{figures(of_bath * ps)} ps for the bath{learnt} and of "
        f"{figures(of_report * ps)} ps for the report"
    )
