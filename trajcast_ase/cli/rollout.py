"""The rollout of ``trajcast run``: one run, or replicas of it in one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Float
from rich.console import Console

from trajcast_ase.cli.files import LOG, TRAJECTORY, Files
from trajcast_ase.driver import TrajCast
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network.forecaster import Forecaster
from trajcast_ase.noise import ForecastNoise
from trajcast_ase.progress import RolloutProgress
from trajcast_ase.replicas import Replicas, ThermostatMaker
from trajcast_ase.streams import Purpose, Streams, random_stream
from trajcast_ase.units import ns_per_day


@dataclass(frozen=True, slots=True)
class Job:
    """A run, or several replicas of it, with everything checked.

    Attributes
    ----------
    atoms : Atoms
        The start of all.
    network : Forecaster
    drawn_at : float or None
        Temperature of the velocities to draw, K; None keeps those of `atoms`.
    thermostat : callable of Streams, or None
    noise : callable of a numpy Generator, or None
    seed : int
    steps, interval : int
        Strides, and strides between two frames.
    files : Files
        What is written; their numbers are those of the replicas.
    """

    atoms: Atoms
    network: Forecaster
    drawn_at: float | None
    thermostat: ThermostatMaker | None
    noise: Callable[[np.random.Generator], ForecastNoise] | None
    seed: int
    steps: int
    interval: int
    files: Files


def roll_out(job: Job, console: Console) -> None:
    """Run, write the files, and print speed and mean temperature.

    Raises
    ------
    LostReplicasError
        Replicas have failed, said after the summary; the files of all are readable.
    """
    for log in job.files.paths(LOG):
        log.unlink(missing_ok=True)  # ASE appends to logs
    replicas = job.files.replicas
    dynamics = _one(job) if replicas is None else _many(job, replicas)
    runs = [dynamics] if isinstance(dynamics, TrajCast) else list(dynamics)
    horizon_fs = job.network.horizon_fs
    temperatures: list[list[float]] = []
    with (
        dynamics,
        RolloutProgress(
            job.steps, horizon_fs, n_replicas=len(runs), console=console
        ) as progress,
    ):

        def report() -> None:
            temperatures.append([one.get_temperature() for one in runs])
            progress.update(dynamics.nsteps, float(np.mean(temperatures[-1])))

        # Of replicas it looks last: by then all have written their frames.
        dynamics.attach(report, interval=job.interval)
        start = time.perf_counter()
        try:
            dynamics.run(job.steps)
        except KeyboardInterrupt:
            console.print(f"interrupted after {dynamics.nsteps} strides")
            raise
        seconds = time.perf_counter() - start
    means = np.mean(temperatures, axis=0)
    if isinstance(dynamics, TrajCast):
        _print_summary(job, runs, seconds, means, console)
        return
    # Those that are lost have rested since.
    kept = [k for k, one in enumerate(runs) if one.nsteps == dynamics.nsteps]
    _print_summary(job, [runs[k] for k in kept], seconds, means[kept], console)
    dynamics.raise_if_lost()


def _print_summary(
    job: Job,
    runs: Sequence[TrajCast],
    seconds: float,
    temperatures: Float[np.ndarray, " runs"],
    console: Console,
) -> None:
    """Print speed and mean temperatures (K), and what was written."""
    horizon_fs, n_dof = job.network.horizon_fs, runs[0].n_dof
    speed = len(runs) * ns_per_day(seconds / job.steps, horizon_fs)
    length = f"{job.steps * horizon_fs * 1e-3:.2f} ps"
    mean = f"mean temperature {temperatures.mean():.1f} K"
    if job.files.replicas is None:
        text = f"{length} at {speed:.2f} ns/day; {mean} over {n_dof} degrees of freedom"
    else:
        text = (
            f"{len(runs)} x {length} at {speed:.2f} ns/day in all; {mean} "
            f"({temperatures.min():.1f} to {temperatures.max():.1f} K) over {n_dof} "
            "degrees of freedom each"
        )
    console.print(text, soft_wrap=True)
    console.print(f"wrote {job.files}", soft_wrap=True)


def _one(job: Job) -> TrajCast:
    """Return a single run, which draws all its numbers from one generator."""
    rng = np.random.default_rng(job.seed)
    return TrajCast(
        _start(job, rng),
        job.network,
        thermostat=job.thermostat(Streams([rng])) if job.thermostat else None,
        noise=job.noise(rng) if job.noise else None,
        trajectory=job.files.paths(TRAJECTORY)[0],
        logfile=job.files.paths(LOG)[0],
        loginterval=job.interval,
    )


def _many(job: Job, numbers: range) -> Replicas:
    """Return replicas, each of which draws from streams of its own."""
    streams = [random_stream(job.seed, k, Purpose.VELOCITIES) for k in numbers]
    return Replicas(
        [_start(job, rng) for rng in streams],
        job.network,
        thermostat=job.thermostat,
        noise=job.noise,
        seed=job.seed,
        first_replica=numbers.start,
        trajectory=job.files.template(TRAJECTORY),
        logfile=job.files.template(LOG),
        loginterval=job.interval,
    )


def _start(job: Job, rng: np.random.Generator) -> Atoms:
    """Return a copy of the start, with velocities from `rng` if they are drawn."""
    atoms: Atoms = job.atoms.copy()
    if job.drawn_at is not None:
        draw_momenta(atoms, job.drawn_at, rng, job.network.conservation)
    return atoms
