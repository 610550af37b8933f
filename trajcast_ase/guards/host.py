"""States as arrays, for guards that need many small operations.

On a CPU the arrays share the memory of the tensors, and NumPy takes a third of torch's
time for the few atoms of a molecule.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.state import State


def host(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array, without a copy where it is on the CPU."""
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def first_atoms(state: State) -> list[int]:
    """Return the number of the first atom of each system in the batch."""
    starts = [0]
    for size in state.sizes()[:-1]:
        starts.append(starts[-1] + size)
    return starts


def own_number(state: State, atom: int) -> int:
    """Return the number of an atom of the batch within its system."""
    return atom - first_atoms(state)[int(state.system_index[atom])]


class Masses:
    """Masses of a batch, to remove the drift of its systems.

    Parameters
    ----------
    state : State
    """

    def __init__(self, state: State) -> None:
        self.column = host(state.masses)[:, None]
        self.starts = first_atoms(state)
        self.totals = np.add.reduceat(self.column, self.starts, axis=0)
        self.index = host(state.system_index)

    def without_drift(self, state: State) -> Float[np.ndarray, "atoms 3"]:
        """Return velocities relative to each system's centre of mass, Å/fs."""
        velocities = host(state.velocities)
        momenta = self.column * velocities
        if len(self.starts) == 1:
            moving: np.ndarray = velocities - momenta.sum(axis=0) / self.totals
            return moving
        drifts = np.add.reduceat(momenta, self.starts, axis=0) / self.totals
        relative: np.ndarray = velocities - drifts[self.index]
        return relative
