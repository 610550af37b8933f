"""A guard that asks the potential: one energy for each stride, no forces.

Where the potential that a model learnt is at hand, a stride tells its own error: before
thermostats act, the total energy must not change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy

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
    for each small time step of conventional MD. In a run the calculator gets copies of
    its Atoms, with their charges, magnetic moments and ``info``. With a
    ``ForceFallback`` strides that fail it are made by forces, so that even a poor model
    heats by less than the thermostat takes out.

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
        self._told = ""  # at the last evaluation, by ``info``
        self._runs: Mapping[int, Atoms] = {}  # by system; of none a state tells all

    def of_run(self, atoms: Atoms) -> EnergyChange:
        """Return the guard of a run of `atoms`, whose calculator sees all of them."""
        return self._of({0: atoms})

    def is_like(self, other: EnergyChange) -> bool:
        """Return whether one guard can look for both."""
        mine, others = (
            (id(one.calculator), one.limit_eV, one.every) for one in (self, other)
        )
        return mine == others

    @classmethod
    def joined(cls, guards: Mapping[int, EnergyChange], n_systems: int) -> EnergyChange:
        """Return the guards of single runs that are alike, by system, as one."""
        del n_systems  # of the others it asks nothing
        runs = {system: one._runs[0] for system, one in guards.items()}  # noqa: SLF001
        return next(iter(guards.values()))._of(runs)  # noqa: SLF001  own

    def _of(self, runs: Mapping[int, Atoms]) -> EnergyChange:
        found = copy(self)
        found._runs, found._known = runs, {}  # noqa: SLF001  own
        return found

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the systems whose energy changes by more than the limit."""
        del model
        old, new = self._potentials(before), self._potentials(after)
        kinetic = host(kinetic_energies(after) - kinetic_energies(before))
        self._known = dict(new.values())
        found = []
        for system in old:
            change = new[system][1] - old[system][1] + float(kinetic[system])
            if not abs(change) <= self.limit_eV:
                text = (
                    f"the total energy changes by {change:+.3g} eV, the limit is "
                    f"{self.limit_eV:g} eV"
                )
                found.append(Finding(None, system, abs(change), self.limit_eV, text))
        return found

    def _potentials(self, state: State) -> dict[int, tuple[bytes, float]]:
        """Return the potential energy of each system, eV, and of what it is that."""
        found = {}
        for system in range(state.n_systems):
            atoms = self._atoms(state, system)
            if atoms is None:
                continue
            key = _key(system, atoms)
            if key not in self._known:
                self._known[key] = self._potential(atoms)
            found[system] = key, self._known[key]
        return found

    def _potential(self, atoms: Atoms) -> float:
        told = repr(atoms.info)
        if told != self._told:
            # Calculators of ASE keep their results where ``info`` alone has changed.
            self.calculator.reset()
            self._told = told
        return float(self.calculator.get_property("energy", atoms))

    def _atoms(self, state: State, system: int) -> Atoms | None:
        """Return what the calculator gets of a system; None where nothing moves."""
        start = first_atoms(state)[system]
        rows = slice(start, start + state.sizes()[system])
        numbers, positions = host(state.atomic_numbers)[rows], host(state.positions)
        if not self._runs:
            cell, pbc = host(state.cell)[system], host(state.pbc)[system]
            return Atoms(numbers, positions[rows], cell=cell, pbc=pbc)
        atoms = self._runs.get(system)
        # A run that has ended may have got other atoms since.
        if atoms is None or not np.array_equal(atoms.numbers, numbers):
            return None
        moved: Atoms = atoms.copy()
        moved.set_positions(positions[rows], apply_constraint=False)
        return moved


def _key(system: int, atoms: Atoms) -> bytes:
    """Return what tells the potential energies of Atoms apart."""
    arrays = [atoms.arrays[name] for name in sorted(set(atoms.arrays) - {"momenta"})]
    parts = (*arrays, atoms.cell.array, atoms.pbc)
    told = f"{system} {atoms.info!r}".encode()
    return b"".join((told, *(np.ascontiguousarray(one).tobytes() for one in parts)))
