"""Segments of MD with forces: thermostatted or at constant energy, and resumable.

A segment begins where another one ended. Its random numbers are those of its seed and
of the number of the frame, so that a segment which was interrupted at any frame goes
on as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.md.verlet import VelocityVerlet

from trajcast_ase.conservation import Conservation
from trajcast_ase.distill.journal import (
    FLUSH_FRAMES,
    FLUSH_S,
    Attributes,
    Frame,
    Journal,
    journal_path,
    last_frame,
    write_trajectory,
)
from trajcast_ase.files import sole_writer
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import ase_momenta, state_from_atoms, velocities_from_atoms
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.thermostats.thermostat import Thermostat, thermalize
from trajcast_ase.units import FS

Kind = Literal["strong", "weak", "canonical", "nve"]
STRONG_FS = 100.0
"""Time constant of the Langevin bath that equilibrates."""
THERMOSTAT_FS = 25.0
"""Time between two actions of a bath, about, but in canonical runs."""
WEAK_FS, RESCALING_FS = 5000.0, 500.0
"""Of Langevin and CSVR of canonical runs: too weak to be seen in a spectrum."""


class MDError(ValueError):
    """The MD itself failed; the text says how."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of MD, written to a file of its own.

    Attributes
    ----------
    name : str
        Of the file, without suffix.
    start : str or None
        Name of the segment at whose end it begins; None: the structure, with
        velocities drawn at its temperature.
    kind : "strong", "weak", "canonical" or "nve"
        Thermostat: strongly coupled (to equilibrate), weakly coupled, the same but
        seldom, so that between its actions there are pairs to learn from, or none.
    n_frames : int
    seed : int
    temperature_K : float, K
        Of the thermostat, or of the velocities that are drawn.
    can_be_left_out : bool
        Where the time is over, with all after it.
    """

    name: str
    start: str | None
    kind: Kind
    n_frames: int
    seed: int
    temperature_K: float
    can_be_left_out: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """What all segments share.

    Attributes
    ----------
    atoms : Atoms
        The structure, without calculator.
    timestep_fs : float, fs
    frame_steps : int
        Time steps between two frames.
    folder : Path
    kick_frames : int
        Frames between two actions of the bath of a canonical run.
    """

    atoms: Atoms
    timestep_fs: float
    frame_steps: int
    folder: Path
    kick_frames: int = 1

    @property
    def stride_fs(self) -> float:
        """Time between frames, fs."""
        return self.timestep_fs * self.frame_steps

    def path(self, name: str) -> Path:
        """Return the file of a segment."""
        return self.folder / f"{name}.h5"

    def frames_between_kicks(self, kind: Kind) -> int | None:
        """Return after how many frames a thermostat acts again; None: never."""
        if kind == "nve":
            return None
        if kind == "canonical":
            return self.kick_frames
        return max(1, round(THERMOSTAT_FS / self.stride_fs))


def run_segments(
    setup: Setup,
    segments: Sequence[Segment],
    calculator: Any,
    tick: Callable[[int], None],
    late: Callable[[], bool],
) -> None:
    """Run segments in order; what is on disk already is not run again.

    Parameters
    ----------
    setup : Setup
    segments : sequence of Segment
    calculator : ASE calculator
    tick : callable of the number of frames made, called after each frame
    late : callable
        Whether the time is over, after which segments that can be left out are.

    Raises
    ------
    MDError
        Energy or positions ceased to be finite, or the calculator failed.
    """
    for segment in segments:
        if segment.can_be_left_out and late():
            return
        if not setup.path(segment.name).exists():
            _run(setup, segment, calculator, tick)


def _run(
    setup: Setup, segment: Segment, calculator: Any, tick: Callable[[int], None]
) -> None:
    path = setup.path(segment.name)
    attributes: Attributes = {
        "ensemble": "nve" if segment.kind == "nve" else "nvt",
        "temperature_K": segment.temperature_K,
        "timestep_fs": setup.timestep_fs,
        "stride_fs": setup.stride_fs,
        "n_frames": segment.n_frames,
        "seed": segment.seed,
    }
    atoms = setup.atoms.copy()
    atoms.calc = calculator
    part = journal_path(path)
    with sole_writer(part), Journal(part, len(atoms), attributes) as journal:
        _place(atoms, setup, segment, journal)
        with VelocityVerlet(atoms, setup.timestep_fs * FS) as verlet:
            flushed = time.monotonic()
            if journal.n_frames == 0:
                journal.append(_frame(atoms, segment))
                tick(1)
            while journal.n_frames < segment.n_frames:
                _advance(verlet, setup, segment, journal.n_frames)
                journal.append(_frame(atoms, segment))
                now = time.monotonic()
                if now - flushed > FLUSH_S or journal.n_frames % FLUSH_FRAMES == 0:
                    journal.flush()
                    flushed = now
                tick(1)
        frames = journal.frames()
    records = {name: frames[name] for name in frames.dtype.names or ()}
    every = setup.frames_between_kicks(segment.kind)
    if every is not None:
        records["kicks"] = np.arange(every, segment.n_frames, every)
    write_trajectory(path, setup.atoms, records, setup.stride_fs, attributes)
    part.unlink()


def _place(atoms: Atoms, setup: Setup, segment: Segment, journal: Journal) -> None:
    """Give `atoms` the positions and velocities that a segment goes on from."""
    if journal.n_frames:
        frame = journal.last()
    elif segment.start is not None:
        frame = last_frame(setup.path(segment.start))
    else:
        rng = np.random.default_rng([segment.seed, 0])
        draw_momenta(atoms, segment.temperature_K, rng)
        return
    _set_frame(atoms, frame)


def _set_frame(atoms: Atoms, frame: Frame) -> None:
    atoms.set_positions(frame.positions)
    atoms.set_momenta(frame.velocities / FS * atoms.get_masses()[:, None])


def _advance(
    verlet: VelocityVerlet, setup: Setup, segment: Segment, number: int
) -> None:
    """Make the steps to the next frame."""
    try:
        verlet.run(setup.frame_steps)
    except Exception as error:
        raise MDError(
            f"the calculator failed in segment {segment.name} at frame {number} "
            f"({type(error).__name__}: {error}); the frames before are kept, the same "
            "command goes on from them"
        ) from error
    every = setup.frames_between_kicks(segment.kind)
    if every is not None and number % every == 0:
        rng = np.random.default_rng([segment.seed, number])
        time_fs = every * setup.stride_fs
        thermostat(verlet.atoms, segment.temperature_K, time_fs, segment.kind, rng)


def thermostat(
    atoms: Atoms,
    temperature_K: float,
    time_fs: float,
    kind: Kind,
    rng: np.random.Generator,
) -> None:
    """Change the momenta of `atoms` as a bath does in `time_fs`.

    The package's thermostats count the degrees of freedom that can move; ASE's heat a
    system at rest by N / (N - 1).
    """
    members: list[Thermostat]
    if kind == "strong":
        members = [Langevin(temperature_K, 1 / (STRONG_FS * FS), rng)]
    else:
        members = [
            Langevin(temperature_K, 1 / (WEAK_FS * FS), rng),
            CSVR(temperature_K, RESCALING_FS * FS, rng),
        ]
    state = state_from_atoms(atoms)
    changed = thermalize(
        members, state, Conservation(), time=0.0, timestep=time_fs * FS
    )
    atoms.set_momenta(ase_momenta(changed).numpy())


def _frame(atoms: Atoms, segment: Segment) -> Frame:
    potential = float(atoms.get_potential_energy())
    kinetic = float(atoms.get_kinetic_energy())
    if not (np.isfinite(potential + kinetic) and np.isfinite(atoms.positions).all()):
        raise MDError(
            f"the energy in segment {segment.name} is no longer finite: the system "
            "flies apart; relax the structure, or shorten --timestep"
        )
    frame = Frame(
        atoms.positions.copy(), velocities_from_atoms(atoms), potential, kinetic
    )
    # Rounded as they are on disk, so that a run goes on alike with and without a stop.
    _set_frame(atoms, frame)
    return frame
