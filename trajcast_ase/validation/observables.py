"""Observables of a run, piece by piece, so that two runs can be compared with odds.

A run is cut into pieces of equal duration. Everything that is compared is computed for
each piece, since the scatter between pieces is what says how far two runs of the same
ensemble may lie apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.formula import Formula
from jaxtyping import Float

from trajcast_ase.analysis.bonds import bond_kinds, bond_lengths, bonded_pairs
from trajcast_ase.analysis.box import Box
from trajcast_ase.analysis.rdf import rdf
from trajcast_ase.analysis.structure import (
    angle_distributions,
    bond_distributions,
    tetrahedral_order,
)
from trajcast_ase.analysis.temperature import element_temperatures, temperature
from trajcast_ase.analysis.vdos import vdos
from trajcast_ase.training.trajectory import Frames

FEWEST_PIECES = 4
"""Fewer say nothing about the scatter between them."""
WINDOW_FS = 1400.0
"""Of spectra."""
R_MAX = 6.0
"""Of radial distributions, Å."""
RDF_BINS = 120
STRUCTURE_FRAMES = 100
"""Of a piece, for bonds, angles, order and radial distributions."""
LAG_SHARE = 0.2
"""Of a piece, after which its mean square displacement is taken."""
WATER = Formula("H2O")


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number for each piece.

    Attributes
    ----------
    unit : str
    pieces : (n_pieces,), unit
    """

    unit: str
    pieces: Float[np.ndarray, " pieces"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve for each piece.

    Attributes
    ----------
    axis : str
        What `x` is, with its unit.
    x : (n_bins,)
        Equally spaced.
    pieces : (n_pieces, n_bins)
        Not negative.
    """

    axis: str
    x: Float[np.ndarray, " bins"]
    pieces: Float[np.ndarray, "pieces bins"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What two runs must share to be compared.

    Attributes
    ----------
    formula : str
        Composition, such as "H128O64".
    volume_A3 : float or None, Å³
        Of a periodic cell.
    stride_fs : float, fs
        Time between frames.
    temperature_K : float or None, K
        Of the thermostat, where it is known.
    """

    formula: str
    volume_A3: float | None
    stride_fs: float
    temperature_K: float | None


@dataclass(frozen=True, slots=True)
class Observables:
    """What a run is judged by.

    Attributes
    ----------
    source : str
        Where the run comes from.
    conditions : Conditions
    piece_fs : float, fs
        Length of a piece.
    length_ps : float, ps
        Of all pieces together.
    n_dof : int
        Degrees of freedom that carry kinetic energy.
    longest_bonds_A : dict of str to float, Å
        Greatest length of each type of bond.
    scalars : dict of str to Scalar
    curves : dict of str to Curve
    """

    source: str
    conditions: Conditions
    piece_fs: float
    length_ps: float
    n_dof: int
    longest_bonds_A: dict[str, float]
    scalars: dict[str, Scalar]
    curves: dict[str, Curve]

    @property
    def n_pieces(self) -> int:
        """Number of pieces."""
        return len(self.scalars["temperature"].pieces)


def observe(
    frames: Frames, piece_fs: float, *, temperature_K: float | None = None
) -> Observables:
    """Return the observables of a run.

    Parameters
    ----------
    frames : Frames
        Equilibrated. What does not fill a piece is left out at the start.
    piece_fs : float, fs
        Length of a piece; longer than the run remembers.
    temperature_K : float, K, optional
        Of the thermostat.

    Raises
    ------
    ValueError
        Fewer than four pieces, or pieces shorter than the window of a spectrum.
    """
    pieces = _pieces(frames, piece_fs)
    atoms = _atoms(frames)
    n_dof = 3 * len(atoms) - (3 if frames.pbc.any() else 6)
    pairs = bonded_pairs(atoms)
    scalars = _thermal(pieces, frames, n_dof) | _structural(pieces, frames, pairs)
    if frames.pbc.any():
        scalars |= _displacements(pieces, frames)
    return Observables(
        source=frames.source,
        conditions=conditions_of(frames, temperature_K),
        piece_fs=len(pieces[0]) * frames.stride_fs,
        length_ps=sum(map(len, pieces)) * frames.stride_fs * 1e-3,
        n_dof=n_dof,
        longest_bonds_A=_longest_bonds(pieces, frames, pairs),
        scalars=scalars,
        curves=_spectra(pieces, frames) | _radial(pieces, frames),
    )


def conditions_of(frames: Frames, temperature_K: float | None = None) -> Conditions:
    """Return the conditions of a run; its file may not tell the temperature."""
    atoms = _atoms(frames)
    return Conditions(
        formula=str(atoms.get_chemical_formula(mode="hill")),
        volume_A3=float(atoms.get_volume()) if frames.pbc.all() else None,
        stride_fs=frames.stride_fs,
        temperature_K=temperature_K,
    )


def _pieces(frames: Frames, piece_fs: float) -> list[range]:
    """Return the frames of each piece."""
    length = round(piece_fs / frames.stride_fs)
    n_pieces = frames.n_frames // length if length > 0 else 0
    if n_pieces < FEWEST_PIECES or length * frames.stride_fs < WINDOW_FS:
        raise ValueError(
            f"{frames.source}: {frames.n_frames} frames every {frames.stride_fs:g} fs "
            f"make {n_pieces} pieces of {piece_fs:g} fs; at least {FEWEST_PIECES} "
            f"pieces of at least {WINDOW_FS:g} fs are needed, so give a longer run"
        )
    first = frames.n_frames - n_pieces * length
    return [
        range(start, start + length) for start in range(first, frames.n_frames, length)
    ]


def _atoms(frames: Frames) -> Atoms:
    """Return the last frame."""
    return Atoms(
        frames.atomic_numbers,
        positions=frames.positions[-1],
        cell=frames.cell,
        pbc=frames.pbc,
    )


def _thermal(pieces: list[range], frames: Frames, n_dof: int) -> dict[str, Scalar]:
    """Return temperature, its standard deviation, and temperatures of elements."""
    total = temperature(frames.velocities, frames.masses, n_dof)
    series = element_temperatures(
        frames.velocities, frames.masses, frames.atomic_numbers, n_dof
    )
    scalars = {
        "temperature": _scalar("K", pieces, total, np.mean),
        "sd of temperature": _scalar("K", pieces, total, np.std),
    }
    if len(series) == 1:  # the same as of all
        return scalars
    for name, values in series.items():
        scalars[f"temperature of {name}"] = _scalar("K", pieces, values, np.mean)
    return scalars


def _scalar(
    unit: str,
    pieces: list[range],
    values: Float[np.ndarray, "frames ..."],
    statistic: Callable[[np.ndarray], np.floating],
) -> Scalar:
    numbers = [float(statistic(values[piece.start : piece.stop])) for piece in pieces]
    return Scalar(unit, np.array(numbers))


def _structural(
    pieces: list[range], frames: Frames, pairs: np.ndarray
) -> dict[str, Scalar]:
    """Return mean and standard deviation of bonds and angles, and order of water."""
    cell, pbc = frames.cell, frames.pbc
    found: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for piece in pieces:
        positions = _thinned(frames.positions, piece)
        numbers = frames.atomic_numbers
        distributions = {
            f"bond {kind}": one
            for kind, one in bond_distributions(
                positions, pairs, numbers, n_blocks=2, cell=cell, pbc=pbc
            ).items()
        } | {
            f"angle {kind}": one
            for kind, one in angle_distributions(
                positions, pairs, numbers, n_blocks=2, cell=cell, pbc=pbc
            ).items()
        }
        for name, one in distributions.items():
            found.setdefault(name, []).append(one.mean.mean)
            found.setdefault(f"sd of {name}", []).append(one.sd.mean)
            units[name] = units[f"sd of {name}"] = one.unit
        if _is_water(frames):
            order = tetrahedral_order(positions, numbers, cell=cell, pbc=pbc)
            found.setdefault("tetrahedral order", []).append(float(order.mean()))
            units["tetrahedral order"] = ""
    return {name: Scalar(units[name], np.array(v)) for name, v in found.items()}


def _thinned(values: np.ndarray, piece: range) -> np.ndarray:
    """Return evenly chosen frames of a piece."""
    every = max(1, len(piece) // STRUCTURE_FRAMES)
    return np.asarray(values[piece.start : piece.stop : every])


def _is_water(frames: Frames) -> bool:
    return (
        bool(frames.pbc.all())
        and Formula(conditions_of(frames).formula).reduce()[0] == WATER
    )


def _displacements(pieces: list[range], frames: Frames) -> dict[str, Scalar]:
    """Return the mean square displacement of each element after part of a piece."""
    lag = max(1, round(LAG_SHARE * len(pieces[0])))
    box = Box.of(frames.cell, frames.pbc)
    symbols = np.array(_atoms(frames).get_chemical_symbols())
    scalars: dict[str, list[float]] = {name: [] for name in sorted(set(symbols))}
    for piece in pieces:
        path = box.unwrap(frames.positions[piece.start : piece.stop])
        path = path - np.average(path, axis=1, weights=frames.masses)[:, None]
        squares = np.square(path[lag:] - path[:-lag]).sum(axis=2).mean(axis=0)
        for name, values in scalars.items():
            values.append(float(squares[symbols == name].mean()))
    after = f"after {lag * frames.stride_fs * 1e-3:.3g} ps"
    return {
        f"MSD of {name} {after}": Scalar("Å²", np.array(values))
        for name, values in scalars.items()
    }


def _longest_bonds(
    pieces: list[range], frames: Frames, pairs: np.ndarray
) -> dict[str, float]:
    """Return the greatest length of each type of bond, one piece at a time."""
    kinds = bond_kinds(pairs, frames.atomic_numbers)
    longest = np.zeros(len(pairs))
    for piece in pieces:
        positions = frames.positions[piece.start : piece.stop]
        lengths = bond_lengths(positions, pairs, cell=frames.cell, pbc=frames.pbc)
        longest = np.maximum(longest, lengths.max(axis=0))
    return {kind: float(longest[rows].max()) for kind, rows in kinds.items()}


def _spectra(pieces: list[range], frames: Frames) -> dict[str, Curve]:
    """Return the vibrational density of states, in total and by element."""
    spectra = [
        vdos(
            frames.velocities[piece.start : piece.stop],
            frames.stride_fs,
            frames.masses,
            frames.atomic_numbers,
            window_fs=WINDOW_FS,
        )
        for piece in pieces
    ]
    frequency, axis = spectra[0].frequency_cm, "wavenumber (cm⁻¹)"
    total = np.stack([one.total for one in spectra])
    curves = {"spectrum": Curve(axis, frequency, total)}
    if len(spectra[0].by_element) == 1:  # the same as of all
        return curves
    for name in spectra[0].by_element:
        share = np.stack([one.by_element[name] for one in spectra])
        curves[f"spectrum of {name}"] = Curve(axis, frequency, share)
    return curves


def _radial(pieces: list[range], frames: Frames) -> dict[str, Curve]:
    """Return the radial distribution functions of a periodic system."""
    if not frames.pbc.all():
        return {}
    results = [
        rdf(
            _thinned(frames.positions, piece),
            frames.atomic_numbers,
            cell=frames.cell,
            pbc=frames.pbc,
            r_max=R_MAX,
            n_bins=RDF_BINS,
            n_blocks=2,
        )
        for piece in pieces
    ]
    return {
        f"g(r) of {pair}": Curve(
            "distance (Å)",
            results[0].distance,
            np.stack([one.g[pair] for one in results]),
        )
        for pair in results[0].g
    }
