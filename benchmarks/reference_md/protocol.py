"""From a start geometry to a recorded trajectory: NVE shells and NVT runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from engine import Engine
from progress import Progress
from storage import is_complete, write_hdf5
from system import System

from trajcast_ase.distill.journal import Attributes, Frame, Journal

Ensemble = Literal["nve", "nvt", "cooling"]
Start = Literal["mean", "canonical"]
Advance = Callable[[], Frame]

FRAMES_PER_FLUSH = 100
ENERGY_WINDOW = 0.05
"""Distance from the mean energy at which NVE may start, in standard deviations."""
PATIENCE = 1000.0
"""Longest search for that energy, ps."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to record.

    Parameters
    ----------
    ensemble : "nve", "nvt" or "cooling"
    seed : int
    length : float
        ps
    stride : float
        Between frames, fs; a multiple of the system's time step.
    start : "mean" or "canonical"
        Total energy of an NVE run: within 0.05 standard deviations of the mean, or
        that of a thermostatted snapshot as it comes.
    damping : float
        Of the thermostats, fs.
    cooling_rate : float
        Of the thermostat's temperature in a cooling run, K/ps.
    """

    ensemble: Ensemble
    seed: int
    length: float
    stride: float
    start: Start
    damping: float
    cooling_rate: float = 0.0

    @property
    def n_frames(self) -> int:
        """Number of frames, the one at time zero included."""
        return int(self.length * 1000.0 / self.stride + 1e-9) + 1

    def n_steps(self, system: System) -> int:
        """Return the number of time steps between frames."""
        n_steps = round(self.stride / system.timestep)
        if n_steps < 1 or abs(n_steps * system.timestep - self.stride) > 1e-9:
            message = (
                f"a stride of {self.stride} fs is no multiple of the time step of "
                f"{system.name}, {system.timestep} fs"
            )
            raise ValueError(message)
        return n_steps


def record(system: System, settings: Settings, folder: Path) -> Path:
    """Record a trajectory, or what is missing of it, and return its file.

    Parameters
    ----------
    system : System
    settings : Settings
    folder : Path
        Receives ``<ensemble>-<seed>.h5``.

    Raises
    ------
    JournalError
        If the folder has this file with other settings.
    """
    path = folder / f"{settings.ensemble}-{settings.seed}.h5"
    part = path.with_name(path.name + ".part")
    n_steps = settings.n_steps(system)
    with Engine(system) as engine, Progress(path.name) as progress:
        attributes = root_attributes(engine, settings)
        if not is_complete(path, settings.n_frames, attributes):
            folder.mkdir(parents=True, exist_ok=True)
            with Journal(part, system.n_atoms, attributes) as journal:
                begin(engine, settings, journal, progress)
                extend(engine, n_steps, settings.n_frames, journal, progress)
                write_hdf5(path, journal, system, attributes)
    part.unlink(missing_ok=True)
    return path


def root_attributes(engine: Engine, settings: Settings) -> Attributes:
    """Return what identifies a run, except for its length."""
    system = engine.system
    attributes: Attributes = {
        "system": system.name,
        "ensemble": settings.ensemble,
        "timestep_fs": system.timestep,
        "stride_fs": settings.stride,
        "temperature_K": system.temperature,
        "seed": settings.seed,
        "source": f"LAMMPS {engine.version}, {system.force_field}",
        "start": settings.start,
        "damping_fs": settings.damping,
    }
    if settings.ensemble == "cooling":
        attributes["cooling_rate_K_per_ps"] = settings.cooling_rate
    return attributes


def begin(
    engine: Engine, settings: Settings, journal: Journal, progress: Progress
) -> None:
    """Leave the engine ready to continue the last frame of the journal."""
    if journal.n_frames:
        last = journal.last()
        engine.set_state(last.positions, last.velocities)
    elif settings.ensemble == "nve" and settings.start == "mean":
        start_at_mean_energy(engine, settings, progress)
    else:
        start_thermalized(engine, settings, progress)
    if settings.ensemble == "nve":
        engine.commands("fix integrate all nve")
    else:
        elapsed = max(journal.n_frames - 1, 0) * settings.stride
        set_target(engine, settings.cooling_rate, elapsed)
        use_csvr(engine, settings.damping, settings.seed, 2, journal.n_frames)
    engine.start()
    if not journal.n_frames:
        journal.append(engine.frame())


def extend(
    engine: Engine, n_steps: int, n_frames: int, journal: Journal, progress: Progress
) -> None:
    """Record until the journal has `n_frames` frames, `n_steps` steps apart."""
    progress.stage("record", n_frames, journal.n_frames)
    while journal.n_frames < n_frames:
        for _ in range(min(FRAMES_PER_FLUSH, n_frames - journal.n_frames)):
            journal.append(engine.advance(n_steps))
        journal.flush()
        progress.update(journal.n_frames)


def start_thermalized(engine: Engine, settings: Settings, progress: Progress) -> None:
    """Stop at a snapshot of the canonical ensemble, made with CSVR."""
    heat(engine, settings.seed)
    set_target(engine)
    use_csvr(engine, settings.damping, settings.seed, 1)
    engine.start()
    sample_energy(engine, engine.system.thermalize, "thermalize", progress)
    drop_thermostat(engine)


def start_at_mean_energy(
    engine: Engine, settings: Settings, progress: Progress
) -> None:
    """Stop where the total energy passes its mean, under a thermostat."""
    system = engine.system
    heat(engine, settings.seed)
    if system.thermostat == "csvr":
        set_target(engine)
        use_csvr(engine, settings.damping, settings.seed, 1)
    else:
        use_nose_hoover(engine, settings.damping)
    engine.start()
    sample_energy(engine, system.thermalize, "thermalize", progress)
    energies = sample_energy(engine, system.sample, "mean energy", progress)
    find_energy(engine, energies.mean(), ENERGY_WINDOW * energies.std())
    drop_thermostat(engine)


def heat(engine: Engine, seed: int) -> None:
    """Take the start positions, minimize, then draw velocities."""
    system = engine.system
    if system.draw:
        positions = system.draw(np.random.default_rng(seed))
        engine.set_state(positions, np.zeros_like(positions))
    temperature = system.start_temperature
    engine.commands(
        "minimize 0 1e-6 1000 10000",
        f"velocity all create {temperature} {lammps_seed(seed, 0)} dist gaussian",
        *zero_momenta(system),
    )


def sample_energy(
    engine: Engine, length: float, stage: str, progress: Progress
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Run for `length` ps and return the total energies, one per stride."""
    system = engine.system
    n_steps = round(system.stride / system.timestep)
    n_frames = round(length * 1000.0 / system.stride)
    progress.stage(stage, n_frames)
    energies = np.empty(n_frames)
    for index in range(n_frames):
        energies[index] = engine.advance(n_steps).total_energy
        progress.update(index + 1)
    return energies


