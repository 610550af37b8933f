"""Frames of MD on disk: a journal while a run grows, HDF5 once it is complete.

A journal is one line of JSON and then one float64 record per frame. Whatever ends a
run, the whole records before are good. The HDF5 file appears under its name only when
every frame is in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from ase import Atoms
from jaxtyping import Float

from trajcast_ase.strict import members, parse_json
from trajcast_ase.trajectory import TRAJECTORY_FORMAT, Frames

Attributes = dict[str, str | int | float]
SUFFIX = ".part"
FRAMES_PER_BLOCK = 4096
FLUSH_FRAMES, FLUSH_S = 20, 10.0
"""After so many frames, or so long: what a kill may cost."""


class JournalError(ValueError):
    """A file of other settings, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: Å, Å/fs, eV."""

    positions: Float[np.ndarray, "atoms 3"]
    velocities: Float[np.ndarray, "atoms 3"]
    potential_energy: float
    kinetic_energy: float

    @property
    def total_energy(self) -> float:
        """Potential plus kinetic energy, eV."""
        return self.potential_energy + self.kinetic_energy


def record_type(n_atoms: int) -> np.dtype[np.void]:
    """Return the layout of one frame in a journal."""
    return np.dtype(
        [
            ("positions", np.float64, (n_atoms, 3)),
            ("velocities", np.float64, (n_atoms, 3)),
            ("potential_energy", np.float64),
            ("kinetic_energy", np.float64),
        ]
    )


def journal_path(path: Path) -> Path:
    """Return where the frames of an HDF5 file grow."""
    return path.with_name(path.name + SUFFIX)


def check_settings(path: Path, found: Mapping[str, Any], wanted: Attributes) -> None:
    """Refuse a file whose attributes differ from those wanted.

    Raises
    ------
    JournalError
    """
    for name, value in wanted.items():
        if found.get(name) != value:
            raise JournalError(
                f"{path} was written with {name} = {found.get(name)}, now {value} is "
                "asked for; remove the file, or choose another folder"
            )


class Journal:
    """Append-only file of the frames of an unfinished run.

    Parameters
    ----------
    path : Path
        Continued if it exists, created if not.
    n_atoms : int
    attributes : dict
        Must equal those of an existing journal.

    Raises
    ------
    JournalError
        The existing journal is of other settings.
    """

    def __init__(self, path: Path, n_atoms: int, attributes: Attributes) -> None:
        self.dtype = record_type(n_atoms)
        self._file = path.open("r+b" if path.exists() else "w+b")
        try:
            self._start = self._read_header(path, attributes)
        except JournalError:
            self._file.close()
            raise
        end = self._file.seek(0, os.SEEK_END)
        self.n_frames = (end - self._start) // self.dtype.itemsize
        self._seek(self.n_frames)
        self._file.truncate()

    def _read_header(self, path: Path, attributes: Attributes) -> int:
        """Check or write the first line, and return its length."""
        first = self._file.readline()
        if first.endswith(b"\n"):
            try:
                found = members(parse_json(first), "its first line", dict)
            except ValueError as error:
                raise JournalError(
                    f"{path} is no journal ({error}); remove it"
                ) from error
            check_settings(path, found, attributes)
            return len(first)
        # New, or ended within the header.
        self._file.seek(0)
        self._file.truncate()
        return self._file.write((json.dumps(attributes) + "\n").encode())

    def __enter__(self) -> Self:
        """Return the journal, which is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is buffered and close."""
        self._file.close()

    def append(self, frame: Frame) -> None:
        """Add a frame."""
        values = tuple(getattr(frame, name) for name in self.dtype.names or ())
        self._file.write(np.array(values, dtype=self.dtype).tobytes())
        self.n_frames += 1

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._file.flush()

    def blocks(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the frames from `start` on as records, a few thousand at a time."""
        self.flush()
        for first in range(start, self.n_frames, FRAMES_PER_BLOCK):
            n_frames = min(FRAMES_PER_BLOCK, self.n_frames - first)
            self._seek(first)
            data = self._file.read(n_frames * self.dtype.itemsize)
            yield np.frombuffer(data, dtype=self.dtype)
        self._seek(self.n_frames)

    def frames(self) -> np.ndarray:
        """Return all frames as records."""
        return np.concatenate([np.empty(0, self.dtype), *self.blocks()])

    def last(self) -> Frame:
        """Return the last frame."""
        (record,) = next(self.blocks(self.n_frames - 1))
        self._seek(self.n_frames)
        return Frame(
            np.array(record["positions"]),
            np.array(record["velocities"]),
            float(record["potential_energy"]),
            float(record["kinetic_energy"]),
        )

    def _seek(self, index: int) -> None:
        self._file.seek(self._start + index * self.dtype.itemsize)


def n_frames_in(path: Path, n_atoms: int) -> int:
    """Return how many frames the journal of `path` holds by its size."""
    part = journal_path(path)
    if not part.exists():
        return 0
    return part.stat().st_size // record_type(n_atoms).itemsize


def write_trajectory(
    path: Path,
    atoms: Atoms,
    records: dict[str, np.ndarray],
    stride_fs: float,
    attributes: Attributes,
) -> None:
    """Write a complete trajectory as HDF5, atomically.

    Parameters
    ----------
    path : Path
    atoms : Atoms
        Elements, masses and cell.
    records : dict of str to (n_frames, ...) arrays
        Positions (Å), velocities (Å/fs), and others; `kicks` as of
        :class:`.trajectory.Frames`.
    stride_fs : float, fs
    attributes : dict
        Of the root.
    """
    import h5py  # noqa: PLC0415  100 ms that other stages need not pay

    partial = path.with_name(path.name + ".tmp")
    with h5py.File(partial, "w") as file:
        file.attrs.update({"format": TRAJECTORY_FORMAT, "format_version": 1})
        file.attrs.update({**attributes, "stride_fs": stride_fs, "complete": True})
        file["numbers"] = atoms.numbers.astype(np.int64)
        file["masses"] = atoms.get_masses()
        file["cell"] = atoms.cell.array
        file["pbc"] = atoms.pbc
        for name, values in records.items():
            file[name] = values
        file["time"] = stride_fs * np.arange(len(records["positions"]))
    partial.replace(path)


def write_frames(path: Path, frames: Frames, attributes: Attributes) -> None:
    """Write frames of any trajectory as HDF5, atomically."""
    records = {"positions": frames.positions, "velocities": frames.velocities}
    if frames.kicks is not None:
        records["kicks"] = frames.kicks
    write_trajectory(path, frames.atoms(0), records, frames.stride_fs, attributes)


def last_frame(path: Path) -> Frame:
    """Return the last frame of a complete trajectory of this module."""
    import h5py  # noqa: PLC0415  100 ms that other stages need not pay

    with h5py.File(path, "r") as file:
        values: list[Any] = [
            np.array(file[name][-1])
            for name in ("positions", "velocities", "potential_energy")
        ]
        kinetic = float(file["kinetic_energy"][-1])
    return Frame(values[0], values[1], float(values[2]), kinetic)


def energies_of(path: Path) -> Float[np.ndarray, "frames 2"]:
    """Return potential and kinetic energy of a trajectory of this module, eV."""
    import h5py  # noqa: PLC0415  100 ms that other stages need not pay

    with h5py.File(path, "r") as file:
        names = "potential_energy", "kinetic_energy"
        return np.stack([np.array(file[name]) for name in names], axis=1)
