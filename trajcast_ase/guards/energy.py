"""A guard that asks the potential: one energy for each stride, no forces.

Where the potential that a model learnt is at hand, a stride tells its own error: before
thermostats act, the total energy must not change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from trajcast_ase.guards.host import first_atoms, host
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.kinetics import kinetic_energies
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel


class EnergyChange:
    """The total energy of each system changes by no more than a limit.

    It costs one evaluation of the potential for each look at each system, against one
    for each small time step of conventional MD. With a ``ForceFallback`` strides that
    fail it are made by forces, so that even a poor model heats by less than the
    thermostat takes out.

    Parameters
    ----------
    calculator : Calculator
        Of the potential that the model learnt.
    limit_eV : float
        Per stride, for a system as a whole. A tenth of kT for each ten degrees of
        freedom is strict.
    every : int

    Raises
    ------
    ValueError
        A limit that is not positive and finite.
    """

    def __init__(self, calculator: Calculator, limit_eV: float, every: int = 1) -> None:
        if not (math.isfinite(limit_eV) and limit_eV > 0):
            raise ValueError(
                f"limit_eV = {limit_eV} must be positive; give for example 0.1"
            )
        self.calculator, self.limit_eV, self.every = calculator, limit_eV, every
        # Thermostats move no atom: what was after a stride is before the next.
        self._known: dict[bytes, float] = {}

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the systems whose energy changes by more than the limit."""
        del model
        old, new = self._potentials(before), self._potentials(after)
        self._known = dict(new)
        kinetic = host(kinetic_energies(after) - kinetic_energies(before))
        found = []
        for system, ((_, one), (_, other)) in enumerate(zip(old, new, strict=True)):
            change = other - one + float(kinetic[system])
            if not abs(change) <= self.limit_eV:
                text = (
                    f"the total energy changes by {change:+.3g} eV, the limit is "
                    f"{self.limit_eV:g} eV"
                )
                found.append(Finding(None, system, abs(change), self.limit_eV, text))
        return found

    def _potentials(self, state: State) -> Sequence[tuple[bytes, float]]:
        """Return the potential energy of each system, eV, and where it is that."""
        found = []
        starts = first_atoms(state)
        for system, (start, size) in enumerate(zip(starts, state.sizes(), strict=True)):
            rows = slice(start, start + size)
            atoms = Atoms(
                numbers=host(state.atomic_numbers)[rows],
                positions=host(state.positions)[rows],
                cell=host(state.cell)[system],
                pbc=host(state.pbc)[system],
            )
            parts = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
            key = b"".join(np.ascontiguousarray(one).tobytes() for one in parts)
            if key not in self._known:
                self._known[key] = float(self.calculator.get_property("energy", atoms))
            found.append((key, self._known[key]))
        return found