def find_energy(engine: Engine, energy: float, window: float) -> None:
    """Run until the total energy is within `window` of `energy`, both in eV."""
    system = engine.system
    n_steps = round(system.stride / system.timestep)
    for _ in range(round(PATIENCE * 1000.0 / system.stride)):
        if abs(engine.advance(n_steps).total_energy - energy) < window:
            return
    message = f"the total energy did not come near its mean within {PATIENCE} ps"
    raise RuntimeError(message)


def use_nose_hoover(engine: Engine, damping: float) -> None:
    """Integrate with a Nose-Hoover chain; `damping` in fs."""
    system = engine.system
    temperature, time = system.temperature, damping / system.units.time
    engine.commands(
        f"fix integrate all nvt temp {temperature} {temperature} {time}",
        "fix_modify integrate temp thermo_temp",
        keep_momenta_zero(system),
    )


def set_target(engine: Engine, rate: float = 0.0, elapsed: float = 0.0) -> None:
    """Set the temperature of the thermostat, as a function of the time from now.

    Parameters
    ----------
    engine : Engine
    rate : float
        K/ps
    elapsed : float
        Time since the temperature was that of the system, fs.
    """
    system = engine.system
    start = system.temperature - rate * elapsed * 1e-3
    per_step = rate * system.timestep * 1e-3
    first = round(engine.thermo("step"))
    formula = f"{start!r}-{per_step!r}*(step-{first})"
    engine.commands(f"variable target equal {formula}")


def use_csvr(engine: Engine, damping: float, *seeds: int) -> None:
    """Integrate with stochastic velocity rescaling; `damping` in fs."""
    system = engine.system
    time = damping / system.units.time
    seed = lammps_seed(*seeds)
    engine.commands(
        "fix integrate all nve",
        f"fix thermostat all temp/csvr v_target {system.temperature} {time} {seed}",
        "fix_modify thermostat temp thermo_temp",
        keep_momenta_zero(system),
    )


def drop_thermostat(engine: Engine) -> None:
    """Remove all fixes and zero the momenta."""
    for fix in ("integrate", "thermostat", "momenta"):
        if engine.has_fix(fix):
            engine.commands(f"unfix {fix}")
    engine.commands(*zero_momenta(engine.system))


def zero_momenta(system: System) -> tuple[str, ...]:
    """Return the commands that zero the conserved momenta."""
    linear = "velocity all zero linear"
    return (linear, "velocity all zero angular") if system.isolated else (linear,)


def keep_momenta_zero(system: System) -> str:
    """Return the fix that stops rounding errors of the momenta from growing.

    A rescaling thermostat multiplies them by random factors. The logarithm of the
    product is a random walk, which needs only a few nanoseconds from 1e-16 to one.
    """
    angular = "angular" if system.isolated else ""
    return f"fix momenta all momentum 1000 linear 1 1 1 {angular}"


def lammps_seed(*seeds: int) -> int:
    """Return a seed that LAMMPS accepts, one per sequence of numbers."""
    (state,) = np.random.SeedSequence(seeds).generate_state(1)
    return int(state) % 899_999_999 + 1
