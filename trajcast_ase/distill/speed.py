"""Speeds of a model and of a calculator, each on one core."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def model_speed(path: Path, frames: Frames, index: int = 0) -> float:
    """Return the speed of a single run of a model from a frame, ns/day.

    Zero where the model fails within the measurement.
    """
    model = load_model(path)
    atoms = atoms_of(frames, index % frames.n_frames)
    with one_thread(), TrajCast(atoms, model) as dynamics:
        try:
            dynamics.run(2)
            began = time.perf_counter()
            while time.perf_counter() - began < MEASURED_S:
                dynamics.run(2)
            seconds = time.perf_counter() - began
        except (SenselessForecastError, ValueError):
            return 0.0
        return ns_per_day(seconds / (dynamics.nsteps - 2), model.horizon_fs)


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
