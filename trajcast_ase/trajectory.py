"""Any MD trajectory with velocities to frames at a known, even stride."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread
from jaxtyping import Bool, Float, Int

from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.units import FS

TRAJECTORY_FORMAT = "trajcast-md"
# Strides are written in decimal fs and summed up by the MD code in float64.
STRIDE_TOLERANCE_FS = 1e-6


class TrajectoryError(ValueError):
    """A trajectory cannot serve as training data; the text says why."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one MD run with constant composition and cell.

    Attributes
    ----------
    positions : (n_frames, n_atoms, 3) float64, Å
        As stored; wrapped or not.
    velocities : (n_frames, n_atoms, 3) float64, Å/fs
    atomic_numbers : (n_atoms,) int64
    masses : (n_atoms,) float64, amu
    cell : (3, 3) float64, Å
    pbc : (3,) bool
    stride_fs : float, fs
        Time between two frames.
    source : str
        Where the frames were read from.
    """

    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    masses: Float[np.ndarray, " atoms"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, 3]
    stride_fs: float
    source: str

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.positions)

    def atoms(self, index: int) -> Atoms:
        """Return a frame, without its velocities."""
        return Atoms(
            self.atomic_numbers,
            positions=self.positions[index],
            masses=self.masses,
            cell=self.cell,
            pbc=self.pbc,
        )


def read_frames(path: str | Path, stride_fs: float | None = None) -> Frames:
    """Return the frames of a trajectory file.

    Parameters
    ----------
    path : path
        HDF5 of the reference-MD scripts, or anything that :func:`ase.io.iread` reads.
    stride_fs : float, fs, optional
        Time between frames, for files that do not tell it. Files that do are checked
        against it.

    Raises
    ------
    TrajectoryError
        No velocities, an unknown or uneven stride, a changing composition or cell, or
        values that are not finite.
    FileNotFoundError
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    is_hdf5 = path.suffix in (".h5", ".hdf5")
    frames = _read_hdf5(path) if is_hdf5 else _read_ase(path, stride_fs)
    if (
        stride_fs is not None
        and abs(frames.stride_fs - stride_fs) > STRIDE_TOLERANCE_FS
    ):
        raise TrajectoryError(
            f"{path} has a frame every {frames.stride_fs:g} fs, but stride_fs = "
            f"{stride_fs:g} was given; correct or drop the latter"
        )
    for name in ("positions", "velocities"):
        finite = np.isfinite(getattr(frames, name)).all(axis=(1, 2))
        if not finite.all():
            raise TrajectoryError(
                f"{path}: {name} of frame {int(np.argmin(finite))} are not finite; cut "
                "the trajectory before it"
            )
    return frames


def _read_hdf5(path: Path) -> Frames:
    import h5py  # noqa: PLC0415  100 ms that other readers need not pay

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise TrajectoryError(f"{path} is not a readable HDF5 file: {error}") from error
    with file:
        if file.attrs.get("format") != TRAJECTORY_FORMAT:
            raise TrajectoryError(
                f"{path} is HDF5 but not of format {TRAJECTORY_FORMAT!r}; convert it "
                "to extxyz or .traj, which ASE reads"
            )
        for name in ("positions", "velocities", "time"):
            if name not in file:
                raise TrajectoryError(
                    f"{path} holds no {name}; write them during the MD"
                )
        return Frames(
            positions=file["positions"][:],
            velocities=file["velocities"][:],
            atomic_numbers=file["numbers"][:],
            masses=file["masses"][:],
            cell=file["cell"][:],
            pbc=file["pbc"][:].astype(bool),
            stride_fs=_even_stride(file["time"][:], path),
            source=str(path),
        )


def _even_stride(time_fs: Float[np.ndarray, " frames"], path: Path) -> float:
    if len(time_fs) < 2:  # noqa: PLR2004
        raise TrajectoryError(f"{path} holds {len(time_fs)} frame; pairs need two")
    steps = np.diff(time_fs)
    stride = float(np.median(steps))
    uneven = np.abs(steps - stride) > STRIDE_TOLERANCE_FS
    if uneven.any() or stride <= 0:
        first = int(np.argmax(uneven))
        raise TrajectoryError(
            f"{path}: frames {first} and {first + 1} are {steps[first]:g} fs apart, "
            f"others {stride:g} fs; training pairs need an even stride, so cut the "
            "file there or write every frame"
        )
    return stride


def _read_ase(path: Path, stride_fs: float | None) -> Frames:
    images = list(iread(path, index=":"))
    if len(images) < 2:  # noqa: PLR2004
        raise TrajectoryError(f"{path} holds {len(images)} frame; pairs need two")
    _check_images(images, path)
    told = _told_stride(path, images)
    stride = told if told is not None else stride_fs
    if stride is None:
        raise TrajectoryError(
            f"{path} does not tell the time between frames; give stride_fs (fs)"
        )
    first = images[0]
    return Frames(
        positions=np.stack([image.positions for image in images]),
        velocities=np.stack([velocities_from_atoms(image) for image in images]),
        atomic_numbers=first.numbers.astype(np.int64),
        masses=first.get_masses(),
        cell=first.cell.array.copy(),
        pbc=first.pbc.copy(),
        stride_fs=stride,
        source=str(path),
    )


def _check_images(images: list[Atoms], path: Path) -> None:
    first = images[0]
    for number, image in enumerate(images):
        if not image.has("momenta"):
            raise TrajectoryError(
                f"{path}: frame {number} has no velocities; write momenta during the "
                "MD (extxyz columns 'momenta', or ASE's .traj)"
            )
        if not np.array_equal(image.numbers, first.numbers):
            raise TrajectoryError(
                f"{path}: composition or atom order changes at frame {number}; pairs "
                "need the same atoms in the same order"
            )
        if not np.allclose(image.cell.array, first.cell.array, atol=1e-9, rtol=0.0):
            raise TrajectoryError(
                f"{path}: the cell changes at frame {number}; TrajCast forecasts at "
                "constant cell, so use an NVE or NVT run"
            )


def _told_stride(path: Path, images: list[Atoms]) -> float | None:
    """Return the stride that the file states, in fs."""
    if all("time_fs" in image.info for image in images):
        return _even_stride(np.array([image.info["time_fs"] for image in images]), path)
    if path.suffix != ".traj":
        return None
    from ase.io import Trajectory  # noqa: PLC0415

    with Trajectory(str(path)) as trajectory:
        description = getattr(trajectory, "description", None) or {}
    if "timestep" not in description or "interval" not in description:
        return None
    return float(description["timestep"]) * int(description["interval"]) / FS
