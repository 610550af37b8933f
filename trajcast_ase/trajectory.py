"""Any MD trajectory with velocities to frames at a known, even stride."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import iread
from ase.io.formats import filetype
from jaxtyping import Bool, Float, Int

from trajcast_ase.extxyz import XYZ_FORMATS, CountError, check_counts
from trajcast_ase.lammps_dump import DUMP_FORMAT, DumpError, read_dump
from trajcast_ase.plausible import ImplausibleError, check_plausible
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.units import FS

TRAJECTORY_FORMAT = "trajcast-md"
HDF5_SUFFIXES = (".h5", ".hdf5")
# Strides are written in decimal fs and summed up by the MD code in float64.
STRIDE_TOLERANCE_FS = 1e-6
STRIDE_DIGITS = 9
"""In fs: sums of a stride carry rounding that depends on their number."""
VELOCITY_COLUMNS = ("vel", "velo", "velocity", "velocities", "v")
"""Of extxyz files of other programs; ASE takes none of them for velocities."""


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
    kicks : (n_kicks,) int64, or None
        Ascending frames whose velocities a thermostat changed, in files that tell
        them; between two of them the run is one at constant energy.
    """

    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    masses: Float[np.ndarray, " atoms"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, 3]
    stride_fs: float
    source: str
    kicks: Int[np.ndarray, " kicks"] | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.positions)

    @property
    def fixed(self) -> Bool[np.ndarray, " atoms"]:
        """Which atoms rest in every frame, as under FixAtoms; none where all do."""
        resting = ~self.velocities[-1].any(axis=1)
        if resting.any():  # all frames are a long look, needed for few runs
            resting &= ~self.velocities.any(axis=(0, 2))
        return np.asarray(resting & ~resting.all())

    def atoms(self, index: int) -> Atoms:
        """Return a frame, without its velocities, with a FixAtoms of what rests."""
        fixed = self.fixed
        return Atoms(
            self.atomic_numbers,
            positions=self.positions[index],
            masses=self.masses,
            cell=self.cell,
            pbc=self.pbc,
            constraint=FixAtoms(mask=fixed) if fixed.any() else None,
        )


def read_frames(
    path: str | Path,
    stride_fs: float | None = None,
    *,
    lammps_units: str | None = None,
) -> Frames:
    """Return the frames of a trajectory file.

    Parameters
    ----------
    path : path
        HDF5 of the reference-MD scripts, or anything that :func:`ase.io.iread` reads.
    stride_fs : float, fs, optional
        Time between frames, for files that do not tell it. Files that do are checked
        against it.
    lammps_units : str, optional
        Unit style of LAMMPS dumps that do not state theirs: "real", "metal", "si",
        "cgs" or "electron".

    Raises
    ------
    TrajectoryError
        A damaged file, no velocities, an unknown or uneven stride, a changing
        composition or cell, a repeated frame, or values that are not finite or not
        plausible.
    FileNotFoundError
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    with readable(path):
        if path.suffix in HDF5_SUFFIXES:
            frames = _read_hdf5(path)
        else:
            frames = _read_ase(path, stride_fs, lammps_units)
        check_plausible(frames)
    if (
        stride_fs is not None
        and abs(frames.stride_fs - stride_fs) > STRIDE_TOLERANCE_FS
    ):
        raise TrajectoryError(
            f"{path} has a frame every {frames.stride_fs:g} fs, but stride_fs = "
            f"{stride_fs:g} was given; correct or drop the latter"
        )
    return frames


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what readers raise on damaged files into a TrajectoryError.

    ASE and h5py raise errors of a dozen classes, with texts that name no file.
    """
    try:
        yield
    except (TrajectoryError, ImportError):
        raise
    except (DumpError, CountError, ImplausibleError) as error:
        raise TrajectoryError(f"{path}: {error}") from error
    except Exception as error:
        raise TrajectoryError(
            f"{path} cannot be read as a trajectory ({type(error).__name__}: "
            f"{error or 'without a text'}); it is damaged or of another format: write "
            "it again, or as extxyz or .traj"
        ) from error


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
        n_frames, n_atoms = len(file["time"]), len(file["numbers"])
        shapes = {
            "positions": (n_frames, n_atoms, 3),
            "velocities": (n_frames, n_atoms, 3),
            "numbers": (n_atoms,),
            "masses": (n_atoms,),
            "cell": (3, 3),
            "pbc": (3,),
            "time": (n_frames,),
        }
        found = {name: _numbers(file[name], shapes[name], path) for name in shapes}
        kicks = _kicks(file["kicks"], n_frames, path) if "kicks" in file else None
    return Frames(
        positions=np.asarray(found["positions"], dtype=np.float64),
        velocities=np.asarray(found["velocities"], dtype=np.float64),
        atomic_numbers=np.asarray(found["numbers"], dtype=np.int64),
        masses=np.asarray(found["masses"], dtype=np.float64),
        cell=np.asarray(found["cell"], dtype=np.float64),
        pbc=found["pbc"].astype(bool),
        stride_fs=_even_stride(np.asarray(found["time"], dtype=np.float64), path),
        source=str(path),
        kicks=kicks,
    )


