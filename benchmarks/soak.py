"""What a long run does to the machine and to itself: memory, handles, momenta, heat.

    python benchmarks/soak.py --minutes 30 --out soak.json
    python benchmarks/soak.py --minutes 10 --replicas 16 --out soak-16.json

Runs paracetamol at 300 K with a trajectory, a log and checkpoints, and looks at the
process between stretches of strides. What should be flat is fitted by a straight line;
its slope per million strides comes with a standard error. A day is ``--minutes 1440``.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from ase import Atoms

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


def start(model: Forecaster, number: int) -> Atoms:
    """Return a molecule at 300 K that neither drifts nor turns."""
    atoms, rng = paracetamol(), np.random.default_rng(number)
    draw_momenta(atoms, TEMPERATURE_K, rng, model.conservation)
    return atoms


def make(model: Forecaster, folder: Path, replicas: int, seed: int) -> Any:
    """Return a run, or replicas, with all their files."""
    if replicas:
        systems = [start(model, seed + k) for k in range(replicas)]
        run: Any = Replicas(
            systems,
            model,
            thermostat=lambda rng: model.recommended_thermostat(TEMPERATURE_K, rng),
            seed=seed,
            trajectory=str(folder / "run-{replica:03d}.traj"),
            logfile=str(folder / "run-{replica:03d}.log"),
            loginterval=FRAME_EVERY,
        )
    else:
        rng = np.random.default_rng(seed)
        run = TrajCast(
            start(model, seed),
            model,
            thermostat=model.recommended_thermostat(TEMPERATURE_K, rng),
            trajectory=folder / "run.traj",
            logfile=folder / "run.log",
            loginterval=FRAME_EVERY,
        )
    run.attach(run.checkpoint, CHECKPOINT_EVERY, folder / "run.checkpoint")
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


def soak(run: Any, seconds: float, interval: int) -> list[Sample]:
    """Run for some wall time; return a sample after each `interval` strides."""
    drivers: Sequence[TrajCast] = [run] if isinstance(run, TrajCast) else run
    centers = [one.atoms.get_center_of_mass() for one in drivers]
    thermometer = Thermometer()
    for driver in drivers:
        driver.attach(thermometer.note, LOOK_EVERY, driver)
    samples: list[Sample] = []
    began = time.perf_counter()
    passed = 0.0
    while passed < seconds or len(samples) < 2 * N_BLOCKS:
        run.run(interval)
        passed = time.perf_counter() - began
        samples.append(sample(drivers, centers, passed, thermometer.read()))
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


def main(
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    minutes: Annotated[float, typer.Option(help="Of wall time.")] = 30.0,
    replicas: Annotated[int, typer.Option(help="0: a single run.")] = 0,
    interval: Annotated[int, typer.Option(help="Strides between samples.")] = 1000,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Run, and write what was measured."""
    torch.set_num_threads(1)
    model = load_model("paracetamol-7fs")
    with tempfile.TemporaryDirectory() as folder:
        run = make(model, Path(folder), replicas, seed)
        samples = soak(run, 60.0 * minutes, interval)
        run.close()
    last = samples[-1]
    found = {
        "model": "paracetamol-7fs",
        "torch": torch.__version__,
        "systems": max(replicas, 1),
        "strides": last.strides,
        "wall_s": last.seconds,
        "summary": summary(samples),
        "samples": [asdict(one) for one in samples[:: max(1, len(samples) // 100)]],
    }
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["summary"], indent=1))


if __name__ == "__main__":
    typer.run(main)
