"""Trajectories of ASE to formats of other programs, by the libraries that write them.

A run writes ASE's ``.traj``, which can be cut back and continued exactly; other formats
are made of it afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def _stride_fs(trajectory: Any) -> float:
    settings = trajectory.description
    return float(settings["timestep"] * settings["interval"] / FS)


def _write_extxyz(frames: Iterator[Atoms], path: Path, stride_fs: float) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, atoms in enumerate(frames):
            atoms.info["time_fs"] = number * stride_fs
            atoms.set_masses(atoms.get_masses())  # else a column that is not there
            columns = ["symbols", "positions", "momenta", "masses"]
            write(file, atoms, format="extxyz", columns=columns)


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
