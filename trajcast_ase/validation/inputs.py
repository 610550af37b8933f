"""Runs and references as users name them: files, or bundled reference observables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from math import ceil
from pathlib import Path

import numpy as np

from trajcast_ase.trajectory import (
    HDF5_SUFFIXES,
    Frames,
    TrajectoryError,
    read_frames,
    readable,
    stated_settings,
)
from trajcast_ase.validation.conditions import (
    Conditions,
    check_comparable,
    conditions_of,
)
from trajcast_ase.validation.observables import (
    Observables,
    observe,
    pool,
)
from trajcast_ase.validation.quantities import WINDOW_FS
from trajcast_ase.validation.storage import load_observables, parse_observables
from trajcast_ase.validation.topology import Topology

BUNDLED_SUFFIX = "-observables.json"
DEFAULT_PIECES = 20
"""Of the shortest run."""


@dataclass(frozen=True, slots=True)
class Run:
    """An equilibrated run.

    Attributes
    ----------
    frames : Frames
    temperature_K : float or None, K
        Of the thermostat, where file or user tell it.
    """

    frames: Frames
    temperature_K: float | None

    @property
    def length_fs(self) -> float:
        """Length, fs."""
        return self.frames.n_frames * self.frames.stride_fs

    @property
    def conditions(self) -> Conditions:
        """What another run must share to be compared with."""
        return conditions_of(self.frames, self.temperature_K)


def bundled_references() -> list[str]:
    """Return the names of the bundled reference observables."""
    names = [item.name for item in files("trajcast_ase.data").iterdir()]
    return sorted(
        name.removesuffix(BUNDLED_SUFFIX)
        for name in names
        if name.endswith(BUNDLED_SUFFIX)
    )


def bundled_reference(name: str) -> Observables:
    """Return bundled observables of reference MD.

    Raises
    ------
    ValueError
        The package bundles none of that name.
    """
    if name not in bundled_references():
        raise ValueError(
            f"{name!r} is none of the bundled references, which are "
            f"{', '.join(bundled_references())}"
        )
    item = files("trajcast_ase.data") / f"{name}{BUNDLED_SUFFIX}"
    return parse_observables(item.read_text(encoding="utf-8"), name)


def load_reference(reference: str) -> Observables | None:
    """Return bundled observables, or those in a JSON file; None for a trajectory.

    Raises
    ------
    FileNotFoundError
        Neither a bundled name nor a file.
    ValueError
        The file holds no observables.
    """
    if reference in bundled_references():
        return bundled_reference(reference)
    path = Path(reference)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file {reference}, and the bundled references are "
            f"{', '.join(bundled_references())}; give one of these, a trajectory or a "
            "file of --write-observables"
        )
    return load_observables(path) if path.suffix == ".json" else None


def read_run(
    path: str | Path,
    *,
    stride_fs: float | None = None,
    temperature_K: float | None = None,
    skip_ps: float = 0.0,
    lammps_units: str | None = None,
) -> Run:
    """Return a trajectory without its first `skip_ps`.

    Parameters
    ----------
    path : path
        Anything that :func:`trajcast_ase.trajectory.read_frames` reads.
    stride_fs : float, fs, optional
        For files that do not tell it.
    temperature_K : float, K, optional
        Of the thermostat, for files that do not tell it.
    skip_ps : float, ps
    lammps_units : str, optional
        Unit style of a LAMMPS dump that does not state its own.

    Raises
    ------
    TrajectoryError
        A damaged file, no velocities, an uneven stride, or a cell that changes.
    ValueError
        Too short a run, or a temperature other than the file's.
    """
    frames = read_frames(path, stride_fs, lammps_units=lammps_units)
    skipped = round(skip_ps * 1e3 / frames.stride_fs)
    if not 0 <= skipped < frames.n_frames:
        raise ValueError(
            f"{path} has {frames.n_frames} frames, of which {skip_ps:g} ps would leave "
            "out all; skip less"
        )
    told = stated_temperature(Path(path))
    if None not in (told, temperature_K) and not np.isclose(told, temperature_K):  # type: ignore[arg-type]
        raise ValueError(
            f"{path} says that its thermostat keeps {told:g} K, but {temperature_K:g} "
            "K were given; correct or drop the latter"
        )
    kept = replace(
        frames,
        positions=frames.positions[skipped:],
        velocities=frames.velocities[skipped:],
    )
    return Run(kept, told if told is not None else temperature_K)


def stated_temperature(path: Path) -> float | None:
    """Return the temperature of the thermostat that a file states, K.

    Raises
    ------
    TrajectoryError
        The file is damaged.
    """
    with readable(path):
        if path.suffix in HDF5_SUFFIXES:
            import h5py  # noqa: PLC0415  100 ms that other readers need not pay

            with h5py.File(path, "r") as file:
                thermostatted = file.attrs.get("ensemble") == "nvt"
                value = file.attrs.get("temperature_K") if thermostatted else None
        else:
            found = stated_settings(path).get("thermostat") or [{}]
            # A dictionary for one thermostat, a list for several of one temperature.
            first = found if isinstance(found, dict) else found[0]
            value = first.get("temperature_K")
        if not isinstance(value, int | float | np.number):
            return None
        if not (np.isfinite(value) and value >= 0):
            raise TrajectoryError(
                f"{path} states a temperature of {value:g} K; write it again"
            )
    return float(value)


def observe_runs(
    runs: Run | Sequence[Run],
    piece_fs: float | None = None,
    *,
    topology: Topology | None = None,
) -> Observables:
    """Return the observables of one run, or of several of one ensemble together.

    Parameters
    ----------
    runs : Run, or sequence of them
        Of one model or force field, with other seeds or starts.
    piece_fs : float, fs, optional
        Length of a piece. Default: a twentieth of the shortest run.
    topology : Topology, optional
        Of the reference; default: the bonds of the first run.

    Raises
    ------
    ValueError
        No runs, runs of other conditions, too short ones, or atoms in another order.
    """
    several = [runs] if isinstance(runs, Run) else list(runs)
    if piece_fs is None:
        piece_fs = default_piece_fs(several)
    found: list[Observables] = []
    for run in several:
        one = observe(
            run.frames, piece_fs, temperature_K=run.temperature_K, topology=topology
        )
        topology = one.topology
        found.append(one)
    return pool(found)


def default_piece_fs(runs: Sequence[Run]) -> float:
    """Return a twentieth of the shortest run, in whole frames, fs.

    But no less than the window of a spectrum.
    """
    stride = runs[0].frames.stride_fs
    shortest = min(run.length_fs for run in runs)
    frames = max(int(shortest / DEFAULT_PIECES / stride), ceil(WINDOW_FS / stride))
    return frames * stride


def observe_both(
    runs: Run | Sequence[Run],
    reference: Run | Sequence[Run] | Observables,
    piece_ps: float | None = None,
) -> tuple[Observables, Observables]:
    """Return the observables of runs and of their reference, in pieces of one length.

    Parameters
    ----------
    runs : Run, or sequence of them
        All of one model.
    reference : Run, sequence of them, or Observables
        Observables fix the length of the pieces.
    piece_ps : float, ps, optional
        Default: a twentieth of the shortest run.

    Raises
    ------
    NotComparableError
        Another composition, cell, stride or thermostat temperature.
    ValueError
        A run is too short, its atoms stand in another order than the reference's, or
        `piece_ps` is not that of the reference's observables.
    """
    ours = [runs] if isinstance(runs, Run) else list(runs)
    if isinstance(reference, Observables):
        for run in ours:
            check_comparable(run.conditions, reference.conditions)
        if piece_ps is not None and not np.isclose(piece_ps * 1e3, reference.piece_fs):
            raise ValueError(
                f"pieces of {piece_ps:g} ps were asked for, but the reference is cut "
                f"into pieces of {reference.piece_fs * 1e-3:g} ps; leave --piece out"
            )
        topology = reference.topology
        return observe_runs(ours, reference.piece_fs, topology=topology), reference
    theirs = [reference] if isinstance(reference, Run) else list(reference)
    for run in (*ours, *theirs[1:]):
        check_comparable(run.conditions, theirs[0].conditions)
    piece_fs = (
        1e3 * piece_ps if piece_ps is not None else default_piece_fs([*ours, *theirs])
    )
    wanted = observe_runs(theirs, piece_fs)
    return observe_runs(ours, piece_fs, topology=wanted.topology), wanted
