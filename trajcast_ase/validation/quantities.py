"""Numbers and curves of each piece of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula
from jaxtyping import Float, Int

from trajcast_ase.analysis.bonds import bond_kinds, bond_lengths
from trajcast_ase.analysis.rdf import rdf
from trajcast_ase.analysis.structure import (
    angle_kinds,
    angle_triplets,
    angles,
    tetrahedral_order,
)
from trajcast_ase.analysis.temperature import element_temperatures, temperature
from trajcast_ase.analysis.vdos import vdos
from trajcast_ase.box import Box
from trajcast_ase.trajectory import Frames

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


WAVENUMBER = "wavenumber (cm⁻¹)"
"""Axis of spectra, which are densities: their integral over it is one."""


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


def thermal(pieces: list[range], frames: Frames, n_dof: int) -> dict[str, Scalar]:
    """Return temperature, its standard deviation, and temperatures of elements."""
    total = temperature(frames.velocities, frames.masses, n_dof)
    series = element_temperatures(
        frames.velocities, frames.masses, frames.atomic_numbers, n_dof
    )
    scalars = {
        "temperature": Scalar("K", _means(pieces, total)),
        "sd of temperature": Scalar("K", _spreads(pieces, total)),
    }
    if len(series) == 1:  # the same as of all
        return scalars
    for name, values in series.items():
        scalars[f"temperature of {name}"] = Scalar("K", _means(pieces, values))
    return scalars


def _means(
    pieces: list[range], values: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, " pieces"]:
    return np.array([values[piece.start : piece.stop].mean() for piece in pieces])


def _spreads(
    pieces: list[range], values: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, " pieces"]:
    """Return what the standard deviation of a run would be by each of its pieces.

    Their mean is that of the run, and their scatter gives its error. The spread within
    a piece would be too small where a bath lets the temperature drift for as long as a
    piece, and so tell a weak bath from a strong one of the same ensemble.
    """
    squares = _means(pieces, np.square(values - _means(pieces, values).mean()))
    whole = float(np.sqrt(squares.mean()))
    return whole + (squares - squares.mean()) / (2.0 * whole) if whole > 0 else squares


def structural(
    pieces: list[range], frames: Frames, pairs: Int[np.ndarray, "bonds 2"]
) -> dict[str, Scalar]:
    """Return mean and standard deviation of bonds and angles, and order of water."""
    box, numbers = Box.of(frames.cell, frames.pbc), frames.atomic_numbers
    triplets = angle_triplets(pairs)
    bonds, corners = bond_kinds(pairs, numbers), angle_kinds(triplets, numbers)
    found: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for piece in pieces:
        positions = _thinned(frames.positions, piece)
        lengths = bond_lengths(positions, pairs, cell=frames.cell, pbc=frames.pbc)
        degrees = angles(positions, triplets, box)
        values = {f"bond {kind}": lengths[:, rows] for kind, rows in bonds.items()}
        values |= {f"angle {kind}": degrees[:, rows] for kind, rows in corners.items()}
        for name, one in values.items():
            found.setdefault(name, []).append(float(one.mean()))
            found.setdefault(f"sd of {name}", []).append(float(one.std()))
            unit = "Å" if name.startswith("bond") else "°"
            units[name] = units[f"sd of {name}"] = unit
        if _is_water(frames):
            order = _order(positions, frames)
            found.setdefault("tetrahedral order", []).append(order)
            units["tetrahedral order"] = ""
    return {name: Scalar(units[name], np.array(v)) for name, v in found.items()}


def _thinned(values: np.ndarray, piece: range) -> np.ndarray:
    """Return evenly chosen frames of a piece."""
    every = max(1, len(piece) // STRUCTURE_FRAMES)
    return np.asarray(values[piece.start : piece.stop : every])


def _order(positions: Float[np.ndarray, "frames atoms 3"], frames: Frames) -> float:
    """Return the mean tetrahedral order of water."""
    numbers, cell, pbc = frames.atomic_numbers, frames.cell, frames.pbc
    try:
        order = tetrahedral_order(positions, numbers, cell=cell, pbc=pbc)
    except ValueError:
        # A liquid that has come apart; at the edge of the cell each atom has images.
        edge = 1.01 * float(np.linalg.norm(cell, axis=1).max())
        order = tetrahedral_order(positions, numbers, cell=cell, pbc=pbc, reach=edge)
    return float(order.mean())


def _is_water(frames: Frames) -> bool:
    return (
        bool(frames.pbc.all())
        and Formula(frames.atoms(-1).get_chemical_formula()).reduce()[0] == WATER
    )


def displacements(pieces: list[range], frames: Frames) -> dict[str, Scalar]:
    """Return the mean square displacement of each element of a periodic system.

    After part of a piece, relative to the center of mass, or to fixed atoms.
    """
    if not frames.pbc.any():
        return {}
    lag = max(1, round(LAG_SHARE * len(pieces[0])))
    box, held = Box.of(frames.cell, frames.pbc), frames.fixed.any()
    symbols = np.array(frames.atoms(-1).get_chemical_symbols())
    scalars: dict[str, list[float]] = {name: [] for name in sorted(set(symbols))}
    for piece in pieces:
        path = box.unwrap(frames.positions[piece.start : piece.stop])
        if not held:
            path = path - np.average(path, axis=1, weights=frames.masses)[:, None]
        squares = np.square(path[lag:] - path[:-lag]).sum(axis=2).mean(axis=0)
        for name, values in scalars.items():
            values.append(float(squares[symbols == name].mean()))
    after = f"after {lag * frames.stride_fs * 1e-3:.3g} ps"
    return {
        f"MSD of {name} {after}": Scalar("Å²", np.array(values))
        for name, values in scalars.items()
    }


def spectra(pieces: list[range], frames: Frames) -> dict[str, Curve]:
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
    frequency, axis = spectra[0].frequency_cm, WAVENUMBER
    total = np.stack([one.total for one in spectra])
    curves = {"spectrum": Curve(axis, frequency, total)}
    if len(spectra[0].by_element) == 1:  # the same as of all
        return curves
    symbols = np.array(chemical_symbols)[frames.atomic_numbers]
    for name in sorted(set(symbols[~frames.fixed])):
        share = np.stack([one.by_element[name] for one in spectra])
        curves[f"spectrum of {name}"] = Curve(axis, frequency, share)
    return curves


def radial(pieces: list[range], frames: Frames) -> dict[str, Curve]:
    """Return the radial distribution functions of a system with three periodic axes."""
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
