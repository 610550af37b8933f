"""The cell of a crystal at 300 K and atmospheric pressure, averaged over an NpT run."""

from collections.abc import Iterator

import numpy as np
from engine import Engine
from progress import Progress
from protocol import heat
from sanity import BLOCK_LIMIT, Check, block_error, near
from system import FloatArray, System

KNOWN_LENGTH = 25.0
"""Of the run that gave the cell of the system, ps."""


def average_cell(
    system: System, seed: int, equilibrate: float, length: float
) -> FloatArray:
    """Return the edges of the box along x and z in each frame, (n_frames, 2), Å.

    Parameters
    ----------
    system : System
        With a barostat.
    seed : int
    equilibrate, length : float
        At constant pressure before and while frames are taken, ps.
    """
    temperature, time = system.temperature, system.damping / system.units.time
    n_steps = round(system.stride / system.timestep)
    n_before, n_frames = (
        round(ps * 1000.0 / system.stride) for ps in (equilibrate, length)
    )
    edges = np.empty((n_before + n_frames, 2))
    with Engine(system) as engine, Progress(f"{system.name} cell") as progress:
        heat(engine, seed)
        engine.commands(
            f"fix integrate all npt temp {temperature} {temperature} {time} "
            f"{system.barostat}",
            "fix_modify integrate temp thermo_temp",
        )
        engine.start()
        progress.stage("NpT", len(edges))
        for index in range(len(edges)):
            engine.advance(n_steps)
            edges[index] = engine.thermo("lx"), engine.thermo("lz")
            progress.update(index + 1)
    return edges[n_before:]


def check_cell(system: System, edges: FloatArray, length: float) -> Iterator[Check]:
    """Yield checks of the mean edges against the cell of the system."""
    # The cell of the system comes from a finite run and has an error of its own.
    both = np.sqrt(1.0 + length / KNOWN_LENGTH)
    for name, values, axis in zip(("lx", "lz"), edges.T, (0, 2), strict=True):
        known, error = system.cell[axis, axis], block_error(values)
        yield near(
            f"{system.name} {name}, Å", values.mean(), known, BLOCK_LIMIT * both * error
        )
