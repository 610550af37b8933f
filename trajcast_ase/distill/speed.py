"""Speeds of a model and of a calculator, each on one core."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
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
SHORT_RUN = 20
"""Strides of one run."""


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


def model_speed(path: Path, frames: Frames, temperature_K: float) -> float:
    """Return the speed of a single run of a model, ns/day.

    Measured on short runs from the frames, under the thermostat that the model
    recommends. Zero where not one of them holds for some strides.
    """
    model = load_model(path)
    n_strides, seconds, started = 0, 0.0, time.perf_counter()
    with one_thread():
        for start in range(frames.n_frames):
            bath = model.recommended_thermostat(
                temperature_K, rng=np.random.default_rng(start)
            )
            with TrajCast(atoms_of(frames, start), model, thermostat=bath) as dynamics:
                try:
                    dynamics.run(2)
                    began = time.perf_counter()
                    dynamics.run(SHORT_RUN)
                except (SenselessForecastError, ValueError):
                    continue
                seconds += time.perf_counter() - began
                n_strides += SHORT_RUN
            if time.perf_counter() - started > MEASURED_S:
                break
    if n_strides == 0:
        return 0.0
    return ns_per_day(seconds / n_strides, model.horizon_fs)


def calculator_speed(calculator: Any, atoms: Atoms, timestep_fs: float) -> float:
    """Return the speed of MD with a calculator, ns/day."""
    atoms = atoms.copy()
    atoms.calc = calculator
    n_steps = 0
    with one_thread(), VelocityVerlet(atoms, timestep_fs * FS) as verlet:
        verlet.run(1)
        began = time.perf_counter()
        while time.perf_counter() - began < MEASURED_S:
            verlet.run(2)
            n_steps += 2
        seconds = time.perf_counter() - began
    return ns_per_day(seconds / n_steps, timestep_fs)
