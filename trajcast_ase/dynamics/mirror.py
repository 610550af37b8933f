"""The state on the device as a mirror of the Atoms, in both directions.

Users may change the Atoms between any two strides, through setters or by writing into
the arrays. Contents are compared with the host copies of the last transfer, because
neither a version counter nor the identity of the arrays tells of such edits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.constraints import (
    Constraints,
    constraints_of,
    fixed_atoms,
    fixes_com,
)
from trajcast_ase.neighbors import check_distances
from trajcast_ase.state import (
    State,
    as_stored,
    check_atoms,
    state_from_atoms,
    state_with_momenta,
)

Acceptance = Callable[[State, Constraints], None]


class Mirror:
    """State and constraints on a device that follow the Atoms, and lead them.

    Parameters
    ----------
    atoms : Atoms
    device : torch.device
    accept : callable of the state and its constraints
        Raises for a state that must not be taken over.

    Attributes
    ----------
    state : State
        Its velocities are those of `momenta`.
    momenta : (n_atoms, 3) float64 tensor, ASE units
    constraints : Constraints
    """

    def __init__(self, atoms: Atoms, device: torch.device, accept: Acceptance) -> None:
        self._device = device
        self._accept = accept
        self._host: dict[str, np.ndarray] = {}
        self.state: State
        self.momenta: Float[Tensor, "atoms 3"]
        self.constraints = Constraints()
        self.pull(atoms)

    def pull(self, atoms: Atoms) -> None:
        """Take over what changed in `atoms` since the last transfer.

        The old state stays until the new one is accepted, so that a refused edit can
        be undone and the run continued.

        Raises
        ------
        TypeError, ValueError, NotImplementedError
            The edit is refused.
        """
        check_type_and_size(atoms)
        seen = _contents(atoms)
        changed = {
            name
            for name, values in seen.items()
            if name not in self._host or not _same(values, self._host[name])
        }
        if not changed:
            return
        check_atoms(atoms)
        host = {name: np.array(values) for name, values in seen.items()}
        if changed <= {"positions", "momenta"}:
            momenta, constraints = self._upload(host["momenta"]), self.constraints
            positions = self._upload(host["positions"])
            state = state_with_momenta(self.state, positions, momenta)
        else:
            constraints = constraints_of(atoms, self._device)
            momenta = self._upload(host["momenta"])
            state = state_from_atoms([atoms], self._device)
        if changed != {"momenta"}:
            check_distances(state)
        self._accept(state, constraints)
        _warn_of_unusual(changed, state, constraints)
        self._host, self.constraints = host, constraints
        self.state, self.momenta = state, momenta

    def advance(self, state: State) -> None:
        """Continue from `state`, as if it had been written to Atoms and read again."""
        self.follow(*as_stored(state))

    def follow(self, state: State, momenta: Float[Tensor, "atoms 3"]) -> None:
        """Continue from `state`, whose velocities are those of ASE `momenta`."""
        self.state, self.momenta = state, momenta

    def push(self, atoms: Atoms) -> None:
        """Write positions and momenta into the arrays of `atoms`, in place."""
        both = torch.stack([self.state.positions, self.momenta]).cpu().numpy()
        self._host["positions"], self._host["momenta"] = both
        for name in ("positions", "momenta"):
            _make_writable(atoms, name)
        # The constraints are already honoured; ASE would apply them a second time,
        # and some of them to the momenta as if these were forces.
        atoms.set_positions(both[0], apply_constraint=False)
        atoms.set_momenta(both[1], apply_constraint=False)

    def _upload(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float64)).to(self._device)


def check_type_and_size(atoms: Atoms) -> None:
    """Raise for an object whose arrays cannot be compared."""
    if not isinstance(atoms, Atoms) or len(atoms) == 0:
        check_atoms(atoms)


def same_structure(one: State, other: State) -> bool:
    """Return whether two states differ in their velocities at most."""
    names = ("positions", "atomic_numbers", "cell", "pbc")
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def _contents(atoms: Atoms) -> dict[str, np.ndarray]:
    """Return everything a stride depends on, without copies where possible."""
    arrays = atoms.arrays
    momenta = arrays.get("momenta")
    return {
        "positions": arrays["positions"],
        "momenta": np.zeros((len(atoms), 3)) if momenta is None else momenta,
        "numbers": arrays["numbers"],
        "masses": arrays.get("masses", np.empty(0)),
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "fixed": fixed_atoms(atoms),
        "fix_com": np.array(fixes_com(atoms)),
    }


def _same(values: np.ndarray, others: np.ndarray) -> bool:
    """Return whether arrays hold the same bytes: of small ones the fastest test.

    A zero that changes its sign is an edit, too, and is taken over.
    """
    return values.tobytes() == others.tobytes()


def _make_writable(atoms: Atoms, name: str) -> None:
    """Replace an array that the user set to one which cannot hold float64 results."""
    array = atoms.arrays.get(name)
    if array is not None and not (array.dtype == np.float64 and array.flags.writeable):
        atoms.arrays[name] = array.astype(np.float64, order="C")


def _warn_of_unusual(changed: set[str], state: State, constraints: Constraints) -> None:
    """Warn once per edit of what a model has hardly been trained on."""
    if "fixed" in changed and constraints.free is not None:
        n_fixed = state.n_atoms - int(constraints.free.sum())
        warnings.warn(
            f"{n_fixed} of {state.n_atoms} atoms are fixed: a forecast takes them for "
            "free, and they are put back after it. Whatever the model, the run gains "
            "energy without bound, often within ten strides, once the stride is "
            "longer than about half a period of a vibration between a fixed atom and "
            "a free one; below that its temperature and structure are still not those "
            "of any training. Remove FixAtoms (FixCom is honoured exactly), or run "
            "with forces and ase.md.verlet.VelocityVerlet",
            UserWarning,
            stacklevel=5,
        )
    if "momenta" in changed and not bool(state.velocities.any()):
        warnings.warn(
            f"missing velocities: the momenta of all {state.n_atoms} atoms are zero "
            "and a model is trained at a temperature above 0 K; draw momenta, for "
            "example with ase.md.velocitydistribution.MaxwellBoltzmannDistribution",
            UserWarning,
            stacklevel=5,
        )
