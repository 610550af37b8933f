"""ASE's log table for dynamics that may have no calculator."""

from __future__ import annotations

import math

from ase.md.logger import MDLogger

from trajcast_ase.units import FS

N_STRESSES = 6


class ForceFreeLogger(MDLogger):
    """An MDLogger that writes ``nan`` for energies without a calculator.

    Files keep their columns, and no number pretends to be an energy. Parameters as for
    :class:`ase.md.logger.MDLogger`.
    """

    def __call__(self) -> None:
        """Write one row."""
        if self.atoms.calc is not None:
            super().__call__()  # type: ignore[no-untyped-call]  # ASE
            return
        kinetic = self.atoms.get_kinetic_energy()
        if self.peratom:
            kinetic /= self.atoms.get_global_number_of_atoms()
        row = [math.nan, math.nan, kinetic, self.atoms.get_temperature()]
        if self.dyn is not None:
            row.insert(0, self.dyn.get_time() / (1000 * FS))
        if self.stress:
            row += [math.nan] * N_STRESSES
        self.logfile.write(self.fmt % tuple(row))
        self.logfile.flush()
