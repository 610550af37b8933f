"""A first configuration for given trajectories, with the reasons as comments."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float

from trajcast_ase.dynamics.domain import density
from trajcast_ase.kinetics import run_temperature
from trajcast_ase.neighbors import find_edges
from trajcast_ase.state import state_from_atoms
from trajcast_ase.training.motion import check_motion
from trajcast_ase.training.pairs import make_pairs
from trajcast_ase.trajectory import (
    STRIDE_TOLERANCE_FS,
    Frames,
    TrajectoryError,
    read_frames,
)

FASTEST_SHARE = 0.995
"""Of the velocities' power of an element that lies below its fastest frequency."""
HORIZON_IN_PERIODS = 0.7
"""Of the fastest vibration: 7 of 9.5 fs for molecules with hydrogen."""
LONGEST_HORIZON_FS = 30.0
FRAMES_LOOKED_AT = 2000
NEIGHBORS = 30.0
CUTOFFS = (4.0, 6.0)
"""Å; between them the one that finds `NEIGHBORS`."""
SURROUNDINGS = 9.0
HELD_OUT = 0.1
"""Of the runs, for validation; one at least."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a configuration is made of.

    Attributes
    ----------
    train, validation : tuple of str
        Paths as they stand in the configuration.
    stride_fs, horizon_fs, period_fs : float, fs
        Between frames, of a forecast, and of the fastest vibration that was seen.
    resolved : bool
        Whether the frames are close enough to see that vibration.
    cutoff : float, Å
    neighbors : float
        Of an atom within it.
    surroundings : bool
    n_systems : int
        Cells or molecules of different atoms among the runs.
    description : str
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    stride_fs: float
    horizon_fs: float
    period_fs: float
    resolved: bool
    cutoff: float
    neighbors: float
    surroundings: bool
    n_systems: int
    description: str


def suggest(
    files: Sequence[Path],
    folder: Path,
    *,
    stride_fs: float | None = None,
    horizon_fs: float | None = None,
    lammps_units: str | None = None,
) -> Suggestion:
    """Return choices that suit the trajectories.

    Parameters
    ----------
    files : sequence of Path
    folder : Path
        Of the configuration.
    stride_fs : float, fs, optional
        Time between frames, for files that do not tell it.
    horizon_fs : float, fs, optional
        Default: 0.7 periods of the fastest vibration, 30 fs at most.
    lammps_units : str, optional
        Of dumps that do not state theirs.

    Raises
    ------
    TrajectoryError
        A file is no training data or has no pair, or they are of different strides.
    """
    runs = [read_frames(file, stride_fs, lammps_units=lammps_units) for file in files]
    for run in runs:
        check_motion(run)
    first = runs[0]
    for run in runs[1:]:
        if abs(run.stride_fs - first.stride_fs) > STRIDE_TOLERANCE_FS:
            raise TrajectoryError(
                f"{run.source} has a frame every {run.stride_fs:g} fs, {first.source} "
                f"every {first.stride_fs:g} fs; make a configuration of files with one "
                "stride, or set horizon_fs to a multiple of both yourself"
            )
    systems = _systems(runs)
    period = min(fastest_period_fs(runs[places[0]]) for places in systems)
    resolved = period > 2.5 * first.stride_fs
    if horizon_fs is None:
        horizon_fs = _suited_horizon(period, first.stride_fs)
    for run in runs:
        make_pairs(run, horizon_fs, checks_motion=False)  # refuses odd horizons
    cutoff, neighbors = _suited_cutoff(first)
    names = [_relative(file, folder) for file in files]
    train, validation = _split(names, systems)
    elements = {number for run in runs for number in run.atomic_numbers.tolist()}
    return Suggestion(
        train=train,
        validation=validation,
        stride_fs=first.stride_fs,
        horizon_fs=horizon_fs,
        period_fs=period,
        resolved=resolved,
        cutoff=cutoff,
        neighbors=neighbors,
        surroundings=any(run.pbc.any() for run in runs) and len(elements) > 1,
        n_systems=len(systems),
        description=_description(runs, systems),
    )


def fastest_period_fs(frames: Frames) -> float:
    """Return the period of the fastest vibration that the frames show, fs."""
    velocities = frames.velocities[:FRAMES_LOOKED_AT]
    n_frames = len(velocities)
    window = np.hanning(n_frames)[:, None, None]
    power = np.abs(np.fft.rfft(window * velocities, axis=0)) ** 2
    frequencies = np.fft.rfftfreq(n_frames, frames.stride_fs)
    fastest = 0.0
    for number in np.unique(frames.atomic_numbers):
        of_element = power[:, frames.atomic_numbers == number].sum(axis=(1, 2))
        fastest = max(fastest, _edge(frequencies, of_element))
    return 1.0 / max(fastest, float(frequencies[1]))


def _edge(
    frequencies: Float[np.ndarray, " n"], power: Float[np.ndarray, " n"]
) -> float:
    """Return the frequency below which nearly all power lies."""
    below = np.cumsum(power) / power.sum()
    return float(frequencies[int(np.searchsorted(below, FASTEST_SHARE))])


def _suited_horizon(period_fs: float, stride_fs: float) -> float:
    longest = min(HORIZON_IN_PERIODS * period_fs, LONGEST_HORIZON_FS)
    # Without the noise of sums, to be written in full.
    return round(max(int(longest / stride_fs + 1e-9), 1) * stride_fs, 9)


def _suited_cutoff(frames: Frames) -> tuple[float, float]:
    """Return a cutoff (Å) in steps of a tenth, and the mean number of neighbors."""
    state = state_from_atoms(frames.atoms(0))
    low, high = CUTOFFS
    for cutoff in np.arange(low, high + 0.05, 0.1):
        found = len(find_edges(state, float(cutoff)).receivers) / state.n_atoms
        if found >= NEIGHBORS:
            break
    if not frames.pbc.any():
        cutoff = low
        found = len(find_edges(state, low).receivers) / state.n_atoms
    return round(float(cutoff), 1), found


def _systems(runs: Sequence[Frames]) -> list[list[int]]:
    """Return the places of the runs of each system, in the order of the first."""
    found: dict[tuple[int, ...], list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(tuple(sorted(run.atomic_numbers.tolist())), []).append(place)
    return list(found.values())


def _split(
    files: list[str], systems: list[list[int]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files to train on, and the last ones of each system that has more."""
    held_out = {
        place
        for places in systems
        if len(places) > 1
        for place in places[-max(1, round(HELD_OUT * len(places))) :]
    }
    train = [file for place, file in enumerate(files) if place not in held_out]
    return tuple(train), tuple(files[place] for place in sorted(held_out))


