"""Runs whose frames are independent draws, so that every piece is as good as any."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from trajcast_ase.data import quartz
from trajcast_ase.trajectory import Frames

STRIDE_FS = 10.0
PIECE_FS = 1500.0


def drawn_frames(
    atoms: Atoms,
    seed: int,
    *,
    n_pieces: int = 10,
    kelvin: float = 300.0,
    spread: float = 0.02,
) -> Frames:
    """Return frames with normal deviates about `atoms` and thermal velocities."""
    rng = np.random.default_rng(seed)
    n_frames = n_pieces * round(PIECE_FS / STRIDE_FS)
    shape, masses = (n_frames, len(atoms), 3), atoms.get_masses()
    width = np.sqrt(units.kB * kelvin / masses)[:, None] * units.fs
    return Frames(
        positions=atoms.positions + spread * rng.normal(size=shape),
        velocities=width * rng.normal(size=shape),
        atomic_numbers=atoms.numbers,
        masses=masses,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        stride_fs=STRIDE_FS,
        source=f"seed {seed}",
    )


def write(frames: Frames, path: Path, kelvin: float = 300.0) -> Path:
    """Write frames as the reference runs are written."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "trajcast-md", "ensemble": "nvt"})
        file.attrs["temperature_K"] = kelvin
        file["numbers"], file["masses"] = frames.atomic_numbers, frames.masses
        file["cell"], file["pbc"] = frames.cell, frames.pbc
        file["positions"], file["velocities"] = frames.positions, frames.velocities
        file["time"] = np.arange(frames.n_frames) * frames.stride_fs
    return path


@pytest.fixture
def methane() -> Atoms:
    """Return an isolated molecule."""
    return molecule("CH4")


@pytest.fixture(scope="session")
def crystal() -> Frames:
    """Return frames of a periodic crystal."""
    return drawn_frames(quartz(), 1, n_pieces=4)
