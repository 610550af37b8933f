"""``trajcast run``: rollouts from a structure file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trajcast_ase.cli.options import (
    BackendName,
    BackendOption,
    CheckpointMinutesOption,
    DeviceOption,
    DrawVelocitiesOption,
    EngineName,
    EngineOption,
    FrictionOption,
    GuardAction,
    MaxHoursOption,
    NoiseOption,
    PrecisionOption,
    ResponseOption,
    StopFileOption,
    TautOption,
    ThermostatOption,
    TrajectoryFormat,
)
from trajcast_ase.cli.output import (
    SUFFIXES,
    check_append,
    named_format,
    strides_done,
    write_copies,
)
from trajcast_ase.cli.thermostat import (
    Bath,
    ThermostatName,
    checked_temperature,
    described,
    questioned,
    ramp_of,
    thermostat_maker,
)

if TYPE_CHECKING:
    from ase import Atoms

    from trajcast_ase.cli.rollout import Job
    from trajcast_ase.network.forecaster import Forecaster


def run(
    start: Annotated[
        Path, typer.Argument(help="Structure in any ASE format; its last frame.")
    ],
    *,
    model: Annotated[str, typer.Option(help="Bundled name, or a .trajcast file.")],
    steps: Annotated[int, typer.Option(min=1, help="Number of strides.")],
    temperature: Annotated[
        float | None, typer.Option(help="Of the thermostat and of drawn velocities, K.")
    ] = None,
    thermostat: ThermostatOption = ThermostatName.RECOMMENDED,
    taut: TautOption = None,
    friction: FrictionOption = None,
    response: ResponseOption = None,
    noise: NoiseOption = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of velocities and noise. Default: a new one."),
    ] = None,
    ramp: Annotated[
        str | None,
        typer.Option(help="Temperatures at start and end of the run, K: 300:600."),
    ] = None,
    interval: Annotated[
        int,
        typer.Option(min=1, help="Strides between two frames; validate needs 1."),
    ] = 10,
    log_interval: Annotated[
        int | None,
        typer.Option(min=1, help="Strides between two log lines. Default: --interval."),
    ] = None,
    trajectory_format: Annotated[
        TrajectoryFormat | None,
        typer.Option(
            "--format",
            help="Write the trajectory in this format, too, at the end of the run.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Files are OUT.traj and OUT.log, of replicas OUT-00.traj and so on; a "
            "name such as md.xyz asks for that format, too. Default: START-md."
        ),
    ] = None,
    device: DeviceOption = "cpu",
    engine: EngineOption = EngineName.HOST,
    backend: BackendOption = BackendName.AUTO,
    dtype: PrecisionOption = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs in one batch, each with its own random numbers and files."
        ),
    ] = None,
    first_replica: Annotated[
        int,
        typer.Option(min=0, help="Number of the first replica, to add to a batch."),
    ] = 0,
    guards: Annotated[
        GuardAction,
        typer.Option(
            help="Where a forecast is no sound dynamics: stop leaves the last frames "
            "in OUT.evidence.extxyz, off looks at finite values only."
        ),
    ] = GuardAction.STOP,
    reversal_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Go back from every n-th forecast, too, and object where that misses "
            "the start by more than on held-out data; costs 1/n of the run.",
        ),
    ] = None,
    draw_velocities: DrawVelocitiesOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Go on from OUT.checkpoint, where there is one."
        ),
    ] = False,
    append: Annotated[
        bool,
        typer.Option(
            "--append", help="Make STEPS more from the last frame of OUT.traj."
        ),
    ] = False,
    checkpoint_minutes: CheckpointMinutesOption = 5.0,
    max_hours: MaxHoursOption = None,
    stop_file: StopFileOption = None,
) -> None:
    """Forecast the dynamics of a structure and write trajectory, log and checkpoint."""
    import numpy as np  # noqa: PLC0415  --help does without these
    import torch  # noqa: PLC0415

    from trajcast_ase.cli.files import TRAJECTORY, Files  # noqa: PLC0415
    from trajcast_ase.cli.rollout import Job, carry_out  # noqa: PLC0415
    from trajcast_ase.dynamics.rollout import Limits  # noqa: PLC0415
    from trajcast_ase.models.model_file import load_model  # noqa: PLC0415
    from trajcast_ase.thermostats.noise import ForecastNoise  # noqa: PLC0415
    from trajcast_ase.units import FS  # noqa: PLC0415

    console = Console(highlight=False)
    prefix, kind = named_format(start, out, trajectory_format)
    numbers = _replica_numbers(replicas, first_replica)
    files = Files(prefix, numbers, SUFFIXES[kind] if kind else "")
    if append:
        check_append(restart=restart, overwrite=overwrite, ramp=ramp, numbers=numbers)
    files.prepare(start, overwrite=overwrite, restart=restart, append=append)
    if append:
        start = files.paths(TRAJECTORY)[0]
    atoms = read_structure(start)
    network = load_model(
        model, device=device, dtype=None if dtype is None else getattr(torch, dtype)
    )
    done = strides_done(start, interval, network.horizon_fs) if append else None
    steps += done or 0
    _take_backend(network, backend)
    schedule = ramp_of(ramp, steps * network.horizon_fs * FS)
    if schedule is not None:
        if temperature is not None:
            raise ValueError(
                f"--ramp {ramp} and --temperature {temperature:g} exclude each other"
            )
        temperature = schedule.start_K
    bath = Bath(thermostat, temperature, taut, friction, response, schedule)
    if question := questioned(bath, network.horizon_fs):
        console.print(question, soft_wrap=True)
    kicks = ForecastNoise.of_model(model).covariances if noise else None
    job = Job(
        atoms,
        network,
        thermostat=thermostat_maker(bath, network),
        noise=None if kicks is None else partial(ForecastNoise, kicks),
        drawn_at=_drawn_temperature(atoms, temperature, wanted=draw_velocities),
        seed=int(np.random.default_rng().integers(2**32)) if seed is None else seed,
        steps=steps,
        interval=interval,
        log_interval=log_interval or interval,
        done=done,
        files=files,
        limits=Limits(None if max_hours is None else 3600 * max_hours, stop_file),
        checkpoint_minutes=checkpoint_minutes,
        restart=restart,
        guards=guards,
        engine=engine,
        reversal_every=_checked_reversals(reversal_every, guards, network),
    )
    _check_replicas_differ(job)
    _announce(job, start, described(bath, network), console)
    ending = carry_out(job, console)
    write_copies(files, kind)
    if ending.exit_status:
        raise typer.Exit(ending.exit_status)


def _take_backend(network: Forecaster, backend: BackendName) -> None:
    """Let a network compute with what was asked for."""
    from trajcast_ase.network.backend import BackendError  # noqa: PLC0415

    if backend is BackendName.AUTO:
        return  # as it was loaded
    try:
        network.set_backend(backend.value)
    except BackendError as error:
        raise ValueError(f"--backend {backend}: {error}") from error


def _checked_reversals(
    every: int | None, guards: GuardAction, network: Forecaster
) -> int | None:
    """Return `every`, for which the model's file must state limits."""
    from trajcast_ase.guards.reversal import reversal_limits  # noqa: PLC0415

    if every is not None:
        if guards is GuardAction.OFF:
            raise ValueError(
                "--reversal-every is a guard, and --guards off leaves all out; leave "
                "one of them out"
            )
        reversal_limits(network)
    return every


