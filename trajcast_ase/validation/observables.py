"""Observables of runs, piece by piece, so that two sides can be compared with odds.

A run is cut into pieces of equal duration. Everything that is compared is computed for
each piece, since the scatter between pieces is what says how far two runs of the same
ensemble may lie apart. Several runs of one ensemble are pooled: their pieces stand one
run after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from trajcast_ase.kinetics import run_dof, thermal_velocities
from trajcast_ase.trajectory import Frames
from trajcast_ase.validation.bands import band_edges
from trajcast_ase.validation.bath_memory import bath_memory_fs
from trajcast_ase.validation.conditions import (
    TOLERANCE,
    Conditions,
    check_comparable,
    conditions_of,
)
from trajcast_ase.validation.quantities import (
    WINDOW_FS,
    Curve,
    Scalar,
    displacements,
    radial,
    spectra,
    structural,
    thermal,
)
from trajcast_ase.validation.topology import Topology, topology_of, watch_bonds

FEWEST_PIECES = 4
"""Fewer say nothing about the scatter between them."""


@dataclass(frozen=True, slots=True)
class Observables:
    """What one run, or several of one ensemble, are judged by.

    Attributes
    ----------
    source : str
        Where the runs come from.
    conditions : Conditions
    piece_fs : float, fs
        Length of a piece.
    length_ps : float, ps
        Of all pieces together.
    n_dof : int
        Degrees of freedom that carry kinetic energy.
    run_pieces : tuple of int
        Number of pieces of each run.
    topology : Topology
        Bonds that the runs are held to.
    longest_bonds_A : dict of str to float, Å
        Greatest length of each type of bond, in any frame.
    n_exchanged : int
        Bonds with an atom that was nearer to another partner, in any frame.
    bands_cm : tuple of float, cm⁻¹
        Edges of the bands of the spectrum.
    bath_memory_fs : float or None, fs
        Of :func:`.bath_memory_fs`, the shortest of the runs.
    scalars : dict of str to Scalar
    curves : dict of str to Curve
    """

    source: str
    conditions: Conditions
    piece_fs: float
    length_ps: float
    n_dof: int
    run_pieces: tuple[int, ...]
    topology: Topology
    longest_bonds_A: dict[str, float]
    n_exchanged: int
    bands_cm: tuple[float, ...]
    bath_memory_fs: float | None
    scalars: dict[str, Scalar]
    curves: dict[str, Curve]

    @property
    def n_pieces(self) -> int:
        """Number of pieces of all runs."""
        return sum(self.run_pieces)

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return len(self.run_pieces)

    def by_run(
        self, pieces: Float[np.ndarray, pieces * bins]
    ) -> list[Float[np.ndarray, run_pieces * bins]]:
        """Return the pieces of each run."""
        return np.split(pieces, np.cumsum(self.run_pieces)[:-1])


def observe(
    frames: Frames,
    piece_fs: float,
    *,
    temperature_K: float | None = None,
    topology: Topology | None = None,
) -> Observables:
    """Return the observables of a run.

    Parameters
    ----------
    frames : Frames
        Equilibrated. What does not fill a piece is left out at the start, but its bonds
        count.
    piece_fs : float, fs
        Length of a piece.
    temperature_K : float, K, optional
        Of the thermostat.
    topology : Topology, optional
        Of the reference; default: the run's own bonds.

    Raises
    ------
    ValueError
        Fewer than four pieces, pieces shorter than the window of a spectrum, no motion
        that has a temperature, or atoms in another order than those of `topology`.
    """
    pieces = _pieces(frames, piece_fs)
    n_dof = run_dof(frames)
    if n_dof == 0:
        raise ValueError(
            f"{frames.source} is a single isolated atom, which has no temperature; "
            "give a run of at least two atoms"
        )
    if topology is None:
        topology = topology_of(frames)
    else:
        topology.check(frames)
    bonds = watch_bonds(frames, topology)
    memory_fs = bath_memory_fs(frames)
    frames = replace(frames, velocities=thermal_velocities(frames))
    scalars = thermal(pieces, frames, n_dof)
    scalars |= structural(pieces, frames, topology.pairs)
    scalars |= displacements(pieces, frames)
    curves = spectra(pieces, frames) | radial(pieces, frames)
    whole = curves["spectrum"]
    return Observables(
        source=frames.source,
        conditions=conditions_of(frames, temperature_K),
        piece_fs=len(pieces[0]) * frames.stride_fs,
        length_ps=sum(map(len, pieces)) * frames.stride_fs * 1e-3,
        n_dof=n_dof,
        run_pieces=(len(pieces),),
        topology=topology,
        longest_bonds_A=bonds.longest_A,
        n_exchanged=bonds.n_exchanged,
        bands_cm=band_edges(whole.x, whole.pieces.mean(axis=0)),
        bath_memory_fs=memory_fs,
        scalars=scalars,
        curves=curves,
    )


def pool(runs: Sequence[Observables]) -> Observables:
    """Return the observables of several runs of one ensemble as those of one side.

    Raises
    ------
    ValueError
        No runs, or runs of other conditions, pieces or bonds.
    """
    if not runs:
        raise ValueError("there are no runs to pool; give at least one")
    first = runs[0]
    for one in runs[1:]:
        _check_alike(first, one)
    if len(runs) == 1:
        return first
    scalars = {
        name: replace(
            one, pieces=np.concatenate([run.scalars[name].pieces for run in runs])
        )
        for name, one in first.scalars.items()
    }
    curves = {
        name: replace(
            one, pieces=np.concatenate([run.curves[name].pieces for run in runs])
        )
        for name, one in first.curves.items()
    }
    whole = curves["spectrum"]
    return replace(
        first,
        source=", ".join(run.source for run in runs),
        length_ps=sum(run.length_ps for run in runs),
        run_pieces=tuple(n for run in runs for n in run.run_pieces),
        longest_bonds_A={
            kind: max(run.longest_bonds_A[kind] for run in runs)
            for kind in first.longest_bonds_A
        },
        n_exchanged=sum(run.n_exchanged for run in runs),
        bands_cm=band_edges(whole.x, whole.pieces.mean(axis=0)),
        bath_memory_fs=min(
            (run.bath_memory_fs for run in runs if run.bath_memory_fs is not None),
            default=None,
        ),
        scalars=scalars,
        curves=curves,
    )


def _check_alike(first: Observables, other: Observables) -> None:
    """Refuse to pool runs that differ by more than chance."""
    names = first.source, other.source
    check_comparable(first.conditions, other.conditions, names)
    if abs(other.piece_fs / first.piece_fs - 1) > TOLERANCE:
        raise ValueError(
            f"{names[0]} is cut into pieces of {first.piece_fs:g} fs, {names[1]} into "
            f"pieces of {other.piece_fs:g} fs; cut them alike"
        )
    if not np.array_equal(first.topology.pairs, other.topology.pairs):
        raise ValueError(
            f"{first.source} and {other.source} have other bonds; observe them with "
            "one topology"
        )


def _pieces(frames: Frames, piece_fs: float) -> list[range]:
    """Return the frames of each piece."""
    length = round(piece_fs / frames.stride_fs)
    n_pieces = frames.n_frames // length if length > 0 else 0
    if n_pieces < FEWEST_PIECES or length * frames.stride_fs < WINDOW_FS:
        raise ValueError(
            f"{frames.source}: {frames.n_frames} frames every {frames.stride_fs:g} fs "
            f"make {n_pieces} pieces of {piece_fs:g} fs; at least {FEWEST_PIECES} "
            f"pieces of at least {WINDOW_FS:g} fs are needed: "
            f"{1e-3 * FEWEST_PIECES * max(piece_fs, WINDOW_FS):.3g} ps with pieces as "
            "long as these. Give a longer run, or a reference in shorter pieces (of "
            "the bundled ones paracetamol-short has 3 ps, as the demo needs; of "
            "trajectories --piece sets them)"
        )
    first = frames.n_frames - n_pieces * length
    return [
        range(start, start + length) for start in range(first, frames.n_frames, length)
    ]