def _kicks(dataset: Any, n_frames: int, path: Path) -> Int[np.ndarray, " kicks"]:
    """Return the frames that a thermostat changed, of a dataset of h5py."""
    found = _numbers(dataset, (dataset.size or 0,), path)
    kicks = found.astype(np.int64)
    bounded = np.concatenate([[-1], kicks, [n_frames]])
    if (kicks != found).any() or (np.diff(bounded) <= 0).any():
        raise TrajectoryError(
            f"{path}: kicks should be ascending numbers of frames below {n_frames}; "
            "write the file again"
        )
    return kicks


def _numbers(dataset: Any, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Return a dataset of h5py after a look at what the file says of it."""
    name = dataset.name.strip("/")
    if dataset.shape != shape or dataset.dtype.kind not in "fiub":
        raise TrajectoryError(
            f"{path}: {name} of shape {dataset.shape} and type {dataset.dtype} should "
            f"be numbers of shape {shape}; write the file again"
        )
    # HDF5 gives zeros for what is missing.
    if dataset.chunks is None:
        whole = dataset.id.get_storage_size() >= dataset.nbytes
    else:
        sides = zip(shape, dataset.chunks, strict=True)
        n_chunks = prod(-(-length // side) for length, side in sides)
        whole = dataset.id.get_num_chunks() == n_chunks
    if not whole:
        raise TrajectoryError(f"{path} holds {name} in part only; write the file again")
    return np.asarray(dataset[...])


def _even_stride(time_fs: Float[np.ndarray, " frames"], path: Path) -> float:
    if len(time_fs) < 2:  # noqa: PLR2004
        raise TrajectoryError(f"{path} holds {len(time_fs)} frame; pairs need two")
    if not np.isfinite(time_fs).all():
        bad = int(np.argmin(np.isfinite(time_fs)))
        raise TrajectoryError(
            f"{path}: the time of frame {bad} is {time_fs[bad]}; cut the file before it"
        )
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
    return round(float(time_fs[-1] - time_fs[0]) / len(steps), STRIDE_DIGITS)


def _read_ase(path: Path, stride_fs: float | None, lammps_units: str | None) -> Frames:
    told = None
    kind = filetype(str(path))
    if kind in XYZ_FORMATS:
        check_counts(path)
    if kind == DUMP_FORMAT:
        dump = read_dump(path, lammps_units)
        images = dump.images
        if dump.time_fs is not None:
            told = _even_stride(dump.time_fs, path)
    else:
        images = list(iread(path, index=":", do_not_split_by_at_sign=True))
    if len(images) < 2:  # noqa: PLR2004
        raise TrajectoryError(f"{path} holds {len(images)} frame; pairs need two")
    _check_images(images, path)
    told = _told_stride(path, images) if told is None else told
    stride = told if told is not None else stride_fs
    if stride is None:
        raise TrajectoryError(
            f"{path} does not tell the time between frames; give it in fs, as "
            "stride_fs or --stride (a LAMMPS dump tells it after 'dump_modify ... time "
            "yes')"
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
                f"{path}: frame {number} has no velocities; {_way_to_velocities(image)}"
            )
        if not np.array_equal(image.numbers, first.numbers):
            raise TrajectoryError(
                f"{path}: composition or atom order changes at frame {number}; pairs "
                "need the same atoms in the same order"
            )
        if not np.array_equal(image.get_masses(), first.get_masses()):
            raise TrajectoryError(
                f"{path}: masses change at frame {number}; a run has the same masses "
                "throughout, so correct them or cut the file there"
            )
        # Along open axes LAMMPS writes bounds that follow the atoms.
        vectors, wanted = image.cell.array[first.pbc], first.cell.array[first.pbc]
        if not (
            np.array_equal(image.pbc, first.pbc)
            and np.allclose(vectors, wanted, atol=1e-9, rtol=0.0)
        ):
            raise TrajectoryError(
                f"{path}: the cell changes at frame {number}; TrajCast forecasts at "
                "constant cell, so use an NVE or NVT run"
            )


def _way_to_velocities(image: Atoms) -> str:
    """Return what to do about a frame without momenta."""
    for name in VELOCITY_COLUMNS:
        if name in image.arrays:
            return (
                f"its column {name!r} does not tell its units: for Å/fs, call "
                f"atoms.set_velocities(atoms.arrays[{name!r}] / ase.units.fs) on each "
                "frame of ase.io.read(..., ':') and write them as .traj"
            )
    return (
        "write momenta during the MD (extxyz columns 'momenta', ASE's .traj, or vx vy "
        "vz of a dump)"
    )


def _told_stride(path: Path, images: list[Atoms]) -> float | None:
    """Return the stride that the file states, in fs."""
    if all("time_fs" in image.info for image in images):
        return _even_stride(np.array([image.info["time_fs"] for image in images]), path)
    description = stated_settings(path)
    if "timestep" not in description or "interval" not in description:
        return None
    stride = float(description["timestep"]) * int(description["interval"]) / FS
    if not (isfinite(stride) and stride > 0):
        raise TrajectoryError(
            f"{path} states {stride:g} fs between frames; write it again with the "
            "right description"
        )
    return round(stride, STRIDE_DIGITS)


def stated_settings(path: Path) -> dict[str, Any]:
    """Return the settings of the run that a .traj file holds, if any."""
    if path.suffix != ".traj":
        return {}
    from ase.io import Trajectory  # noqa: PLC0415

    with Trajectory(str(path)) as trajectory:
        return dict(getattr(trajectory, "description", None) or {})
