"""The ASE constraints that a stride can honour exactly: FixAtoms and FixCom.

All others are refused by name: a projection over a jump of many femtoseconds is not
constrained dynamics, and constraints that act through forces would vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms, FixCom
from jaxtyping import Bool, Float
from torch import Tensor

from trajcast_ase.state import State


@dataclass(frozen=True, slots=True, eq=False)
class Constraints:
    """What must not move in one system.

    Attributes
    ----------
    free : (n_atoms,) bool, or None
        Atoms that may move; None if all may.
    fix_com : bool
        Whether the centre of mass rests. With fixed atoms the free ones keep it in
        place.
    """

    free: Bool[Tensor, " atoms"] | None = None
    fix_com: bool = False

    @property
    def conserve_momentum(self) -> bool:
        """Whether the momenta of the model's forecast survive: no atom is fixed."""
        return self.free is None

    def hold(self, before: State, after: State) -> State:
        """Return `after` with the constrained positions of `before` and at rest."""
        if self.free is None and not self.fix_com:
            return after
        moves = self._allowed(after.positions - before.positions, after)
        velocities = self._allowed(after.velocities, after)
        return after.moved(before.positions + moves, velocities)

    def hold_velocities(self, state: State) -> State:
        """Return `state` with the constrained part of its velocities removed."""
        return state.moved(state.positions, self._allowed(state.velocities, state))

    def _allowed(
        self, values: Float[Tensor, "atoms 3"], state: State
    ) -> Float[Tensor, "atoms 3"]:
        """Return displacements or velocities without their constrained part."""
        masses = state.masses[:, None]
        if self.free is not None:
            values = torch.where(self.free[:, None], values, 0.0)
            masses = masses * self.free[:, None]
        if self.fix_com:
            mean = (masses * values).sum(0) / masses.sum()
            values = values - mean * (masses > 0)
        return values


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
    if not fixed.any():
        return Constraints(fix_com=fixes_com(atoms))
    free = torch.from_numpy(~fixed).to(device)
    return Constraints(free, fix_com=fixes_com(atoms) and not fixed.all())