def read_structure(path: Path) -> Atoms:
    """Return the last frame of a file in any format that ASE reads.

    Raises
    ------
    ValueError
        The file is not there, not readable or empty.
    """
    from ase.io import read  # noqa: PLC0415

    if not path.is_file():
        raise ValueError(f"there is no file {path}; give the structure to start from")
    try:
        atoms: Atoms = read(  # type: ignore[assignment]  # one index
            path, index=-1, do_not_split_by_at_sign=True
        )
    except Exception as error:  # ASE's readers raise errors of many classes
        raise ValueError(
            f"{path} cannot be read as a structure "
            f"({type(error).__name__}: {error}); give a file that ase.io.read accepts"
        ) from error
    if len(atoms) == 0:
        raise ValueError(f"{path} holds no atoms; a forecast needs at least one")
    atoms.calc = None  # energies that a file stores are those of its own positions
    return atoms


def _replica_numbers(count: int | None, first: int) -> range | None:
    if count is not None:
        return range(first, first + count)
    if first:
        raise ValueError(
            f"--first-replica {first} numbers the replicas of --replicas; pass that, "
            "too"
        )
    return None


def _check_replicas_differ(job: Job) -> None:
    """Raise for replicas without chance, which are one run many times."""
    n_runs = 1 if job.files.replicas is None else len(job.files.replicas)
    chance = job.thermostat, job.noise, job.drawn_at
    if n_runs > 1 and all(source is None for source in chance):
        raise ValueError(
            f"--replicas {n_runs} from the velocities of the start with --thermostat "
            f"none are one run {n_runs} times; pass --draw-velocities, --noise or a "
            "thermostat"
        )


def _announce(job: Job, start: Path, thermostat: str, console: Console) -> None:
    """Print what will run."""
    replicas, n_atoms = job.files.replicas, f"{len(job.atoms)} atoms"
    if replicas is not None:
        n_atoms = f"{len(replicas)} replicas of {n_atoms}"
    console.print(
        f"{job.network.name}: {n_atoms}, {job.steps} strides of "
        f"{job.network.horizon_fs:g} fs, {thermostat}, "
        f"{'calibrated noise, ' if job.noise else ''}"
        f"{'as before' if job.goes_on else f'seed {job.seed}'}",
        soft_wrap=True,
    )
    if job.goes_on:
        return
    if job.done is not None:
        console.print(f"going on from the last frame of {start}, stride {job.done}")
    if job.drawn_at is not None:
        reason = "" if _moves(job.atoms) else f": {start} has none"
        console.print(f"velocities drawn at {job.drawn_at:g} K{reason}")
    elif replicas is not None:
        console.print(f"all replicas start with the velocities of {start}")


def _drawn_temperature(
    atoms: Atoms, temperature: float | None, *, wanted: bool
) -> float | None:
    """Return the temperature (K) of the velocities to draw; None keeps those given."""
    if _moves(atoms) and not wanted:
        return None
    needed_by = "--draw-velocities" if wanted else "a start without velocities"
    return checked_temperature(temperature, needed_by)


def _moves(atoms: Atoms) -> bool:
    return bool(atoms.get_momenta().any())
