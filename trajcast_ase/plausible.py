"""Whether frames can be those of an MD run: elements, masses, cell, values, units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from trajcast_ase.units import EV_PER_AMU_A2_FS2, KB

if TYPE_CHECKING:  # frames are read by the module that asks for these checks
    from trajcast_ase.trajectory import Frames

FARTHEST = 1e7
"""Å; beyond it float64 has no room for displacements."""
TEMPERATURES_K = (1e-2, 1e5)
"""Outside, velocities are in other units: the usual ones differ by 1000 or more."""
MASS_FACTOR = 5.0
"""Isotopes and repartitioned hydrogen stay below it."""


class ImplausibleError(ValueError):
    """Frames are none of an MD run; the text says why, without the file."""


def check_plausible(frames: Frames) -> None:
    """Refuse frames that no MD run has written.

    Raises
    ------
    ImplausibleError
        Unknown elements, masses of others, a cell without extent, values that are not
        finite, a frame that stands twice, or velocities in other units.
    """
    _check_system(frames)
    _check_values(frames)
    _check_repeats(frames)
    _check_temperature(frames)


def _check_system(frames: Frames) -> None:
    """Refuse atoms and cells that no MD has."""
    numbers = frames.atomic_numbers
    if len(numbers) == 0:
        raise ImplausibleError("there are no atoms")
    real = (numbers > 0) & (numbers < len(atomic_masses))
    if not real.all():
        raise ImplausibleError(
            f"atom {int(np.argmin(real))} has the atomic number "
            f"{numbers[np.argmin(real)]}, which no element has; name the elements"
        )
    usual = atomic_masses[numbers]
    near = (frames.masses > usual / MASS_FACTOR) & (frames.masses < usual * MASS_FACTOR)
    if not near.all():
        bad = int(np.argmin(near))
        raise ImplausibleError(
            f"the mass of atom {bad} ({chemical_symbols[numbers[bad]]}) is "
            f"{frames.masses[bad]:g} amu, more than a factor of {MASS_FACTOR:g} from "
            f"the {usual[bad]:g} of its element; correct the masses"
        )
    vectors = frames.cell[frames.pbc]
    if not np.isfinite(frames.cell).all() or (
        len(vectors) and np.linalg.matrix_rank(vectors) < len(vectors)
    ):
        raise ImplausibleError(
            f"the cell {frames.cell.tolist()} has no extent along a periodic "
            "axis; write the cell, or frames that are not periodic"
        )


def _check_values(frames: Frames) -> None:
    """Refuse positions and velocities that are not finite."""
    for name in ("positions", "velocities"):
        values = getattr(frames, name)
        finite = (np.abs(values) < FARTHEST).all(axis=(1, 2))
        if not finite.all():
            raise ImplausibleError(
                f"{name} of frame {int(np.argmin(finite))} are not "
                f"finite, or beyond {FARTHEST:g}; cut the trajectory before it"
            )


def _check_repeats(frames: Frames) -> None:
    """Refuse a frame that is the one before it, as where a run was appended."""
    same = (frames.positions[1:] == frames.positions[:-1]).all(axis=(1, 2))
    same &= (frames.velocities[1:] == frames.velocities[:-1]).all(axis=(1, 2))
    if same.any():
        first = int(np.argmax(same))
        raise ImplausibleError(
            f"frames {first} and {first + 1} are the same; a run that "
            "goes on in the file of an earlier one repeats its last frame, so leave "
            f"frame {first + 1} out"
        )


def _check_temperature(frames: Frames) -> None:
    """Refuse velocities in other units than the reader takes them for."""
    twice_kinetic = np.einsum("fac,a->f", frames.velocities**2, frames.masses).mean()
    n_dof = 3 * len(frames.masses)
    kelvin = float(twice_kinetic * EV_PER_AMU_A2_FS2 / (n_dof * KB))
    low, high = TEMPERATURES_K
    if not low < kelvin < high:
        raise ImplausibleError(
            f"the velocities are those of a temperature of "
            f"{kelvin:.3g} K, outside {low:g} to {high:g} K; they are missing or in "
            "other units (of a LAMMPS dump: lammps_units, --lammps-units)"
        )