def _relative(file: Path, folder: Path) -> str:
    # The configuration takes patterns: a name with brackets must not be one.
    return glob.escape(os.path.relpath(file, folder))


def _description(runs: Sequence[Frames], systems: list[list[int]]) -> str:
    first = runs[0]
    length = sum((run.n_frames - 1) * run.stride_fs for run in runs) * 1e-3
    kelvin = np.mean([run_temperature(run) for run in runs])
    counts = ", ".join(
        f"{len(places)} run(s) of {_formula(runs[places[0]])}" for places in systems
    )
    text = f"{counts}, {length:.3g} ps, {kelvin:.0f} K"
    if len(systems) == 1 and first.pbc.all():
        text += f", {density(first.atoms(0)):.3g} g/cm3"
    return text


def _formula(frames: Frames) -> str:
    numbers = frames.atomic_numbers.tolist()
    shared = gcd(*(numbers.count(number) for number in set(numbers)))
    parts = [
        chemical_symbols[number] + str(numbers.count(number) // shared)
        for number in sorted(set(numbers))
    ]
    return f"{len(numbers)} atoms ({' '.join(parts)})"


def as_toml(
    found: Suggestion,
    *,
    name: str,
    minutes: float,
    told_stride: float | None,
    lammps_units: str | None,
) -> str:
    """Return a configuration with comments.

    Parameters
    ----------
    found : Suggestion
    name : str
        Of the model and its folder.
    minutes : float
    told_stride : float, fs, or None
        What a user gave since the files do not tell it.
    lammps_units : str or None
    """
    quoted = json.dumps  # strings and lists of JSON are TOML
    data = [f"train = {quoted(list(found.train))}"]
    if found.n_systems > 1:
        data.append("# steps are shared out by pairs: a file named twice counts twice")
    if found.validation:
        data.append(f"validation = {quoted(list(found.validation))}  # another run")
    else:
        data.append(f"validation_fraction = {HELD_OUT}  # the end of each run")
    data.append(f"horizon_fs = {float(found.horizon_fs)!r}  # {_reason(found)}")
    if told_stride is not None:
        told = float(told_stride)
        data.append(f"stride_fs = {told!r}  # of the frames; files do not tell")
    if lammps_units is not None:
        data.append(f"lammps_units = {quoted(lammps_units)}")
    data.append(f"description = {quoted(found.description)}  # add how it was made")
    surroundings = (
        f"surroundings_cutoff = {SURROUNDINGS}  # elements and places of atoms to here"
    )
    if not found.surroundings:
        surroundings = f"# {surroundings}; for charges"
    return f"""\
# Train with: trajcast train {name}.toml
[data]
{chr(10).join(data)}

[network]
cutoff = {found.cutoff:g}  # Å, {found.neighbors:.0f} neighbors of an atom
{surroundings}
n_channels = 32  # fewer are hardly faster, 64 are better and twice as dear
n_layers = 4
edge_mlp = [32, 32]
velocity_mlp = [32, 32]

[optimizer]
minutes = {minutes:g}  # or steps = 20000; the last third brings most of the accuracy
# batch_size = 1  # by default pairs of some 200 atoms in all
learning_rate = 0.1  # 0.2 below 5000 steps; half of it where the loss grows
longest_side = 64

[run]
name = {quoted(name)}
directory = {quoted(f"runs/{name}")}
# device = "cuda"
threads = "measure"
"""


def _reason(found: Suggestion) -> str:
    every = f"frames are {found.stride_fs:g} fs apart"
    if not found.resolved:
        return f"{every}, too far to see the fastest vibration; try several"
    if found.horizon_fs < HORIZON_IN_PERIODS * found.period_fs - found.stride_fs:
        return f"longest that we know to work; {every}"
    return f"the fastest vibration takes about {found.period_fs:.3g} fs; {every}"
