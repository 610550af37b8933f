"""Trajectories of ASE to formats of other programs, by the libraries that write them.

A run writes ASE's ``.traj``, which can be cut back and continued exactly; other formats
are made of it afterwards.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import Trajectory, write

from trajcast_ase.orientation import is_turned, standard_rotation
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.units import FS

TO_PS = 1e-3
COLUMNS = ("symbols", "positions", "momenta", "masses")
"""Of extxyz, before all other arrays."""


def check_writable(kind: str) -> None:
    """Raise ImportError where the library that writes a format is missing."""
    if kind in ("dcd", "h5md"):
        _mdanalysis()


def convert(source: Path, target: Path, kind: str) -> None:
    """Write a ``.traj`` file in another format; `target` appears when it is whole.

    Times are those of the run. extxyz (ASE) has ``time_fs``, FixAtoms (as
    ``move_mask``) and all arrays of the ``.traj``, lengths in Å; h5md (MDAnalysis) has
    positions in Å and velocities in Å/ps; dcd (MDAnalysis) positions only. These two
    keep lengths and angles of the cell, and positions and velocities are turned to
    where readers put it (:mod:`trajcast_ase.orientation`). A warning says so where that
    changes anything, and which constraints extxyz leaves out.

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
        _tell_changes(trajectory[0], target, kind)
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
    expected = first.positions @ standard_rotation(first).T
    return bool(np.allclose(found, expected, atol=1e-4))  # float32


def _tell_changes(first: Atoms, target: Path, kind: str) -> None:
    """Warn once of what a file will not hold as the run has it."""
    if kind == "extxyz":
        kinds = (type(one).__name__ for one in first.constraints)
        lost = dict.fromkeys(name for name in kinds if name != FixAtoms.__name__)
        if lost:
            warnings.warn(
                f"{target} is without the constraint {', '.join(lost)}, for which "
                "extxyz has no place; start from the .traj file, which has it",
                UserWarning,
                stacklevel=3,
            )
    elif is_turned(standard_rotation(first)):
        warnings.warn(
            f"{target} holds lengths and angles of the cell, which readers put with a "
            "along x and b in the xy plane: positions and velocities are turned with "
            "it. Take --format extxyz for the orientation of the run",
            UserWarning,
            stacklevel=3,
        )


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
    # What a .traj holds beside these are tags, charges and magnetic moments: numbers.
    known = {*COLUMNS, "numbers"}
    columns = [*COLUMNS, *(name for name in atoms.arrays if name not in known)]
    atoms.set_masses(atoms.get_masses())  # else a column that is not there
    fixed = [one.index for one in atoms.constraints if type(one) is FixAtoms]
    atoms.set_constraint()
    if fixed:  # in one constraint: ASE 3.24 looks at no second one
        atoms.set_constraint(FixAtoms(np.unique(np.concatenate(fixed))))
        columns.append("move_mask")
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
            rotation = standard_rotation(atoms)
            step.positions = atoms.positions @ rotation.T
            step.velocities = velocities_from_atoms(atoms) @ rotation.T / TO_PS
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
