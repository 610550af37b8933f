"""Speeds of a model and of a calculator, each on one core.

By the time of the processor, which does not depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.md.verlet import VelocityVerlet

from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.fallback import SenselessForecastError
from trajcast_ase.models.model_file import load_model
from trajcast_ase.trajectory import Frames
from trajcast_ase.units import FS, ns_per_day

MEASURED_S = 1.0
"""Time that is measured."""
SHORT_RUN = 5
"""Strides of one run."""
NO_STRIDE_S = 1.0
"""Taken for the time of a stride where no run stays finite: few are planned."""
ELSEWHERE = 0.1
"""Share of a core below which a calculator computes in another process."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one core for the block's duration."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def atoms_of(frames: Frames, index: int) -> Atoms:
    """Return a frame with its velocities."""
    atoms = frames.atoms(index)
    momenta = frames.velocities[index] / FS * frames.masses[:, None]
    atoms.set_momenta(momenta)
    return atoms


@dataclass(frozen=True, slots=True)
class StrideTime:
    """What a stride of a single run takes, s.

    Attributes
    ----------
    core : float
        Of one core: the speed of the model.
    wall : float
        By the clock, with whatever else the machine does: what a run will take.
    """

    core: float
    wall: float


def stride_time(path: Path, frames: Frames, temperature_K: float) -> StrideTime | None:
    """Return what a stride of a single run of a model takes.

    Measured on short runs from the frames, under the thermostat that the model
    recommends. Kicks are let pass: a model that has learnt little is as fast. None
    where no run stays finite.
    """
    model = load_model(path)
    n_strides, core, wall, started = 0, 0.0, 0.0, time.perf_counter()
    with one_thread():
        for start in range(frames.n_frames):
            bath = model.recommended_thermostat(
                temperature_K, rng=np.random.default_rng(start)
            )
            atoms = atoms_of(frames, start)
            with TrajCast(atoms, model, thermostat=bath, guards=()) as dynamics:
                try:
                    dynamics.run(2)
                    began, clock = time.process_time(), time.perf_counter()
                    dynamics.run(SHORT_RUN)
                except (SenselessForecastError, ValueError):
                    continue
                core += time.process_time() - began
                wall += time.perf_counter() - clock
                n_strides += SHORT_RUN
            if time.perf_counter() - started > MEASURED_S:
                break
    if n_strides == 0:
        return None
    return StrideTime(core / n_strides, wall / n_strides)


def model_speed(path: Path, frames: Frames, temperature_K: float) -> float:
    """Return the speed of a single run of a model, ns/day; zero where none is finite.

    See :func:`stride_time`.
    """
    found = stride_time(path, frames, temperature_K)
    if found is None:
        return 0.0
    return ns_per_day(found.core, load_model(path).horizon_fs)


def calculator_speed(calculator: Any, atoms: Atoms, timestep_fs: float) -> float:
    """Return the speed of MD with a calculator, ns/day."""
    atoms = atoms.copy()
    atoms.calc = calculator
    n_steps = 0
    with one_thread(), VelocityVerlet(atoms, timestep_fs * FS) as verlet:
        verlet.run(1)
        began, began_cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - began < MEASURED_S:
            verlet.run(2)
            n_steps += 2
        wall, seconds = time.perf_counter() - began, time.process_time() - began_cpu
    if seconds < ELSEWHERE * wall:
        seconds = wall
    return ns_per_day(seconds / n_steps, timestep_fs)
