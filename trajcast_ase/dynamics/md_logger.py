"""ASE's log table for dynamics that may have no calculator."""

from __future__ import annotations

import math
from typing import Any

from ase.md.logger import MDLogger
from ase.units import GPa

from trajcast_ase.units import FS

N_STRESSES = 6


class ForceFreeLogger(MDLogger):
    """An MDLogger with the temperature of the dynamics, and without a calculator.

    ``T[K]`` is ``dyn.get_temperature()``: MDLogger's divides by 3 N, so that a molecule
    of 20 atoms at 300 K reads 270 K. Energies without a calculator are ``nan``: files
    keep their columns, and no number pretends to be an energy. Parameters as for
    :class:`ase.md.logger.MDLogger`; `dyn` is a :class:`.TrajCast`.
    """

    def __call__(self) -> None:
        """Write one row."""
        potential = math.nan
        if self.atoms.calc is not None:
            potential = self.atoms.get_potential_energy()
        kinetic = self.atoms.get_kinetic_energy()
        if self.peratom:
            n_atoms = self.atoms.get_global_number_of_atoms()
            potential, kinetic = potential / n_atoms, kinetic / n_atoms
        dynamics: Any = self.dyn
        time_ps = dynamics.get_time() / (1000 * FS)
        row = [time_ps, potential + kinetic, potential, kinetic]
        row.append(dynamics.get_temperature())
        if self.stress:
            row += self._stresses()
        self.logfile.write(self.fmt % tuple(row))
        self.logfile.flush()

    def _stresses(self) -> list[float]:
        """Return the stress with the ideal gas, GPa."""
        if self.atoms.calc is None:
            return [math.nan] * N_STRESSES
        return list(self.atoms.get_stress(include_ideal_gas=True) / GPa)
