"""``trajcast run``: a rollout from a structure file."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trajcast_ase.cli.options import Precision

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from trajcast_ase.network.forecaster import Forecaster
    from trajcast_ase.noise import ForecastNoise
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
    friction: float


@dataclass(frozen=True, slots=True)
class _Files:
    """What a run writes."""

    trajectory: Path
    log: Path


@dataclass(frozen=True, slots=True)
class _Job:
    """A run with everything checked."""

    atoms: Atoms
    network: Forecaster
    bath: Thermostat | None
    noise: ForecastNoise | None
    steps: int
    interval: int
    files: _Files


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
        float, typer.Option(help="Of langevin, 1/fs.")
    ] = DEFAULT_FRICTION,
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
        typer.Option(help="Files are OUT.traj and OUT.log. Default: START-md."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[
        Precision | None, typer.Option(help="Of the network. Default: as in its file.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.")
    ] = False,
) -> None:
    """Forecast the dynamics of a structure and write trajectory and log."""
    import numpy as np  # noqa: PLC0415  --help does without these
    import torch  # noqa: PLC0415

    from trajcast_ase.model_file import load_model  # noqa: PLC0415
    from trajcast_ase.noise import ForecastNoise  # noqa: PLC0415

    console = Console(highlight=False)
    files = _output_files(start, out, overwrite=overwrite)
    atoms = read_structure(start)
    network = load_model(
        model, device=device, dtype=None if dtype is None else getattr(torch, dtype)
    )
    if seed is None:
        seed = int(np.random.default_rng().integers(2**32))
    rng = np.random.default_rng(seed)
    bath = _make_thermostat(
        _Bath(thermostat, temperature, taut, friction), network.horizon_fs, rng
    )
    kicks = ForecastNoise.of_model(model, rng) if noise else None
    console.print(
        f"{network.name}: {len(atoms)} atoms, {steps} strides of "
        f"{network.horizon_fs:g} fs, thermostat {thermostat}, "
        f"{'calibrated noise, ' if noise else ''}seed {seed}"
    )
    if not np.any(atoms.get_momenta()):
        _draw_velocities(atoms, network, temperature, rng)
        console.print(f"velocities drawn at {temperature:g} K: {start} has none")
    _roll_out(_Job(atoms, network, bath, kicks, steps, interval, files), console)


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
    return atoms


def _output_files(start: Path, out: Path | None, *, overwrite: bool) -> _Files:
    """Return where to write, with the folder made.

    Raises
    ------
    FileExistsError
        A file is there and may not be replaced.
    """
    prefix = Path(f"{start.stem}-md") if out is None else out
    files = _Files(
        prefix.with_name(f"{prefix.name}.traj"), prefix.with_name(f"{prefix.name}.log")
    )
    for file in (files.trajectory, files.log):
        if file.exists() and (not overwrite or file.samefile(start)):
            raise FileExistsError(
                f"{file} exists; choose another --out or pass --overwrite (never for "
                "the start itself)"
            )
    prefix.parent.mkdir(parents=True, exist_ok=True)
    return files


def _make_thermostat(
    bath: _Bath, horizon_fs: float, rng: np.random.Generator
) -> Thermostat | None:
    from ase import units  # noqa: PLC0415

    from trajcast_ase.thermostats import CSVR, Langevin  # noqa: PLC0415

    if bath.name is ThermostatName.NONE:
        return None
    temperature = _checked_temperature(bath.temperature, f"thermostat {bath.name}")
    if bath.name is ThermostatName.LANGEVIN:
        return Langevin(temperature, bath.friction / units.fs, rng)
    taut = 10.0 * horizon_fs if bath.taut is None else bath.taut
    return CSVR(temperature, taut * units.fs, rng)


def _draw_velocities(
    atoms: Atoms,
    network: Forecaster,
    temperature: float | None,
    rng: np.random.Generator,
) -> None:
    from trajcast_ase.momenta import draw_momenta  # noqa: PLC0415

    kelvin = _checked_temperature(temperature, "a start without velocities")
    draw_momenta(atoms, kelvin, rng, network.conservation)


def _checked_temperature(temperature: float | None, needed_by: str) -> float:
    if temperature is None:
        raise ValueError(f"{needed_by} needs --temperature, in K")
    if not 0 < temperature < math.inf:
        raise ValueError(f"--temperature {temperature:g} must be positive and finite")
    return temperature


def _roll_out(job: _Job, console: Console) -> None:
    """Run, write the files, and print speed and mean temperature."""
    from trajcast_ase.driver import TrajCast  # noqa: PLC0415
    from trajcast_ase.progress import RolloutProgress  # noqa: PLC0415
    from trajcast_ase.units import ns_per_day  # noqa: PLC0415

    job.files.log.unlink(missing_ok=True)  # ASE appends to logs
    horizon_fs = job.network.horizon_fs
    temperatures: list[float] = []
    with (
        TrajCast(
            job.atoms,
            job.network,
            thermostat=job.bath,
            noise=job.noise,
            trajectory=job.files.trajectory,
            logfile=job.files.log,
            loginterval=job.interval,
        ) as dynamics,
        RolloutProgress(job.steps, horizon_fs, console=console) as progress,
    ):

        def report() -> None:
            temperatures.append(dynamics.get_temperature())
            progress.update(dynamics.nsteps, temperatures[-1])

        dynamics.attach(report, interval=job.interval)
        start = time.perf_counter()
        try:
            dynamics.run(job.steps)
        except KeyboardInterrupt:
            console.print(f"interrupted after {dynamics.nsteps} strides")
            raise
        seconds = time.perf_counter() - start
        n_dof = dynamics.n_dof
    speed = ns_per_day(seconds / job.steps, horizon_fs)
    mean = sum(temperatures) / len(temperatures)
    console.print(
        f"{job.steps * horizon_fs * 1e-3:.2f} ps at {speed:.2f} ns/day; mean "
        f"temperature {mean:.1f} K over {n_dof} degrees of freedom"
    )
    console.print(f"wrote {job.files.trajectory}, {job.files.log}", soft_wrap=True)
