"""Pairs of many runs to batches, in an order that depends on seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.state import State
from trajcast_ase.training.pairs import Pairs


@dataclass(frozen=True, slots=True)
class Batch:
    """States with what the forecast should give.

    Attributes
    ----------
    state : State
    displacements : (n_atoms, 3) float64, Å
    velocities : (n_atoms, 3) float64, Å/fs
        One horizon later.
    """

    state: State
    displacements: Float[Tensor, "atoms 3"]
    velocities: Float[Tensor, "atoms 3"]


class PairDataset:
    """Pairs of several runs, addressed by one running index.

    Parameters
    ----------
    parts : sequence of Pairs
        All with the same horizon.

    Raises
    ------
    ValueError
        No pairs.
    """

    def __init__(self, parts: Sequence[Pairs]) -> None:
        if sum(len(part) for part in parts) == 0:
            raise ValueError("the data set holds no pairs; give longer trajectories")
        self.parts = tuple(parts)
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(
        self,
        indices: Int[np.ndarray, " rows"],
        *,
        reverse: np.ndarray | None = None,
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Return the pairs `indices`, reversed in time where `reverse` is true.

        A reversed pair starts at the later frame with all velocities negated; exact
        for conservative dynamics.
        """
        if reverse is None:
            reverse = np.zeros(len(indices), dtype=bool)
        columns = [
            self._pair(int(index), bool(flag))
            for index, flag in zip(indices, reverse, strict=True)
        ]
        sizes = [len(column[2]) for column in columns]
        system_index = np.repeat(np.arange(len(columns)), sizes)
        positions, velocities, masses, numbers, moved, later = (
            torch.from_numpy(np.concatenate([column[k] for column in columns])).to(
                device
            )
            for k in range(6)
        )
        cell, pbc = (
            torch.from_numpy(np.stack([column[k] for column in columns])).to(device)
            for k in (6, 7)
        )
        index = torch.from_numpy(system_index).to(device)
        state = State(positions, velocities, masses, numbers, cell, pbc, index)
        return Batch(state, moved, later)

    def in_a_row(
        self, indices: Int[np.ndarray, " rows"], count: int
    ) -> Int[np.ndarray, "rows count"]:
        """Return, for each pair, it and those that follow it a horizon apart.

        Near the end of a run the row begins earlier, so that it fits.

        Raises
        ------
        ValueError
            A run is too short, or pairs were left out of it.
        """
        rows = [self._row(int(index), count) for index in indices]
        return np.stack(rows)

    def _row(self, index: int, count: int) -> Int[np.ndarray, " count"]:
        number = int(np.searchsorted(self.ends, index, side="right"))
        part = self.parts[number]
        first = int(self.ends[number]) - len(part)
        last = len(part) - 1 - (count - 1) * part.lag
        thinned = part.starts[-1] - part.starts[0] != len(part) - 1
        if last < 0 or (count > 1 and thinned):
            raise ValueError(
                f"{part.frames.source}: its {len(part)} pairs do not hold {count} in a "
                "row; use longer runs without kicks of a thermostat, leave max_pairs "
                "out, or lower consecutive_pairs"
            )
        return first + min(index - first, last) + part.lag * np.arange(count)

    def _pair(self, index: int, reverse: bool) -> tuple[np.ndarray, ...]:
        number = int(np.searchsorted(self.ends, index, side="right"))
        part = self.parts[number]
        frames = part.frames
        start = part.starts[index - (int(self.ends[number]) - len(part))]
        stop = start + part.lag
        moved = part.displacements(np.array([start]))[0]
        before, after = frames.velocities[start], frames.velocities[stop]
        positions = frames.positions[start]
        if reverse:
            positions, moved = frames.positions[stop], -moved
            before, after = -after, -before
        return (
            positions,
            before,
            frames.masses,
            frames.atomic_numbers,
            moved,
            after,
            frames.cell,
            frames.pbc,
        )

    def in_order(
        self, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield every pair once."""
        for start in range(0, len(self), batch_size):
            stop = min(start + batch_size, len(self))
            yield self.batch(np.arange(start, stop), device=device)


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """Which pairs each optimiser step sees; a pure function of seed and step.

    So a resumed run needs no state of a random generator to continue exactly.

    Attributes
    ----------
    n_pairs, batch_size, seed : int
    reversal_probability : float
    """

    n_pairs: int
    batch_size: int
    seed: int
    reversal_probability: float

    def __call__(self, step: int) -> tuple[Int[np.ndarray, " rows"], np.ndarray]:
        """Return the pair indices of `step` and which of them are time-reversed."""
        flat = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(flat, self.n_pairs)
        indices = np.empty_like(flat)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            order = _permutation(self.n_pairs, self.seed, int(epoch))
            indices[chosen] = order[places[chosen]]
        draws = np.random.default_rng([self.seed, 1, step]).random(self.batch_size)
        return indices, draws < self.reversal_probability


@lru_cache(maxsize=2)
def _permutation(n_pairs: int, seed: int, epoch: int) -> Int[np.ndarray, " pairs"]:
    return np.random.default_rng([seed, 0, epoch]).permutation(n_pairs)
