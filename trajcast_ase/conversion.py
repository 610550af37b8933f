"""Trajectories of ASE to formats of other programs, by the libraries that write them.

A run writes ASE's ``.traj``, which can be cut back and continued exactly; other formats
are made of it afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import Trajectory, write

from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.units import FS

TO_PS = 1e-3


def check_writable(kind: str) -> None:
    """Raise ImportError where the library that writes a format is missing."""
    if kind in ("dcd", "h5md"):
        _mdanalysis()


def convert(source: Path, target: Path, kind: str) -> None:
    """Write a ``.traj`` file in another format; `target` appears when it is whole.

    Positions in Å and times are those of the run. extxyz (ASE) has momenta, masses and
    ``time_fs``, h5md (MDAnalysis) velocities in Å/ps; dcd (MDAnalysis) has positions
    and cells only.

    Parameters
    ----------
    source, target : Path
    kind : "extxyz", "dcd" or "h5md"

    Raises
    ------
    ImportError
        MDAnalysis is missing, for dcd and h5md.
    """
    check_writable(kind)
    partial = target.with_name(f"{target.stem}.part{target.suffix}")
    with Trajectory(os.fspath(source)) as trajectory:
        stride_fs = _stride_fs(trajectory)
        frames = (trajectory[k] for k in range(len(trajectory)))
        if kind == "extxyz":
            _write_extxyz(frames, partial, stride_fs)
        else:
            _write_mdanalysis(frames, len(trajectory[0]), partial, stride_fs)
    partial.replace(target)


def is_copy(source: Path, target: Path, kind: str) -> bool:
    """Return whether `target` begins as :func:`convert` would write it from `source`.

    The first frame is compared, so that the copy of a run that was shorter is one, too.

    Raises
    ------
    ImportError
        MDAnalysis is missing, for dcd and h5md.
    """
    with Trajectory(os.fspath(source)) as trajectory:
        first = trajectory[0]
    if kind == "extxyz":
        expected = _extxyz_frame(first, 0.0).encode()
        with target.open("rb") as file:
            return file.read(len(expected)) == expected
    universe = _mdanalysis().Universe.empty(len(first))
    try:
        universe.load_new(str(target), format=kind.upper())
    except (OSError, ValueError, LookupError):  # of another system, or no such file
        return False
    found = universe.trajectory[0].positions
    return bool(np.allclose(found, first.positions, atol=1e-4))  # float32


def _stride_fs(trajectory: Any) -> float:
    settings = trajectory.description
    return float(settings["timestep"] * settings["interval"] / FS)


def _write_extxyz(frames: Iterator[Atoms], path: Path, stride_fs: float) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, atoms in enumerate(frames):
            file.write(_extxyz_frame(atoms, number * stride_fs))


def _extxyz_frame(atoms: Atoms, time_fs: float) -> str:
    """Return a frame as text; `atoms` are changed."""
    atoms.info["time_fs"] = time_fs
    atoms.set_masses(atoms.get_masses())  # else a column that is not there
    columns = ["symbols", "positions", "momenta", "masses"]
    text = StringIO()
    write(text, atoms, format="extxyz", columns=columns)
    return text.getvalue()


def _write_mdanalysis(
    frames: Iterator[Atoms], n_atoms: int, path: Path, stride_fs: float
) -> None:
    library = _mdanalysis()
    universe = library.Universe.empty(n_atoms, trajectory=True, velocities=True)
    universe.trajectory.units = {
        "time": "ps",
        "length": "Angstrom",
        "velocity": "Angstrom/ps",
        "force": None,
    }
    step = universe.trajectory.ts
    step.dt = stride_fs * TO_PS
    with library.Writer(str(path), n_atoms, dt=stride_fs * TO_PS) as writer:
        for number, atoms in enumerate(frames):
            step.frame = number
            step.time = number * stride_fs * TO_PS
            step.positions = atoms.positions
            step.velocities = velocities_from_atoms(atoms) / TO_PS
            step.dimensions = atoms.cell.cellpar() if atoms.pbc.any() else None
            writer.write(universe.atoms)


def _mdanalysis() -> Any:
    try:
        import MDAnalysis  # noqa: PLC0415  only for its formats
    except ImportError as error:
        raise ImportError(
            "dcd and h5md are written by MDAnalysis; pip install 'trajcast-ase[formats]"
            "' (or MDAnalysis), or take --format extxyz"
        ) from error
    return MDAnalysis
