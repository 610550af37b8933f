"""The state of one or many systems as float64 tensors, and its bridge to ASE.

Everything behind this module sees a :class:`State` in Å, fs and amu; everything in
front of it sees :class:`ase.Atoms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajcast_ase.units import FS


@dataclass(frozen=True, slots=True)
class State:
    """Positions and velocities of a batch of systems.

    Attributes
    ----------
    positions : (n_atoms, 3) float64, Å
        Never wrapped.
    velocities : (n_atoms, 3) float64, Å/fs
    masses : (n_atoms,) float64, amu
    atomic_numbers : (n_atoms,) int64
    cell : (n_systems, 3, 3) float64, Å
        Rows are the cell vectors; zeros where there are none.
    pbc : (n_systems, 3) bool
    system_index : (n_atoms,) int64
        System of each atom, ascending from 0.
    """

    positions: Float[Tensor, "atoms 3"]
    velocities: Float[Tensor, "atoms 3"]
    masses: Float[Tensor, " atoms"]
    atomic_numbers: Int[Tensor, " atoms"]
    cell: Float[Tensor, "systems 3 3"]
    pbc: Bool[Tensor, "systems 3"]
    system_index: Int[Tensor, " atoms"]

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all systems together."""
        return self.positions.shape[0]

    @property
    def n_systems(self) -> int:
        """Number of systems in the batch."""
        return self.cell.shape[0]

    def sizes(self) -> list[int]:
        """Return the number of atoms of each system."""
        if self.n_systems == 1:
            return [self.n_atoms]  # on a GPU counting waits for all work before
        counts = torch.bincount(self.system_index, minlength=self.n_systems)
        return [int(count) for count in counts.tolist()]

    @property
    def device(self) -> torch.device:
        """Device that holds the tensors."""
        return self.positions.device

    def to(self, device: torch.device | str) -> State:
        """Return the state on `device`."""
        return State(*(getattr(self, name).to(device) for name in State.__slots__))

    def has_isolated(self) -> bool:
        """Return whether any system has no periodic axis."""
        return not bool(self.pbc.any(dim=1).all())

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of per-atom `values` over each system.

        Without gradients every sum has one order, on any device.
        """
        ordered = values.device.type == "cpu" or not values.is_floating_point()
        if ordered or values.requires_grad:
            total = values.new_zeros(self.n_systems, *values.shape[1:])
            return total.index_add_(0, self.system_index, values)
        # On a card index_add has the order in which its threads happen to come.
        if self.n_systems == 1:
            return values.sum(dim=0, keepdim=True)
        numbers = torch.arange(self.n_systems + 1, device=values.device)
        offsets = torch.searchsorted(self.system_index, numbers)
        return torch.segment_reduce(values, "sum", offsets=offsets, axis=0, unsafe=True)

    def group_sums(
        self, values: Tensor, groups: Int[Tensor, " atoms"], width: int
    ) -> Tensor:
        """Return the sum of per-atom `values` over each group of each system.

        Parameters
        ----------
        values : (n_atoms, ...)
        groups : (n_atoms,)
            Group of each atom among the `width` of its system.
        width : int

        Returns
        -------
        (n_systems * width, ...)
        """
        if values.device.type != "cpu":
            return self.masked_group_sums(values, groups, width)
        total = values.new_zeros(self.n_systems * width, *values.shape[1:])
        return total.index_add(0, self.system_index * width + groups, values)

    def masked_group_sums(
        self, values: Tensor, groups: Int[Tensor, " atoms"], width: int
    ) -> Tensor:
        """Return what :meth:`group_sums` does, as sums over each system."""
        numbers = torch.arange(width, device=groups.device)
        columns = values.reshape(len(groups), 1, -1)
        own = (groups[:, None] == numbers)[:, :, None] * columns
        return self.sums(own.flatten(1)).reshape(-1, *values.shape[1:])

    def moved(
        self,
        positions: Float[Tensor, "atoms 3"],
        velocities: Float[Tensor, "atoms 3"],
    ) -> State:
        """Return the same systems at other positions and velocities."""
        return State(
            positions,
            velocities,
            self.masses,
            self.atomic_numbers,
            self.cell,
            self.pbc,
            self.system_index,
        )


def state_from_atoms(
    atoms: Atoms | Sequence[Atoms], device: torch.device | str = "cpu"
) -> State:
    """Return the state of one `Atoms`, or of a list of them as one batch.

    Raises
    ------
    ValueError
        No atoms, or positions, momenta or cell that are not finite.
    """
    systems = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    if not systems:
        raise ValueError("the list of Atoms is empty; give at least one system")
    for system in systems:
        check_atoms(system)
    sizes = [len(system) for system in systems]
    arrays = (
        np.concatenate([s.positions for s in systems]).astype(np.float64),
        np.concatenate([velocities_from_atoms(s) for s in systems]),
        np.concatenate([s.get_masses() for s in systems]).astype(np.float64),
        np.concatenate([s.numbers for s in systems]).astype(np.int64),
        np.stack([s.cell.array for s in systems]).astype(np.float64),
        np.stack([s.pbc for s in systems]).astype(bool),
        np.repeat(np.arange(len(systems)), sizes).astype(np.int64),
    )
    return State(*(torch.from_numpy(np.array(a)).to(device) for a in arrays))


def check_device(tensor: Tensor, device: torch.device) -> None:
    """Raise ValueError for a part of a state that is not where its model is."""
    if tensor.device != device:
        raise ValueError(
            f"the state is on {tensor.device}, its model on {device}; move one of "
            "them, as with state.to(model.device)"
        )


def sum_systems(state: State, values: Tensor) -> Tensor:
    """Return the sum of per-atom `values` over each system."""
    return state.sums(values)


def velocities_from_atoms(atoms: Atoms) -> Float[np.ndarray, "atoms 3"]:
    """Return the velocities of `atoms` in Å/fs, zero where it has no momenta."""
    momenta = np.asarray(atoms.get_momenta(), dtype=np.float64)
    return momenta_to_velocities(momenta, atoms.get_masses())


def momenta_to_velocities(
    momenta: Float[np.ndarray, "atoms 3"], masses: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, "atoms 3"]:
    """Return velocities in Å/fs from ASE momenta."""
    return np.asarray(momenta / masses[:, None] * FS)


def ase_momenta(state: State) -> Float[Tensor, "atoms 3"]:
    """Return the momenta of `state` in ASE units."""
    return state.velocities * state.masses[:, None] / FS


def state_with_momenta(
    state: State,
    positions: Float[Tensor, "atoms 3"],
    momenta: Float[Tensor, "atoms 3"],
) -> State:
    """Return the same systems at other positions and ASE momenta.

    The velocities are bit-equal to those of :func:`state_from_atoms` for the same
    momenta, so that a run continues exactly from its Atoms.
    """
    return state.moved(positions, momenta / state.masses[:, None] * FS)


def as_stored(state: State) -> tuple[State, Float[Tensor, "atoms 3"]]:
    """Return `state` as if written to Atoms and read again, and its ASE momenta."""
    momenta = ase_momenta(state)
    return state_with_momenta(state, state.positions, momenta), momenta


def check_atoms(atoms: Atoms) -> None:
    """Raise for anything but non-empty Atoms with finite arrays and positive masses.

    Raises
    ------
    TypeError
        Not an `Atoms`, for example a Filter.
    ValueError
        No atoms, a value that is not finite, or a mass that is not positive.
    """
    if not isinstance(atoms, Atoms):
        raise TypeError(
            f"expected ase.Atoms, got {type(atoms).__name__}; a Filter cannot be "
            "forecast, pass the Atoms that it wraps"
        )
    if len(atoms) == 0:
        raise ValueError(
            "the Atoms object is empty; a forecast needs at least one atom"
        )
    for name, values in (
        ("positions", atoms.positions),
        ("momenta", atoms.get_momenta()),
        ("cell", atoms.cell.array),
        ("masses", atoms.get_masses()),
    ):
        bad = np.flatnonzero(
            ~np.isfinite(np.asarray(values)).reshape(len(values), -1).all(1)
        )
        if bad.size:
            raise ValueError(
                f"{name} of row {bad[0]} are not finite "
                f"({np.asarray(values)[bad[0]]}); correct them before the next stride"
            )
    if np.any(atoms.get_masses() <= 0):
        raise ValueError("every atom needs a positive mass; set them with set_masses")
