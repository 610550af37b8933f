"""Trajectories that a driver appends to: whether they are of the same run so far."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory

from trajcast_ase.units import FS

TOLERANCE = 1e-6
"""Relative, of a time step."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The last frame of a file that goes on.

    Attributes
    ----------
    frame : Atoms or None
        None where there is none, or none to be looked at.
    """

    frame: Atoms | None = None

    def holds(self, atoms: Atoms) -> bool:
        """Return whether `atoms` are the last frame.

        Parameters
        ----------
        atoms : Atoms
        """
        return self.frame is not None and _same(self.frame, atoms)


def earlier(
    path: str | os.PathLike[str], atoms: Atoms, timestep: float, interval: int
) -> Earlier:
    """Return the last frame of a trajectory that frames of `atoms` can be appended to.

    Parameters
    ----------
    path : path
        Need not exist.
    atoms : Atoms
    timestep : float, ASE units
    interval : int
        Steps between two frames.

    Raises
    ------
    ValueError
        It is of other atoms, or states another time step or interval.
    """
    if not Path(path).exists() or Path(path).stat().st_size == 0:
        return Earlier()
    with Trajectory(os.fspath(path)) as frames:
        if len(frames) == 0:
            return Earlier()
        last, settings = frames[-1], frames.description or {}
    step = settings.get("timestep", timestep)
    every = settings.get("interval", interval)
    if not np.array_equal(last.numbers, atoms.numbers):
        found, wanted = f"is of {last.symbols}", f"these Atoms are {atoms.symbols}"
    elif not math.isclose(step, timestep, rel_tol=TOLERANCE):
        found = f"has steps of {step / FS:g} fs"
        wanted = f"those of this run are {timestep / FS:g} fs"
    elif every != interval:
        found, wanted = f"has a frame every {every} steps", f"loginterval = {interval}"
    else:
        return Earlier(last)
    raise ValueError(
        f"append_trajectory: {path} {found}, {wanted}; append what is alike, or give "
        "trajectory another name"
    )


def _same(one: Atoms, other: Atoms) -> bool:
    pairs = (
        (one.numbers, other.numbers),
        (one.positions, other.positions),
        (one.get_momenta(), other.get_momenta()),
        (one.cell.array, other.cell.array),
        (one.pbc, other.pbc),
    )
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)
