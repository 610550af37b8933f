"""Trajectory files of reference MD: the package's journal, and HDF5 once complete.

A journal ``nve-1.h5.part`` grows with the run; the HDF5 file appears under its name
only when every frame is in it.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from system import System

from trajcast_ase.distill.journal import Attributes, Journal, check_settings

FRAMES_PER_CHUNK = 256


def is_complete(path: Path, n_frames: int, attributes: Attributes) -> bool:
    """Return whether the file holds this run.

    Raises
    ------
    JournalError
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
