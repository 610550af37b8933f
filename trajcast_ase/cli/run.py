"""``trajcast run``: rollouts from a structure file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trajcast_ase.cli.files import Files
from trajcast_ase.cli.options import Precision

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from trajcast_ase.cli.rollout import Job
    from trajcast_ase.thermostats import Thermostat

DEFAULT_FRICTION = 0.01


class ThermostatName(StrEnum):
    """Thermostats of the command line."""

    CSVR = "csvr"
    LANGEVIN = "langevin"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class _Bath:
    """Thermostat as the command line gives it: K, fs, 1/fs."""

    name: ThermostatName
    temperature: float | None
    taut: float | None
    friction: float | None


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
    thermostat: Annotated[
        ThermostatName, typer.Option(help="none conserves what the model conserves.")
    ] = ThermostatName.CSVR,
    taut: Annotated[
        float | None,
        typer.Option(help="Time constant of csvr, fs. Default: ten strides."),
    ] = None,
    friction: Annotated[
        float | None,
        typer.Option(help=f"Of langevin, 1/fs. Default: {DEFAULT_FRICTION:g}."),
    ] = None,
    noise: Annotated[
        bool, typer.Option("--noise", help="Add the model's calibrated noise.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of velocities and noise. Default: a new one."),
    ] = None,
    interval: Annotated[
        int, typer.Option(min=1, help="Strides between two frames and log lines.")
    ] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Files are OUT.traj and OUT.log, of replicas OUT-00.traj and so on. "
            "Default: START-md."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[
        Precision | None, typer.Option(help="Of the network. Default: as in its file.")
    ] = None,
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
    draw_velocities: Annotated[
        bool,
        typer.Option("--draw-velocities", help="Also where the structure has them."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.")
    ] = False,
) -> None:
    """Forecast the dynamics of a structure and write trajectory and log."""
    import numpy as np  # noqa: PLC0415  --help does without these
    import torch  # noqa: PLC0415

    from trajcast_ase.cli.rollout import Job, roll_out  # noqa: PLC0415
    from trajcast_ase.model_file import load_model  # noqa: PLC0415
    from trajcast_ase.noise import ForecastNoise  # noqa: PLC0415

    console = Console(highlight=False)
    prefix = Path(f"{start.stem}-md") if out is None else out
    files = Files(prefix, _replica_numbers(replicas, first_replica))
    files.prepare(start, overwrite=overwrite)
    atoms = read_structure(start)
    network = load_model(
        model, device=device, dtype=None if dtype is None else getattr(torch, dtype)
    )
    bath = _Bath(thermostat, temperature, taut, friction)
    kicks = ForecastNoise.of_model(model).covariances if noise else None
    job = Job(
        atoms,
        network,
        thermostat=_thermostat_maker(bath, network.horizon_fs),
        noise=None if kicks is None else partial(ForecastNoise, kicks),
        drawn_at=_drawn_temperature(atoms, temperature, wanted=draw_velocities),
        seed=int(np.random.default_rng().integers(2**32)) if seed is None else seed,
        steps=steps,
        interval=interval,
        files=files,
    )
    _check_replicas_differ(job)
    _announce(job, start, thermostat, console)
    roll_out(job, console)


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
        atoms: Atoms = read(path, index=-1)  # type: ignore[assignment]  # one index
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


def _announce(
    job: Job, start: Path, thermostat: ThermostatName, console: Console
) -> None:
    """Print what will run."""
    replicas, n_atoms = job.files.replicas, f"{len(job.atoms)} atoms"
    if replicas is not None:
        n_atoms = f"{len(replicas)} replicas of {n_atoms}"
    console.print(
        f"{job.network.name}: {n_atoms}, {job.steps} strides of "
        f"{job.network.horizon_fs:g} fs, thermostat {thermostat}, "
        f"{'calibrated noise, ' if job.noise else ''}seed {job.seed}",
        soft_wrap=True,
    )
    if job.drawn_at is not None:
        reason = "" if _moves(job.atoms) else f": {start} has none"
        console.print(f"velocities drawn at {job.drawn_at:g} K{reason}")
    elif replicas is not None:
        console.print(f"all replicas start with the velocities of {start}")


def _thermostat_maker(
    bath: _Bath, horizon_fs: float
) -> Callable[[np.random.Generator], Thermostat] | None:
    """Return what makes the thermostat of a run from its random numbers."""
    from ase import units  # noqa: PLC0415

    from trajcast_ase.thermostats import CSVR, Langevin  # noqa: PLC0415

    _check_belongs(bath, "taut", bath.taut, ThermostatName.CSVR)
    _check_belongs(bath, "friction", bath.friction, ThermostatName.LANGEVIN)
    if bath.name is ThermostatName.NONE:
        return None
    temperature = _checked_temperature(bath.temperature, f"thermostat {bath.name}")
    maker: Callable[..., Thermostat]
    if bath.name is ThermostatName.LANGEVIN:
        friction = DEFAULT_FRICTION if bath.friction is None else bath.friction
        maker = partial(Langevin, temperature, friction / units.fs)
    else:
        taut = 10.0 * horizon_fs if bath.taut is None else bath.taut
        maker = partial(CSVR, temperature, taut * units.fs)
    maker()  # refuses wrong settings before any file is touched
    return maker


def _check_belongs(
    bath: _Bath, option: str, value: float | None, owner: ThermostatName
) -> None:
    """Raise for an option of another thermostat, which would do nothing."""
    if value is not None and bath.name is not owner:
        raise ValueError(
            f"--{option} {value:g} is of --thermostat {owner}, but the thermostat is "
            f"{bath.name}; leave it out or choose that thermostat"
        )


def _drawn_temperature(
    atoms: Atoms, temperature: float | None, *, wanted: bool
) -> float | None:
    """Return the temperature (K) of the velocities to draw; None keeps those given."""
    if _moves(atoms) and not wanted:
        return None
    needed_by = "--draw-velocities" if wanted else "a start without velocities"
    return _checked_temperature(temperature, needed_by)


def _moves(atoms: Atoms) -> bool:
    return bool(atoms.get_momenta().any())


def _checked_temperature(temperature: float | None, needed_by: str) -> float:
    if temperature is None:
        raise ValueError(f"{needed_by} needs --temperature, in K")
    if not 0 < temperature < math.inf:
        raise ValueError(f"--temperature {temperature:g} must be positive and finite")
    return temperature
