"""A small analytic trajectory: two atoms on a spring, rotating freely about nothing."""

import h5py
import numpy as np
from ase import Atoms
from ase.io import Trajectory, write

from trajcast_ase.units import FS

STRIDE_FS = 2.0
FREQUENCY = 0.35  # rad/fs
MASSES = np.array([1.008, 12.011])
NUMBERS = np.array([1, 6])


def spring_run(n_frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (Å) and velocities (Å/fs) of a diatomic's harmonic motion."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    amplitude, phase = rng.uniform(0.02, 0.08), rng.uniform(0, 2 * np.pi)
    angle = FREQUENCY * STRIDE_FS * np.arange(n_frames) + phase
    length = 1.1 + amplitude * np.cos(angle)
    speed = -amplitude * FREQUENCY * np.sin(angle)
    share = np.array([-MASSES[1], MASSES[0]]) / MASSES.sum()
    direction = share[None, :, None] * axis
    return length[:, None, None] * direction, speed[:, None, None] * direction


def write_hdf5(path, positions, velocities, stride_fs=STRIDE_FS, time=None):
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "trajcast-md"
        file.attrs["format_version"] = 1
        file["positions"] = positions
        file["velocities"] = velocities
        file["numbers"] = NUMBERS
        file["masses"] = MASSES
        file["cell"] = np.zeros((3, 3))
        file["pbc"] = np.zeros(3, dtype=bool)
        file["time"] = (
            np.arange(len(positions)) * stride_fs if time is None else np.asarray(time)
        )
    return path


def as_atoms(positions, velocities) -> list[Atoms]:
    images = []
    for x, v in zip(positions, velocities, strict=True):
        atoms = Atoms(NUMBERS, x, masses=MASSES)
        atoms.set_momenta(v / FS * MASSES[:, None])
        images.append(atoms)
    return images


def write_traj(path, positions, velocities, **description):
    with Trajectory(str(path), "w") as trajectory:
        if description:
            trajectory.set_description(description)
        for atoms in as_atoms(positions, velocities):
            trajectory.write(atoms)
    return path


def write_extxyz(path, positions, velocities):
    write(path, as_atoms(positions, velocities), format="extxyz")
    return path
