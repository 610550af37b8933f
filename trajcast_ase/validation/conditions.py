"""What runs must share to be compared, beside their force field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from trajcast_ase.trajectory import Frames

TOLERANCE = 1e-6
"""Relative, of strides."""
EXTENT_TOLERANCE = 1e-3
"""Relative, of cells that may be compared."""
MASS_TOLERANCE = 0.02
"""Relative; programs round the masses of natural elements, isotopes lie beyond."""
TEMPERATURE_TOLERANCE_K = 0.01
SIDES = ("the run", "the reference")


class NotComparableError(ValueError):
    """Two runs cannot be compared; the text says why."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What two runs must share to be compared.

    Attributes
    ----------
    formula : str
        Composition, such as "H128O64".
    masses_amu : dict of str to float, amu
        Of each element, the mean over its atoms.
    pbc : (3,) of bool
    extent : float or None, Å, Å² or Å³
        Length, area or volume between the periodic vectors; None without any.
    stride_fs : float, fs
        Time between frames.
    temperature_K : float or None, K
        Of the thermostat, where it is known.
    """

    formula: str
    masses_amu: dict[str, float]
    pbc: tuple[bool, bool, bool]
    extent: float | None
    stride_fs: float
    temperature_K: float | None


def conditions_of(frames: Frames, temperature_K: float | None = None) -> Conditions:
    """Return the conditions of a run; its file may not tell the temperature."""
    numbers = frames.atomic_numbers
    vectors = frames.cell[frames.pbc]
    extent = float(np.sqrt(np.linalg.det(vectors @ vectors.T)))
    x, y, z = frames.pbc.tolist()
    return Conditions(
        formula=str(frames.atoms(-1).get_chemical_formula(mode="hill")),
        masses_amu={
            chemical_symbols[number]: float(frames.masses[numbers == number].mean())
            for number in np.unique(numbers)
        },
        pbc=(x, y, z),
        extent=extent if frames.pbc.any() else None,
        stride_fs=frames.stride_fs,
        temperature_K=temperature_K,
    )


def check_comparable(
    run: Conditions, reference: Conditions, names: tuple[str, str] = SIDES
) -> None:
    """Raise for runs that differ by more than the model.

    Parameters
    ----------
    run, reference : Conditions
    names : pair of str
        What the error calls them.

    Raises
    ------
    NotComparableError
    """
    ours, theirs = names
    if run.formula != reference.formula:
        raise NotComparableError(
            f"{ours} is {run.formula}, {theirs} {reference.formula}; compare runs of "
            "the same composition"
        )
    if abs(run.stride_fs / reference.stride_fs - 1) > TOLERANCE:
        raise NotComparableError(
            f"{ours} has a frame every {run.stride_fs:g} fs, {theirs} every "
            f"{reference.stride_fs:g} fs, and spectra depend on it; write both at one "
            "stride (trajcast run writes every stride with --interval 1)"
        )
    _check_masses(run, reference, names)
    _check_cells(run, reference, names)
    kelvin, wanted = run.temperature_K, reference.temperature_K
    if kelvin is None or wanted is None:
        return
    if abs(kelvin - wanted) > TEMPERATURE_TOLERANCE_K:
        raise NotComparableError(
            f"the thermostat of {ours} keeps {kelvin:g} K, that of {theirs} "
            f"{wanted:g} K; compare runs at one temperature"
        )


def _check_masses(
    run: Conditions, reference: Conditions, names: tuple[str, str]
) -> None:
    for symbol, mass in run.masses_amu.items():
        wanted = reference.masses_amu[symbol]
        if abs(mass / wanted - 1) > MASS_TOLERANCE:
            raise NotComparableError(
                f"{symbol} weighs {mass:.4g} amu in {names[0]}, {wanted:.4g} in "
                f"{names[1]}, and all motion depends on it; compare runs of the same "
                "isotopes"
            )


def _check_cells(
    run: Conditions, reference: Conditions, names: tuple[str, str]
) -> None:
    if run.pbc != reference.pbc:
        raise NotComparableError(
            f"the periodic axes of {names[0]} are {list(run.pbc)}, those of {names[1]} "
            f"{list(reference.pbc)}; set pbc and cell alike"
        )
    extent, wanted = run.extent, reference.extent
    if extent is None or wanted is None:
        return
    if abs(extent / wanted - 1) > EXTENT_TOLERANCE:
        unit = ("Å", "Å²", "Å³")[sum(run.pbc) - 1]
        raise NotComparableError(
            f"the cell of {names[0]} has {extent:.1f} {unit} along its periodic axes, "
            f"that of {names[1]} {wanted:.1f} {unit}; compare runs at one density"
        )
