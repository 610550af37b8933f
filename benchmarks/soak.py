"""What a long run does to the machine and to itself: memory, handles, momenta, heat.

    python benchmarks/soak.py --minutes 30 --out soak.json
    python benchmarks/soak.py --minutes 10 --replicas 16 --out soak-16.json
    python benchmarks/soak.py --minutes 150 --folder soak --out soak.json

Runs a molecule at 300 K with a trajectory, a log and checkpoints, and looks at the
process between stretches of strides. What should be flat is fitted by a straight line;
its slope per million strides comes with a standard error. A day is ``--minutes 1440``,
or several calls with one `--folder`, each of which goes on from the last checkpoint and
adds a session to the file of `--out`.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from ase import Atoms
from ase.io import read

from trajcast_ase import Replicas, TrajCast, load_model
from trajcast_ase.data import paracetamol
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster

TEMPERATURE_K = 300.0
FRAME_EVERY, CHECKPOINT_EVERY, LOOK_EVERY = 100, 1000, 10
"""Strides between frames and rows of the log, checkpoints, and temperatures."""
WARM_SHARE = 0.2
"""Of the samples: the caches of torch and of the allocator fill first."""
N_BLOCKS = 10
"""Means to which the line is fitted: neighbouring samples are not independent."""
MILLION = 1e6
KEEP_EVERY_S = 60.0
MOST_SAMPLES = 100
"""Of a session, in the file."""
FLAT = ("memory_mib", "objects", "momentum", "angular_momentum", "temperature_K")


@dataclass(frozen=True, slots=True)
class Sample:
    """State of the process and of the run after some strides.

    Attributes
    ----------
    strides : int
        Of each system.
    seconds : float
        Wall time.
    memory_mib : float
        Resident.
    objects : int
        That Python's garbage collector tracks.
    handles, threads : int
    momentum, angular_momentum : float
        Largest of all systems, relative to the sum of the atoms' contributions.
    center_A : float
        Largest distance of a centre of mass from its start, Å.
    temperature_K : float
        Mean of all systems since the sample before.
    """

    strides: int
    seconds: float
    memory_mib: float
    objects: int
    handles: int
    threads: int
    momentum: float
    angular_momentum: float
    center_A: float
    temperature_K: float


class Thermometer:
    """Mean of temperatures since the last reading."""

    def __init__(self) -> None:
        self._sum, self._n = 0.0, 0

    def note(self, dynamics: TrajCast) -> None:
        """Take the temperature."""
        self._sum += dynamics.get_temperature()
        self._n += 1

    def read(self) -> float:
        """Return the mean, and begin anew."""
        mean = self._sum / self._n
        self._sum, self._n = 0.0, 0
        return mean


@dataclass(frozen=True, slots=True)
class Task:
    """What is run: a model, a structure, and how many replicas (0: a single run)."""

    model: Forecaster
    structure: Atoms
    replicas: int
    frame_every: int

    def start(self, number: int) -> Atoms:
        """Return the structure at 300 K, which neither drifts nor turns."""
        atoms, rng = self.structure.copy(), np.random.default_rng(number)
        draw_momenta(atoms, TEMPERATURE_K, rng, self.model.conservation)
        return atoms


def begun(task: Task, folder: Path, seed: int) -> Any:
    """Return a run, or replicas, with all files: from a checkpoint where one lies."""
    saved = folder / "run.checkpoint"
    single, model = not task.replicas, task.model
    name = "run" if single else "run-{replica:03d}"
    settings: dict[str, Any] = {
        "trajectory": str(folder / f"{name}.traj"),
        "logfile": str(folder / f"{name}.log"),
        "loginterval": task.frame_every,
    }
    if single:
        rng = np.random.default_rng(seed)
        settings["thermostat"] = model.recommended_thermostat(TEMPERATURE_K, rng)
    else:
        settings["thermostat"] = lambda rng: model.recommended_thermostat(
            TEMPERATURE_K, rng
        )
        settings["seed"] = seed
    kind: Any = TrajCast if single else Replicas
    if saved.exists():
        run = kind.restart(saved, model, **settings)
    elif single:
        run = kind(task.start(seed), model, **settings)
    else:
        systems = [task.start(seed + k) for k in range(task.replicas)]
        run = kind(systems, model, **settings)
    run.attach(run.checkpoint, CHECKPOINT_EVERY, saved)
    return run


def momenta(atoms: Atoms) -> tuple[float, float]:
    """Return momentum and angular momentum, relative to what the atoms carry."""
    p = atoms.get_momenta()
    arms = atoms.positions - atoms.get_center_of_mass()
    spins = np.cross(arms, p)
    return tuple(
        float(np.linalg.norm(each.sum(axis=0)) / np.linalg.norm(each, axis=1).sum())
        for each in (p, spins)
    )


def entries(folder: str) -> int:
    """Return how many files a folder of the process table has."""
    return sum(1 for _ in Path("/proc/self", folder).iterdir())


def resident_mib() -> float:
    """Return the memory that the process holds."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith("VmRSS"))
    return float(line.split()[1]) / 1024.0


def sample(
    drivers: Sequence[TrajCast],
    centers: Sequence[np.ndarray],
    seconds: float,
    temperature: float,
) -> Sample:
    """Return the state of the process and of the run."""
    carried = np.array([momenta(one.atoms) for one in drivers]).max(axis=0)
    moved = [
        float(np.linalg.norm(one.atoms.get_center_of_mass() - center))
        for one, center in zip(drivers, centers, strict=True)
    ]
    return Sample(
        strides=drivers[0].nsteps,
        seconds=seconds,
        memory_mib=resident_mib(),
        objects=len(gc.get_objects()),
        handles=entries("fd") - 1,  # the listing itself is one
        threads=entries("task"),
        momentum=float(carried[0]),
        angular_momentum=float(carried[1]),
        center_A=max(moved),
        temperature_K=temperature,
    )


