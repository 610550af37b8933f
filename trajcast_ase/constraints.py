"""The ASE constraints that a stride can honour exactly: FixAtoms and FixCom.

All others are refused by name: a projection over a jump of many femtoseconds is not
constrained dynamics, and constraints that act through forces would vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms, FixCom
from jaxtyping import Bool, Float
from torch import Tensor

from trajcast_ase.state import State, sum_systems


@dataclass(frozen=True, slots=True, eq=False)
class Constraints:
    """What must not move in each system of a batch.

    Attributes
    ----------
    free : (n_atoms,) bool, or None
        Atoms that may move; None if all may.
    resting : (n_systems,) bool, or None
        Systems whose centre of mass rests; None if none does. Where atoms are fixed the
        free ones keep it in place.
    """

    free: Bool[Tensor, " atoms"] | None = None
    resting: Bool[Tensor, " systems"] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Constraints], states: Sequence[State]) -> Self:
        """Return the constraints of single systems as those of their batch."""
        free = [
            torch.ones_like(state.masses, dtype=torch.bool)
            if part.free is None
            else part.free
            for part, state in zip(parts, states, strict=True)
        ]
        resting = [
            torch.zeros(1, dtype=torch.bool, device=state.device)
            if part.resting is None
            else part.resting
            for part, state in zip(parts, states, strict=True)
        ]
        return cls(
            torch.cat(free) if any(one.free is not None for one in parts) else None,
            torch.cat(resting)
            if any(one.resting is not None for one in parts)
            else None,
        )

    def conserve_momentum(self, state: State) -> Bool[Tensor, " systems"]:
        """Return where the momenta of a forecast survive: no atom is fixed."""
        if self.free is None:
            return torch.ones(state.n_systems, dtype=torch.bool, device=state.device)
        return sum_systems(state, (~self.free).double()) == 0

    def hold(self, before: State, after: State) -> State:
        """Return `after` with the constrained positions of `before` and at rest."""
        if self.free is None and self.resting is None:
            return after
        moves = self.allowed(after.positions - before.positions, after)
        velocities = self.allowed(after.velocities, after)
        return after.moved(before.positions + moves, velocities)

    def hold_velocities(self, state: State) -> State:
        """Return `state` with the constrained part of its velocities removed."""
        if self.free is None and self.resting is None:
            return state
        return state.moved(state.positions, self.allowed(state.velocities, state))

    def allowed(
        self, values: Float[Tensor, "atoms 3"], state: State
    ) -> Float[Tensor, "atoms 3"]:
        """Return displacements or velocities without their constrained part."""
        if self.free is not None:
            values = torch.where(self.free[:, None], values, 0.0)
        if self.resting is not None:
            masses = self.free_masses(state)[:, None]
            total = sum_systems(state, masses)
            mean = sum_systems(state, masses * values) / total
            # A system whose atoms are all fixed has no such mean, and does not rest.
            mean = torch.where(self.resting[:, None], mean, 0.0)
            values = values - mean[state.system_index] * (masses > 0)
        return values

    def free_masses(self, state: State) -> Float[Tensor, " atoms"]:
        """Return the masses, amu, zero for fixed atoms."""
        return state.masses if self.free is None else state.masses * self.free


def fixed_atoms(atoms: Atoms) -> Bool[np.ndarray, " atoms"]:
    """Return which atoms a FixAtoms of `atoms` holds.

    Raises
    ------
    NotImplementedError
        A constraint other than FixAtoms and FixCom, named in the text.
    """
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        # Subclasses are refused too: FixSubsetCom is a FixCom.
        if type(constraint) not in (FixAtoms, FixCom):
            raise NotImplementedError(
                f"the constraint {type(constraint).__name__} cannot be honoured by a "
                "forecast; use FixAtoms or FixCom, or remove it with "
                "atoms.set_constraint()"
            )
        if type(constraint) is FixAtoms:
            fixed[constraint.index] = True
    return fixed


def fixes_com(atoms: Atoms) -> bool:
    """Return whether `atoms` carries a FixCom."""
    return any(type(constraint) is FixCom for constraint in atoms.constraints)


def constraints_of(atoms: Atoms, device: torch.device | str = "cpu") -> Constraints:
    """Return the constraints of `atoms` with their tensors on `device`.

    Raises
    ------
    NotImplementedError
        A constraint other than FixAtoms and FixCom, named in the text.
    """
    fixed = fixed_atoms(atoms)
    resting = None
    if fixes_com(atoms) and not fixed.all():
        resting = torch.ones(1, dtype=torch.bool, device=device)
    if not fixed.any():
        return Constraints(resting=resting)
    return Constraints(torch.from_numpy(~fixed).to(device), resting)
