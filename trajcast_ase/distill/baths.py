"""The thermostats that a model may recommend, from the weakest on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from trajcast_ase.analysis.molecules import find_molecules
from trajcast_ase.strict import number
from trajcast_ase.thermostats.recommended import HORIZONS
from trajcast_ase.thermostats.setting import ThermostatSetting

LANGEVIN_FS = (5000.0, 2000.0, 1000.0, 500.0)
"""Time constants to try, the weakest bath first."""
TRIED: tuple[tuple[float, ...], ...] = (
    (),
    (1000.0,),
    (2000.0, 500.0),
    (5000.0, 1000.0, 500.0),
    LANGEVIN_FS,
)
"""Time constants by how many there is time for."""


@dataclass(frozen=True, slots=True)
class Bath:
    """A thermostat that returns energy to where forecasts lose it.

    Attributes
    ----------
    langevin_fs : float or None, fs
        Time constant of Langevin, which goes before CSVR. None is MolecularCSVR alone,
        without friction.
    """

    langevin_fs: float | None

    def __str__(self) -> str:
        """Return its name for people."""
        if self.langevin_fs is None:
            return "MolecularCSVR"
        return f"Langevin {self.langevin_fs:g} fs"

    @property
    def weakness_fs(self) -> float:
        """Time that its friction takes; infinite without any."""
        return math.inf if self.langevin_fs is None else self.langevin_fs

    @property
    def number(self) -> int:
        """Its place among those that are tried, for seeds and folders."""
        if self.langevin_fs is None:
            return len(LANGEVIN_FS)
        return LANGEVIN_FS.index(self.langevin_fs)

    def setting(self, horizon_fs: float, chosen_by: str = "") -> ThermostatSetting:
        """Return what a model file stores."""
        taut = HORIZONS * horizon_fs
        if self.langevin_fs is None:
            only = {"kind": "MolecularCSVR", "time_constant_fs": taut}
            return ThermostatSetting((only,), chosen_by)
        members = (
            {"kind": "Langevin", "time_constant_fs": self.langevin_fs},
            {"kind": "CSVR", "time_constant_fs": taut},
        )
        return ThermostatSetting(members, chosen_by)


UNTRIED = Bath(1000.0)
"""Where there is no time to try any."""


def stored_bath(value: Any) -> Bath:
    """Return the bath of a stored time constant; null is MolecularCSVR.

    Raises
    ------
    ValueError
        Neither null nor a number that is not negative.
    """
    return Bath(None if value is None else number(value, "langevin_fs", 0))


def baths_to_try(n_baths: int, *, of_molecules: bool) -> tuple[Bath, ...]:
    """Return the baths that there is time for, the weakest first.

    Parameters
    ----------
    n_baths : int
        At most; one alone is no choice, and none are returned.
    of_molecules : bool
        Whether MolecularCSVR can be among them; see :func:`is_of_molecules`.
    """
    if n_baths <= 1:
        return ()
    without = min(n_baths - of_molecules, len(LANGEVIN_FS))
    first = (Bath(None),) if of_molecules else ()
    return (*first, *map(Bath, TRIED[without]))


def most_baths(atoms: Atoms) -> int:
    """Return how many baths there are to try for a system."""
    return len(LANGEVIN_FS) + is_of_molecules(atoms)


def is_of_molecules(atoms: Atoms) -> bool:
    """Return whether MolecularCSVR has molecules to act on.

    That is a periodic system of at least two molecules, one of them of several atoms.
    """
    if not atoms.pbc.any():
        return False
    try:
        found = find_molecules(
            atoms.positions, atoms.numbers, cell=atoms.cell.array, pbc=atoms.pbc
        )
    except ValueError:  # a network that goes through the cell
        return False
    return 1 < len(found.members) < len(atoms)
