"""The twin of an NVE run: the same start, but for a shift far below any error."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from engine import Engine
from progress import Progress
from protocol import extend
from storage import is_complete, plain, write_hdf5
from system import System

from trajcast_ase.distill.journal import Attributes, Frame, Journal, JournalError


def record_twin(
    system: System, path: Path, shift: float, n_frames: int, seed: int
) -> Path:
    """Record the twin of a run, or what is missing of it, and return its file.

    Parameters
    ----------
    system : System
    path : Path
        An NVE run ``<name>.h5``; the twin is ``<name>-twin.h5`` beside it.
    shift : float
        Root mean square of the shift of each coordinate, Å.
    n_frames : int
    seed : int
        Of the shift.

    Raises
    ------
    JournalError
        If the file is no NVE run of the system, or a twin with other settings exists.
    """
    attributes, start = read_start(path, system)
    attributes |= {"twin_of": path.name, "shift_A": shift, "shift_seed": seed}
    twin = path.with_name(f"{path.stem}-twin.h5")
    part = twin.with_name(twin.name + ".part")
    n_steps = round(float(attributes["stride_fs"]) / system.timestep)
    with Engine(system) as engine, Progress(twin.name) as progress:
        if not is_complete(twin, n_frames, attributes):
            with Journal(part, system.n_atoms, attributes) as journal:
                frame = (
                    journal.last() if journal.n_frames else shifted(start, shift, seed)
                )
                engine.set_state(frame.positions, frame.velocities)
                engine.commands("fix integrate all nve")
                engine.start()
                if not journal.n_frames:
                    journal.append(engine.frame())
                extend(engine, n_steps, n_frames, journal, progress)
                write_hdf5(twin, journal, system, attributes)
    part.unlink(missing_ok=True)
    return twin


def read_start(path: Path, system: System) -> tuple[Attributes, Frame]:
    """Return attributes and first frame of an NVE run."""
    with h5py.File(path) as file:
        attributes = {name: plain(value) for name, value in file.attrs.items()}
        for name in ("format", "format_version", "complete"):
            attributes.pop(name)
        if (attributes["system"], attributes["ensemble"]) != (system.name, "nve"):
            message = (
                f"{path} is an {attributes['ensemble']} run of {attributes['system']}; "
                f"a twin needs an nve run of {system.name}"
            )
            raise JournalError(message)
        names = ("positions", "velocities", "potential_energy", "kinetic_energy")
        return attributes, Frame(*(file[name][0] for name in names))


def shifted(frame: Frame, shift: float, seed: int) -> Frame:
    """Return a frame with every coordinate moved a little, its center at rest."""
    moves = np.random.default_rng(seed).normal(0.0, shift, frame.positions.shape)
    return replace(frame, positions=frame.positions + moves - moves.mean(axis=0))
