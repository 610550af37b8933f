"""Trajectory files: a journal while a run grows, HDF5 once it is complete.

A journal ``nve-1.h5.part`` is one line of JSON (the root attributes) and then one
float64 record per frame. Whatever ends a run, the whole records before that moment
are good, so a resumed run drops at most one torn record. The HDF5 file appears under
its name only when every frame is in it.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from engine import Frame
from numpy.typing import NDArray
from system import System

FRAMES_PER_BLOCK = 4096
FRAMES_PER_CHUNK = 256

Attributes = dict[str, str | int | float]


class SettingsError(Exception):
    """A file on disk belongs to a run with other settings."""


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
    SettingsError
        If the existing journal was written with other settings.
    """

    def __init__(self, path: Path, n_atoms: int, attributes: Attributes) -> None:
        self.dtype = record_type(n_atoms)
        self._file = path.open("r+b" if path.exists() else "w+b")
        try:
            self._start = self._read_header(path, attributes)
        except SettingsError:
            self._file.close()
            raise
        end = self._file.seek(0, os.SEEK_END)
        self.n_frames = (end - self._start) // self.dtype.itemsize
        self._seek_frame(self.n_frames)
        self._file.truncate()

    def _read_header(self, path: Path, attributes: Attributes) -> int:
        """Check or write the first line and return its length."""
        found = self._file.readline()
        if found.endswith(b"\n"):
            check_settings(path, json.loads(found), attributes)
            return len(found)
        # New, or ended within the header.
        self._file.seek(0)
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
        self._file.write(np.array(tuple(frame), dtype=self.dtype).tobytes())
        self.n_frames += 1

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._file.flush()

    def last(self) -> Frame:
        """Return the last frame."""
        record = next(self.blocks(self.n_frames - 1))[0]
        return Frame(*(record[name] for name in self.dtype.names or ()))

    def blocks(self, start: int = 0) -> Iterator[NDArray[np.void]]:
        """Yield the frames from `start` on, a few thousand records at a time."""
        self.flush()
        for first in range(start, self.n_frames, FRAMES_PER_BLOCK):
            n_frames = min(FRAMES_PER_BLOCK, self.n_frames - first)
            self._seek_frame(first)
            data = self._file.read(n_frames * self.dtype.itemsize)
            yield np.frombuffer(data, dtype=self.dtype)
        self._seek_frame(self.n_frames)

    def _seek_frame(self, index: int) -> None:
        self._file.seek(self._start + index * self.dtype.itemsize)


def check_settings(path: Path, found: Attributes, wanted: Attributes) -> None:
    """Refuse a file whose attributes differ from those wanted."""
    for name, value in wanted.items():
        if found.get(name) != value:
            message = (
                f"{path} was written with {name} = {found.get(name)}, now {value} is "
                "asked for; remove the file or choose another folder"
            )
            raise SettingsError(message)


def is_complete(path: Path, n_frames: int, attributes: Attributes) -> bool:
    """Return whether the file holds this run.

    Raises
    ------
    SettingsError
        If it holds a run with other settings or of another length.
    """
    if not path.exists():
        return False
    with h5py.File(path) as file:
        found = {name: plain(value) for name, value in file.attrs.items()}
        check_settings(path, found, attributes)
        lengths: Attributes = {"number of frames": len(file["time"])}
        check_settings(path, lengths, {"number of frames": n_frames})
    return True


def plain(value: Any) -> Any:
    """Return an attribute as a built-in type."""
    return value.item() if isinstance(value, np.generic) else value


def write_hdf5(
    path: Path, journal: Journal, system: System, attributes: Attributes
) -> None:
    """Write a complete trajectory; the file appears under its name at the end."""
    partial = path.with_name(path.name + ".tmp")
    with h5py.File(partial, "w") as file:
        file.attrs.update({"format": "trajcast-md", "format_version": 1})
        file.attrs.update({**attributes, "complete": True})
        file["numbers"] = system.numbers.astype(np.int64)
        file["masses"] = system.masses
        file["cell"] = system.cell
        file["pbc"] = np.array(system.pbc, dtype=bool)
        for name in journal.dtype.names or ():
            create_dataset(file, name, journal.dtype[name].shape)
        create_dataset(file, "time", ())
        for block in journal.blocks():
            append_block(file, block, float(attributes["stride_fs"]))
        file.flush()
    partial.replace(path)


def create_dataset(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    """Create an empty dataset, extendable along frames."""
    file.create_dataset(
        name,
        shape=(0, *shape),
        maxshape=(None, *shape),
        chunks=(FRAMES_PER_CHUNK, *shape),
        dtype=np.float64,
    )


def append_block(file: h5py.File, block: NDArray[np.void], stride: float) -> None:
    """Append frames to a trajectory; `stride` in fs."""
    start = len(file["time"])
    stop = start + len(block)
    for name in block.dtype.names or ():
        file[name].resize(stop, axis=0)
        file[name][start:] = block[name]
    file["time"].resize(stop, axis=0)
    file["time"][start:] = stride * np.arange(start, stop)
