"""The rollout of ``trajcast run``: one run, or replicas of it in one batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import numpy as np
from ase import Atoms
from jaxtyping import Float
from rich.console import Console

from trajcast_ase.cli.files import LOG, TRAJECTORY, Files
from trajcast_ase.cli.options import EngineName, GuardAction
from trajcast_ase.cli.output import cut_log
from trajcast_ase.dynamics.checkpoint import (
    CheckpointElsewhereError,
    has_checkpoint,
    read_checkpoint,
)
from trajcast_ase.dynamics.device_leaps import EngineChoice
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.file_marks import CheckpointError
from trajcast_ase.dynamics.interruption import noted_signals
from trajcast_ase.dynamics.replicas import Replicas, ThermostatMaker
from trajcast_ase.dynamics.rollout import Checkpoints, Ending, Limits, roll_out
from trajcast_ase.files import sole_writer
from trajcast_ase.guards.answer import OnFinding
from trajcast_ase.guards.default import GuardMaker, default_guards
from trajcast_ase.guards.protocol import Guard
from trajcast_ase.guards.reversal import ReversalGuard
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network.forecaster import Forecaster
from trajcast_ase.progress import RolloutProgress
from trajcast_ase.streams import Purpose, Streams, random_stream
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat
from trajcast_ase.units import ns_per_day

FAR = 0.2
"""Relative deviation of a mean temperature that is worth a warning."""


class Conduct(TypedDict):
    """Arguments of TrajCast and Replicas."""

    guards: tuple[()] | GuardMaker | None
    on_finding: OnFinding
    engine: EngineChoice


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
    noise : callable of Streams, or None
    seed : int
    steps, interval, log_interval : int
        Strides, and strides between two frames and between two rows of the log.
    done : int or None
        Strides of the run whose last frame is the start and whose files are continued.
    files : Files
        What is written; their numbers are those of the replicas.
    limits : Limits
    checkpoint_minutes : float
    restart : bool
        Go on from the checkpoint, where there is one.
    guards : GuardAction
    engine : EngineName
    reversal_every : int or None
        Strides between two forecasts back.
    """

    atoms: Atoms
    network: Forecaster
    drawn_at: float | None
    thermostat: ThermostatMaker | None
    noise: Callable[[Streams], ForecastNoise] | None
    seed: int
    steps: int
    interval: int
    log_interval: int
    done: int | None
    files: Files
    limits: Limits
    checkpoint_minutes: float
    restart: bool
    guards: GuardAction
    engine: EngineName
    reversal_every: int | None

    @property
    def conduct(self) -> Conduct:
        """Who guards the dynamics and where they are made: arguments of drivers."""
        guards: tuple[()] | GuardMaker | None = None
        if self.guards is GuardAction.OFF:
            guards = ()
        elif self.reversal_every is not None:
            guards = partial(_guards_that_go_back, every=self.reversal_every)
        return {
            "guards": guards,
            "on_finding": "warn" if self.guards is GuardAction.WARN else "stop",
            "engine": "device" if self.engine is EngineName.DEVICE else "host",
        }

    @property
    def goes_on(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.restart and has_checkpoint(self.files.checkpoint)

    @property
    def way_on(self) -> str:
        """The command that goes on where this one was stopped, in words."""
        if self.done is None:
            return "the same command with --restart"
        return (
            f"the same command with --restart --steps {self.steps} in place of "
            "--append and its --steps"
        )


def _guards_that_go_back(
    atoms: Atoms,
    model: ForecastModel,
    thermostats: Sequence[Thermostat],
    *,
    every: int,
) -> tuple[Guard, ...]:
    return (*default_guards(atoms, model, thermostats), ReversalGuard(every))


def carry_out(job: Job, console: Console) -> Ending:
    """Run, write the files, and print speed and mean temperature.

    Raises
    ------
    LostReplicasError
        Replicas have failed, said after the summary; the files of all are readable.
    OSError
        A file cannot be written; what is on disk stays readable.
    """
    # From before the files are opened: else an interrupt leaves some without a frame.
    with noted_signals() as signals, sole_writer(*job.files.paths(TRAJECTORY)):
        if job.goes_on:
            dynamics = _continued(job)
            console.print(f"going on after stride {dynamics.nsteps}")
        else:
            if job.done is None:
                job.files.clear()
            else:
                cut_log(job.files.paths(LOG)[0], job.files.paths(TRAJECTORY)[0])
            dynamics = _one(job) if job.files.replicas is None else _many(job)
        ending, temperatures = _run(job, dynamics, signals, console)
    runs = [dynamics] if isinstance(dynamics, TrajCast) else list(dynamics)
    # Those that are lost have rested since.
    kept = [k for k, one in enumerate(runs) if one.nsteps == dynamics.nsteps]
    _print_summary(job, [runs[k] for k in kept], ending, temperatures[kept], console)
    if isinstance(dynamics, Replicas):
        dynamics.raise_if_lost()
    return ending


def _run(
    job: Job,
    dynamics: TrajCast | Replicas,
    signals: Sequence[int],
    console: Console,
) -> tuple[Ending, Float[np.ndarray, " runs"]]:
    """Return how the run ended, and the mean temperature of each system, K."""
    runs = [dynamics] if isinstance(dynamics, TrajCast) else list(dynamics)
    temperatures: list[list[float]] = []
    progress = RolloutProgress(
        job.steps,
        job.network.horizon_fs,
        first=dynamics.nsteps,
        n_replicas=len(runs),
        console=console,
    )
    with dynamics, progress:

        def report() -> None:
            temperatures.append([one.get_temperature() for one in runs])
            progress.update(dynamics.nsteps, float(np.mean(temperatures[-1])))

        # Of replicas it looks last: by then all have written their frames.
        dynamics.attach(report, job.interval)
        try:
            ending = roll_out(
                dynamics,
                job.steps,
                checkpoints=Checkpoints(job.files.checkpoint, job.checkpoint_minutes),
                limits=job.limits,
                signals=signals,
            )
        except KeyboardInterrupt:
            console.print(f"interrupted after {dynamics.nsteps} strides")
            raise
        except CheckpointElsewhereError:  # which tells the way on
            raise
        except OSError as error:
            kept = "; the last checkpoint and all before it are on disk: make room and "
            raise OSError(f"{error}{kept}run {job.way_on}") from error
        if not temperatures:
            report()
    return ending, np.mean(temperatures, axis=0)


def _print_summary(
    job: Job,
    runs: Sequence[TrajCast],
    ending: Ending,
    temperatures: Float[np.ndarray, " runs"],
    console: Console,
) -> None:
    """Print speed and mean temperatures (K), and what was written."""
    horizon_fs, n_dof = job.network.horizon_fs, runs[0].n_dof
    per_stride = ending.seconds / max(ending.n_strides, 1)
    speed = len(runs) * ns_per_day(per_stride, horizon_fs)
    length = f"{ending.n_strides * horizon_fs * 1e-3:.2f} ps"
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
    _tell_objections(runs, console)
    if ending.reason:
        console.print(
            f"ended by {ending.reason} at stride {runs[0].nsteps} of {job.steps}; "
            f"{job.way_on} goes on",
            soft_wrap=True,
        )
    _warn_of_temperature(runs[0], temperatures, console)


def _warn_of_temperature(
    run: TrajCast, temperatures: Float[np.ndarray, " runs"], console: Console
) -> None:
    """Print where the mean is far from what the thermostats were set to."""
    targets = {getattr(one, "temperature_K", None) for one in run.thermostats}
    numbers = [one for one in targets if isinstance(one, int | float) and one > 0]
    for target in numbers:
        far = np.abs(temperatures / target - 1.0) > FAR
        if far.any():
            console.print(
                f"warning: {int(far.sum())} of {len(far)} mean temperatures are more "
                f"than {100 * FAR:.0f} % from the {target:g} K of the thermostat; the "
                "run is too short, or the model does not know these states",
                style="bold red",
                soft_wrap=True,
            )


def _tell_objections(runs: Sequence[TrajCast], console: Console) -> None:
    """Print in how many strides guards have objected."""
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run.tally.found)
    if total:
        strides = sum(run.nsteps for run in runs)
        each = ", ".join(f"{name} {count}" for name, count in sorted(total.items()))
        console.print(
            f"warning: guards object to forecasts of {strides} strides: {each}",
            soft_wrap=True,
        )


