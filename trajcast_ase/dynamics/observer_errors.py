"""What to do where an observer asks for energies that a forecast does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ase import Atoms

NO_CALCULATOR = "no calculator"
"""In the text of the RuntimeError that ASE raises."""


@contextmanager
def explained(atoms: Atoms) -> Iterator[None]:
    """Say what helps where an observer misses a calculator, as ASE's tutorials do."""
    try:
        yield
    except RuntimeError as error:
        if atoms.calc is not None or NO_CALCULATOR not in str(error):
            raise
        raise RuntimeError(
            "an observer asks for an energy or forces, but the Atoms have no "
            "calculator, and a forecast knows neither; take TrajCast(logfile='-') in "
            "place of MDLogger (its energies are nan), print get_kinetic_energy() and "
            "get_temperature() only, or set atoms.calc, which is asked for energies "
            "when an observer is due"
        ) from error
