"""First stage: reference MD with the user's calculator."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from trajcast_ase.distill.calculators import try_calculator
from trajcast_ase.distill.chains import (
    Chain,
    Lengths,
    make_chains,
    plan_lengths,
    run_chains,
)
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.findings import findings
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.segments import Setup
from trajcast_ase.distill.timestep import choose_timestep
from trajcast_ase.strict import integer, number
from trajcast_ase.trajectory import read_frames

FOLDER = "reference"
FRAMES_PER_PERIOD = 12
"""Frames in the period of the fastest motion: any horizon can be cut from them."""
STAGE = "reference"


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
    plan = job.state.plans.get(STAGE) or _make_plan(job)
    folder = job.request.out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    setup = Setup(
        atoms=_bare(job.request.atoms),
        temperature_K=job.request.temperature_K or 0.0,
        timestep_fs=number(plan["timestep_fs"], "timestep_fs", 0, 100),
        frame_steps=integer(plan["frame_steps"], "frame_steps", 1, 10**6),
        folder=folder,
    )
    lengths = Lengths(
        **{name: integer(plan[name], name, 1, 10**12) for name in Lengths.__slots__}
    )
    chains = make_chains(lengths, job.request.seed)
    total = sum(segment.n_frames for chain in chains for segment in chain)
    with job.bar(total) as bar:

        def report(n_frames: int) -> None:
            job.state.tick()
            bar.update(n_frames, f"{n_frames * setup.stride_fs * 1e-3:.1f} ps of MD")

        run_chains(
            setup,
            chains,
            job.request.calculator,
            job.request.processes,
            report=report,
            seconds=job.effort.md_seconds(job.state.spent_on(STAGE)),
        )
    _finish(job, setup, chains, plan)


def _bare(atoms: Atoms) -> Atoms:
    bare: Atoms = atoms.copy()
    bare.calc = None
    return bare


def _make_plan(job: Job) -> dict[str, Any]:
    assert job.request.atoms is not None  # noqa: S101
    assert job.request.calculator is not None  # noqa: S101
    trial = choose_timestep(
        job.request.atoms,
        job.request.calculator.make(),
        job.request.temperature_K or 0.0,
        job.request.seed,
        job.request.fixed.timestep_fs,
    )
    fixed = job.request.fixed.timestep_fs is not None
    why = "as asked" if fixed else "the longest that keeps energy"
    job.say(STAGE, f"time step {trial}, {why}")
    n_steps = job.effort.md_steps(
        trial.seconds_per_step, job.request.processes, trial.timestep_fs
    )
    frame_steps = max(
        1, round(trial.fastest_period_fs / FRAMES_PER_PERIOD / trial.timestep_fs)
    )
    lengths = plan_lengths(n_steps, frame_steps, trial.timestep_fs)
    plan = {
        "timestep_fs": trial.timestep_fs,
        "frame_steps": frame_steps,
        "fastest_period_fs": trial.fastest_period_fs,
        "seconds_per_step": trial.seconds_per_step,
        **{name: getattr(lengths, name) for name in Lengths.__slots__},
    }
    stride = frame_steps * trial.timestep_fs
    job.say(
        STAGE,
        f"frames every {stride:g} fs, since the fastest motion has a period of "
        f"{trial.fastest_period_fs:.0f} fs; {2 * lengths.n_nve} NVE runs of "
        f"{lengths.nve * stride * 1e-3:.3g} ps from snapshots "
        f"{lengths.pause * stride * 1e-3:.2g} ps apart, and 2 canonical runs of "
        f"{lengths.canonical * stride * 1e-3:.3g} ps for the report",
    )
    job.state.keep_plan(STAGE, plan)
    return plan


def _finish(job: Job, setup: Setup, chains: list[Chain], plan: dict[str, Any]) -> None:
    """Keep the runs, and remove what only led to them."""
    every = [segment.name for chain in chains for segment in chain]
    names = [name for name in every if setup.path(name).exists()]
    nve = [name for name in names if name.startswith("nve-")]
    canonical = [name for name in names if name.startswith("canonical-")]
    read = {name: read_frames(setup.path(name)) for name in (*nve, *canonical)}
    notes = findings(
        [read[name] for name in canonical],
        [read[name] for name in nve],
        setup.temperature_K,
    )
    for name in names:
        if name not in read:
            setup.path(name).unlink(missing_ok=True)
    n_train = len(nve) - 1
    facts = Facts(
        train=tuple(f"{FOLDER}/{name}.h5" for name in nve[:n_train]),
        validation=tuple(f"{FOLDER}/{name}.h5" for name in nve[n_train:]),
        canonical=tuple(f"{FOLDER}/{name}.h5" for name in canonical),
        has_thermostat=True,
        temperature_K=setup.temperature_K,
        stride_fs=setup.stride_fs,
        fastest_period_fs=number(plan["fastest_period_fs"], "fastest_period_fs", 0),
        timestep_fs=setup.timestep_fs,
        seconds_per_step=number(plan["seconds_per_step"], "seconds_per_step", 0),
        notes=tuple(notes),
    )
    nve_ps = sum(read[name].n_frames for name in nve) * setup.stride_fs * 1e-3
    line = (
        f"{nve_ps:.3g} ps at constant energy in {len(nve)} runs (the last is held out)"
    )
    left_out = sum(name.startswith("nve-") for name in every) - len(nve)
    if left_out:
        line += f"; {left_out} more were planned, but the machine was slower"
    for note in notes:
        line += f"; note: {note}"
    files = [job.request.out / name for name in facts.train + facts.validation]
    files += [job.request.out / name for name in facts.canonical]
    job.state.finish(STAGE, facts.to_plain(), line, files)
    job.say(STAGE, line)