def soak(
    run: Any, seconds: float, interval: int, keep: Callable[[list[Sample]], None]
) -> list[Sample]:
    """Run for some wall time; return a sample after each `interval` strides.

    They are kept once a minute, so that a kill loses no more.
    """
    drivers: Sequence[TrajCast] = [run] if isinstance(run, TrajCast) else run
    centers = [one.atoms.get_center_of_mass() for one in drivers]
    thermometer = Thermometer()
    for driver in drivers:
        driver.attach(thermometer.note, LOOK_EVERY, driver)
    samples: list[Sample] = []
    began = kept = time.perf_counter()
    passed = 0.0
    while passed < seconds or len(samples) < 2 * N_BLOCKS:
        run.run(interval)
        now = time.perf_counter()
        passed = now - began
        samples.append(sample(drivers, centers, passed, thermometer.read()))
        if now - kept > KEEP_EVERY_S and len(samples) >= 2 * N_BLOCKS:
            keep(samples)
            kept = now
    keep(samples)
    return samples


def slope(strides: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the slope per million strides and its standard error.

    Of a straight line through means of blocks, whose scatter gives the error.
    """
    x, y = (
        np.array([block.mean() for block in np.array_split(each, N_BLOCKS)])
        for each in (strides / MILLION, values)
    )
    (found, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(found), float(np.sqrt(covariance[0, 0]))


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return means, slopes and ranges of what was measured, without the warm-up."""
    kept = samples[int(WARM_SHARE * len(samples)) :]
    strides = np.array([one.strides for one in kept], dtype=float)
    found: dict[str, Any] = {}
    for name in FLAT:
        values = np.array([getattr(one, name) for one in kept], dtype=float)
        per_million, error = slope(strides, values)
        means = [block.mean() for block in np.array_split(values, N_BLOCKS)]
        found[name] = {
            "mean": float(values.mean()),
            "mean_error": float(np.std(means, ddof=1) / np.sqrt(N_BLOCKS)),
            "largest": float(values.max()),
            "slope_per_million_strides": per_million,
            "slope_error": error,
        }
    for name in ("handles", "threads"):
        found[name] = sorted({getattr(one, name) for one in kept})
    found["center_A"] = max(one.center_A for one in kept)
    return found


def session(samples: Sequence[Sample], interval: int) -> dict[str, Any]:
    """Return what is written of one process."""
    first, last = samples[0], samples[-1]
    return {
        "strides": last.strides - first.strides + interval,
        "wall_s": last.seconds,
        "torch": torch.__version__,
        "summary": summary(samples),
        "samples": [
            asdict(one) for one in samples[:: max(1, len(samples) // MOST_SAMPLES)]
        ],
    }


def overall(sessions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums and means of all sessions, weighed by their strides."""
    strides = np.array([one["strides"] for one in sessions], dtype=float)
    share = strides / strides.sum()
    heat = [one["summary"]["temperature_K"] for one in sessions]
    means = np.array([one["mean"] for one in heat])
    errors = np.array([one["mean_error"] for one in heat])
    return {
        "strides": int(strides.sum()),
        "wall_s": sum(one["wall_s"] for one in sessions),
        "temperature_K": float(share @ means),
        "temperature_error_K": float(np.sqrt(np.sum((share * errors) ** 2))),
    }


def main(  # noqa: PLR0917  options of the command line
    out: Annotated[Path, typer.Option(help="JSON to write; sessions are added.")],
    minutes: Annotated[float, typer.Option(help="Of wall time.")] = 30.0,
    replicas: Annotated[int, typer.Option(help="0: a single run.")] = 0,
    interval: Annotated[
        int, typer.Option(min=LOOK_EVERY, help="Strides between samples.")
    ] = 1000,
    seed: Annotated[int, typer.Option()] = 1,
    model: Annotated[str, typer.Option(help="Name or file.")] = "paracetamol-7fs",
    structure: Annotated[
        Path | None, typer.Option(help="Start of the model's kind, for a file.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps the run, to go on from; default: none.")
    ] = None,
    frame_every: Annotated[int, typer.Option(help="Strides.")] = FRAME_EVERY,
) -> None:
    """Run, and write what was measured."""
    torch.set_num_threads(1)
    atoms = paracetamol() if structure is None else read(structure)
    if not isinstance(atoms, Atoms):
        raise typer.BadParameter(f"{structure} holds more than one frame")
    task = Task(load_model(model), atoms, replicas, frame_every)
    before: list[dict[str, Any]] = []
    if folder is not None and (folder / "run.checkpoint").exists():
        before = json.loads(out.read_text(encoding="utf-8"))["sessions"]

    def keep(samples: list[Sample]) -> None:
        sessions = [*before, session(samples, interval)]
        found = {
            "model": Path(model).stem,
            "systems": max(replicas, 1),
            "all": overall(sessions),
            "sessions": sessions,
        }
        part = out.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        part.replace(out)

    place = tempfile.TemporaryDirectory() if folder is None else nullcontext(folder)
    with place as where:
        Path(where).mkdir(parents=True, exist_ok=True)
        run = begun(task, Path(where), seed)
        samples = soak(run, 60.0 * minutes, interval, keep)
        run.checkpoint(Path(where) / "run.checkpoint")
        run.close()
    print(json.dumps(summary(samples), indent=1))


if __name__ == "__main__":
    typer.run(main)
