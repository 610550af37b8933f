"""A guard of temperature and equipartition: the kinetic energy of one stride.

With n degrees of freedom in equilibrium, twice the kinetic energy over kT is a
chi-square variable of n degrees of freedom. So one state tells whether it is hotter or
colder than chance explains, and the guard needs no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from scipy.special import gammainccinv, gammaincinv
from torch import Tensor

from trajcast_ase.constraints import Constraints
from trajcast_ase.guards.host import Masses, host
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.kinetics import ThermalSpace
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel
from trajcast_ase.units import EV_PER_AMU_A2_FS2, KB

PROBABILITY = 1e-9
"""That chance alone is beyond one side of a window, at one look."""
MODEL_ERROR = 1.15
"""Factor by which the mean of a sound run may be too hot or too cold."""
HOTTEST, COLDEST = 1.5, 1.0 / 3.0
"""Least and largest ends of a window: a start at the minimum of the energy halves its
temperature, and one that is strained heats up, until the thermostat has acted."""
NO_MOTION = 0.5
"""Degrees of freedom; a group with fewer has no temperature."""


class _Cache:
    """The groups of the present batch."""

    def __init__(self) -> None:
        self.groups: Groups | None = None
        self.numbers: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TemperatureWindow:
    """The temperature of each system, and of each element in it, stays in a window.

    The window is that of chance, with room for the error of a sound model and for the
    first strides after a start. A stride that *leaves* it is objected to. A state that
    is outside already is not: the start may be hot, or cooled by hand.

    Attributes
    ----------
    temperature_K : float
        Of the thermostat.
    probability : float
        That chance alone is beyond one side, at one look at one group of atoms.
    every : int
    former_K : tuple of float, K
        Temperature of each system when its thermostat was set to `temperature_K`
        within a run; empty where it was not. On the way from there the kinetic energy
        may go in and out of a window of one temperature, so that it reaches to both.
    """

    temperature_K: float
    probability: float = PROBABILITY
    every: int = 1
    former_K: tuple[float, ...] = field(default=(), compare=False)
    _windows: _Cache = field(
        default_factory=_Cache, init=False, repr=False, compare=False
    )

    def is_like(self, other: TemperatureWindow) -> bool:
        """Return whether one guard can look for both."""
        return self == other

    @classmethod
    def joined(
        cls, guards: Mapping[int, TemperatureWindow], n_systems: int
    ) -> TemperatureWindow:
        """Return the equal guards of single systems, by system, as that of a batch."""
        first = next(iter(guards.values()))
        known = {k: one.former_K[0] for k, one in guards.items() if one.former_K}
        if not known:
            return first
        former = (known.get(k, first.temperature_K) for k in range(n_systems))
        return replace(first, former_K=tuple(former))

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the groups of atoms that the stride takes out of their window."""
        groups = self._windows.groups
        if groups is None or self._windows.numbers is not before.atomic_numbers:
            groups = Groups.of(before, after, model, self)
            self._windows.groups, self._windows.numbers = groups, before.atomic_numbers
        # The rotation of a cluster counts here, so the exact value is asked for next.
        if groups.are_inside(groups.energies_without_drift(after)):
            return []
        found, start = (groups.energies(one, model) for one in (after, before))
        left = groups.outside(found) & ~groups.outside(start)
        return [groups.finding(int(row), found) for row in np.flatnonzero(left)]


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The systems of a batch, then the elements of each, with their windows.

    Attributes
    ----------
    masses : Masses
    element_of_atom : (n_atoms,)
        Its group among those of elements.
    systems : (n_groups,)
        System of each group; the first are the systems as a whole.
    numbers : (n_groups,)
        Atomic number of each group, 0 for a system.
    dof : (n_groups,)
    low, high : (n_groups,), amu Å²/fs²
        Of twice the kinetic energy.
    constraints : Constraints
        Fixed atoms, as seen from their velocities.
    """

    masses: Masses
    element_of_atom: Int[np.ndarray, " atoms"]
    systems: Int[np.ndarray, " groups"]
    numbers: Int[np.ndarray, " groups"]
    dof: Float[np.ndarray, " groups"]
    low: Float[np.ndarray, " groups"]
    high: Float[np.ndarray, " groups"]
    constraints: Constraints

    @classmethod
    def of(
        cls,
        before: State,
        after: State,
        model: ForecastModel,
        window: TemperatureWindow,
    ) -> Groups:
        """Return the groups of a batch, their degrees of freedom and windows."""
        constraints = Constraints(_free(before, after))
        space = ThermalSpace.of(before, model.conservation, constraints)
        index, numbers = host(before.system_index), host(before.atomic_numbers)
        kinds, of_atom = np.unique(
            np.stack([index, numbers]), axis=1, return_inverse=True
        )
        of_atom = of_atom.reshape(-1)
        n_systems = before.n_systems
        dof = np.concatenate(
            [
                host(space.n_dof).astype(np.float64),
                np.bincount(of_atom, host(space.atom_dof())),
            ]
        )
        systems = np.concatenate([np.arange(n_systems), kinds[0]])
        moving = dof > NO_MOTION
        shape = np.where(moving, 0.5 * dof, 1.0)
        present = np.full(n_systems, window.temperature_K)
        former = np.array(window.former_K) if window.former_K else present
        unit = KB / EV_PER_AMU_A2_FS2
        hot = unit * np.maximum(present, former)[systems]
        cold = unit * np.minimum(present, former)[systems]
        high = 2.0 * hot * MODEL_ERROR * gammainccinv(shape, window.probability)
        low = 2.0 * cold / MODEL_ERROR * gammaincinv(shape, window.probability)
        high = np.maximum(high, HOTTEST * hot * dof)
        low = np.minimum(low, COLDEST * cold * dof)
        return cls(
            masses=Masses(before),
            element_of_atom=of_atom,
            systems=systems,
            numbers=np.concatenate([np.zeros(n_systems, dtype=np.int64), kinds[1]]),
            dof=dof,
            low=np.where(moving, low, -np.inf),
            high=np.where(moving, high, np.inf),
            constraints=constraints,
        )

    def energies_without_drift(self, state: State) -> Float[np.ndarray, " groups"]:
        """Return twice the kinetic energy, amu Å²/fs², of all but the drift."""
        return self._sums(self.masses.without_drift(state))

    def energies(
        self, state: State, model: ForecastModel
    ) -> Float[np.ndarray, " groups"]:
        """Return twice the thermal kinetic energy, amu Å²/fs²."""
        space = ThermalSpace.of(state, model.conservation, self.constraints)
        return self._sums(host(space.projected(state.velocities)))

    def _sums(
        self, velocities: Float[np.ndarray, "atoms 3"]
    ) -> Float[np.ndarray, " groups"]:
        twice = self.masses.column[:, 0] * np.einsum("ij,ij->i", velocities, velocities)
        n_systems = len(self.masses.starts)
        elements = np.bincount(self.element_of_atom, twice)
        if n_systems == 1:
            return np.concatenate([[elements.sum()], elements])
        return np.concatenate(
            [np.bincount(self.systems[n_systems:], elements), elements]
        )

    def are_inside(self, energies: Float[np.ndarray, " groups"]) -> bool:
        """Return whether no group has left its window."""
        return bool(((energies >= self.low) & (energies <= self.high)).all())

    def outside(self, energies: Float[np.ndarray, " groups"]) -> np.ndarray:
        """Return which groups are outside of their window."""
        found: np.ndarray = ~((energies >= self.low) & (energies <= self.high))
        return found

    def finding(self, row: int, energies: Float[np.ndarray, " groups"]) -> Finding:
        """Return what is said of a group outside of its window."""
        kelvin = EV_PER_AMU_A2_FS2 / (KB * self.dof[row])
        hot = energies[row] > self.high[row]
        limit = float(kelvin * (self.high if hot else self.low)[row])
        value = float(kelvin * energies[row])
        number = int(self.numbers[row])
        which = f" of all {chemical_symbols[number]} atoms" if number else ""
        return Finding(
            None,
            int(self.systems[row]),
            value,
            limit,
            f"the temperature{which} becomes {value:.4g} K, chance and the error of a "
            f"sound model explain {'at most' if hot else 'at least'} {limit:.4g} K",
        )


def _free(before: State, after: State) -> Tensor | None:
    """Return the atoms that move; None if all do.

    A stride does not say which are fixed, but no free atom has a velocity of zero in
    all components before and after it.
    """
    free = (before.velocities != 0).any(dim=1) | (after.velocities != 0).any(dim=1)
    return None if bool(free.all()) else torch.as_tensor(free)