def _one(job: Job) -> TrajCast:
    """Return a single run, which draws all its numbers from one generator."""
    rng = np.random.default_rng(job.seed)
    log = job.files.paths(LOG)[0]
    new_log = job.done is None or not log.exists()
    dynamics = TrajCast(
        _start(job, rng),
        job.network,
        thermostat=job.thermostat(Streams([rng])) if job.thermostat else None,
        noise=job.noise(Streams([rng])) if job.noise else None,
        trajectory=job.files.paths(TRAJECTORY)[0],
        append_trajectory=job.done is not None,
        loginterval=job.interval,
        **job.conduct,
    )
    dynamics._open_log(log, job.log_interval, header=new_log)  # noqa: SLF001  as restart
    if job.done is not None:
        dynamics.nsteps = job.done
        dynamics._resumed = True  # noqa: SLF001  its first frame is there already
    return dynamics


def _many(job: Job) -> Replicas:
    """Return replicas, each of which draws from streams of its own."""
    numbers = job.files.numbers
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
        **job.conduct,
        logfile_interval=job.log_interval,
    )


def _continued(job: Job) -> TrajCast | Replicas:
    """Return the run or the replicas of the checkpoint."""
    path, files = job.files.checkpoint, job.files
    kept = read_checkpoint(path)
    if not np.array_equal(kept[0].atoms.numbers, job.atoms.numbers):
        raise CheckpointError(
            f"{path} is of {kept[0].atoms.symbols}, but the start is "
            f"{job.atoms.symbols}; give the start that the run had, or another --out"
        )
    if files.replicas is None:
        rng = np.random.default_rng()  # takes over the state that it had
        return TrajCast.restart(
            path,
            job.network,
            thermostat=job.thermostat(Streams([rng])) if job.thermostat else None,
            noise=job.noise(Streams([rng])) if job.noise else None,
            trajectory=files.paths(TRAJECTORY)[0],
            logfile=files.paths(LOG)[0],
            loginterval=job.interval,
            **job.conduct,
            logfile_interval=job.log_interval,
        )
    if [run.number for run in kept] != list(files.replicas):
        raise CheckpointError(
            f"{path} is of {len(kept)} replicas from number {kept[0].number} on; give "
            f"--replicas {len(kept)} --first-replica {kept[0].number}"
        )
    return Replicas.restart(
        path,
        job.network,
        thermostat=job.thermostat,
        noise=job.noise,
        trajectory=files.template(TRAJECTORY),
        logfile=files.template(LOG),
        loginterval=job.interval,
        **job.conduct,
        logfile_interval=job.log_interval,
    )


def _start(job: Job, rng: np.random.Generator) -> Atoms:
    """Return a copy of the start, with velocities from `rng` if they are drawn."""
    atoms: Atoms = job.atoms.copy()
    if job.drawn_at is not None:
        draw_momenta(atoms, job.drawn_at, rng, job.network.conservation)
    return atoms
