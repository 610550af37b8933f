"""States of several systems as one batch, and the batch as theirs again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from trajcast_ase.state import State


def joined(states: Sequence[State]) -> State:
    """Return states as one batch, in their order."""
    sizes = torch.tensor([state.n_systems for state in states])
    offsets = sizes.cumsum(0) - sizes
    index = [
        state.system_index + offset
        for state, offset in zip(states, offsets.tolist(), strict=True)
    ]
    return State(
        positions=torch.cat([state.positions for state in states]),
        velocities=torch.cat([state.velocities for state in states]),
        masses=torch.cat([state.masses for state in states]),
        atomic_numbers=torch.cat([state.atomic_numbers for state in states]),
        cell=torch.cat([state.cell for state in states]),
        pbc=torch.cat([state.pbc for state in states]),
        system_index=torch.cat(index),
    )


def split(batch: State, states: Sequence[State]) -> list[State]:
    """Return the states of a batch, at its positions and velocities."""
    sizes = [state.n_atoms for state in states]
    return [
        state.moved(positions, velocities)
        for state, positions, velocities in zip(
            states,
            torch.split(batch.positions, sizes),
            torch.split(batch.velocities, sizes),
            strict=True,
        )
    ]


def atoms_of(places: Sequence[int], state: State) -> Bool[Tensor, " atoms"]:
    """Return which atoms belong to the systems at `places`."""
    systems = torch.zeros(state.n_systems, dtype=torch.bool)
    systems[list(places)] = True
    return systems.to(state.device)[state.system_index]


def chosen(atoms: Bool[Tensor, " atoms"], those: State, others: State) -> State:
    """Return positions and velocities of `those` at `atoms`, else of `others`."""
    rows = atoms[:, None]
    return those.moved(
        torch.where(rows, those.positions, others.positions),
        torch.where(rows, those.velocities, others.velocities),
    )


def first_atoms(atoms: Bool[Tensor, " atoms"], state: State) -> list[tuple[int, int]]:
    """Return each system that has some of `atoms`, with the first of its own."""
    places = sorted(set(state.system_index[atoms].tolist()))
    sizes = state.sizes()
    return [
        (place, int((atoms & (state.system_index == place)).nonzero()[0]) - first)
        for place, first in ((place, sum(sizes[:place])) for place in places)
    ]
