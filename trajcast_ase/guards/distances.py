"""Guards of distances: how near atoms come, and how many are within the cutoff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from jaxtyping import Float

from trajcast_ase.guards.host import host, own_number
from trajcast_ase.guards.protocol import Finding
from trajcast_ase.models.model_header import ModelHeader
from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel

NEAREST = 0.6
"""Of the sum of covalent radii. MD of the bundled systems stays above 0.80 at 300 K,
all that was looked at above 0.69 (`benchmarks/studies/least_distances.py`)."""
NEARER_THAN_TRAINED = 0.8
"""Of the least distance in the training data."""
MORE_THAN_TRAINED = 1.25
"""Factor beyond the range of numbers of neighbors in the training data."""
SEARCHED_EVERY = 20
"""Strides. A search takes up to 5 % of the time of a stride."""


@dataclass(frozen=True, slots=True)
class LeastDistance:
    """No two atoms come nearer than the least distance of their elements.

    Attributes
    ----------
    limits_A : dict of str to float, Å
        By pair of symbols in alphabetical order, such as "H-O"; for other pairs 0.6
        times the sum of covalent radii.
    every : int
    """

    limits_A: Mapping[str, float]
    every: int = SEARCHED_EVERY

    @classmethod
    def trained(
        cls, distances_A: Mapping[str, float], every: int = SEARCHED_EVERY
    ) -> LeastDistance:
        """Return the guard for the least distances of training data, Å.

        Limits are never longer than a bond: elements that are no neighbors in some
        frames may well come nearer in others.
        """
        limits = {}
        for pair, length in distances_A.items():
            radii = sum(covalent_radii[atomic_numbers[one]] for one in pair.split("-"))
            limits[pair] = min(NEARER_THAN_TRAINED * length, float(radii))
        return cls(limits, every)

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the pair of each system that is too near, by the largest part."""
        del model, before
        present = np.unique(host(after.atomic_numbers))
        table = self._table(present)
        edges = find_edges(after.to("cpu"), float(table.max()))
        if len(edges.receivers) == 0:
            return []
        numbers = host(after.atomic_numbers)
        limits = table[numbers[host(edges.receivers)], numbers[host(edges.senders)]]
        lengths = host(edges.vectors.norm(dim=1))
        return [
            self._finding(after, edges, row, lengths, limits)
            for row in _worst(after, edges, lengths / limits)
        ]

    def _table(self, present: np.ndarray) -> Float[np.ndarray, "numbers numbers"]:
        """Return the limits by two atomic numbers, Å."""
        table = np.zeros((present.max() + 1,) * 2)
        for one, other in combinations_with_replacement(present.tolist(), 2):
            name = "-".join(sorted((chemical_symbols[one], chemical_symbols[other])))
            radii = NEAREST * (covalent_radii[one] + covalent_radii[other])
            table[one, other] = table[other, one] = self.limits_A.get(name, radii)
        return table

    def _finding(
        self,
        state: State,
        edges: Edges,
        row: int,
        lengths: np.ndarray,
        limits: np.ndarray,
    ) -> Finding:
        first, second = int(edges.receivers[row]), int(edges.senders[row])
        names = [
            chemical_symbols[int(state.atomic_numbers[i])] for i in (first, second)
        ]
        numbers = [own_number(state, i) for i in (first, second)]
        return Finding(
            first,
            int(state.system_index[first]),
            float(lengths[row]),
            float(limits[row]),
            f"atoms {numbers[0]} ({names[0]}) and {numbers[1]} ({names[1]}) come as "
            f"near as {lengths[row]:.3g} Å, the limit is {limits[row]:.3g} Å",
        )


@dataclass(frozen=True, slots=True)
class NeighborNumbers:
    """The number of neighbors within the cutoff stays near that of the training data.

    Attributes
    ----------
    cutoff_A : float, Å
    least, most : float
        Of any atom in the training data.
    every : int
    """

    cutoff_A: float
    least: float
    most: float
    every: int = 5 * SEARCHED_EVERY

    @classmethod
    def of(cls, header: ModelHeader) -> NeighborNumbers | None:
        """Return the guard for a model's file; None if it states no numbers."""
        found = header.training.get("neighbors")
        return cls(header.cutoff_A, min(found), max(found)) if found else None

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the atom of each system that is farthest out of the range."""
        del model, before
        return self.unusual(after)

    def unusual(self, after: State) -> list[Finding]:
        """Return the atom of each system that is farthest out of the range."""
        edges = find_edges(after.to("cpu"), self.cutoff_A)
        counts = np.bincount(host(edges.receivers), minlength=after.n_atoms)
        low = self.least / MORE_THAN_TRAINED
        high = self.most * MORE_THAN_TRAINED
        index, found = host(after.system_index), []
        for system in np.unique(index[(counts < low) | (counts > high)]).tolist():
            own = np.where(index == system, counts, self.most)
            many = int(own.argmax())
            atom = many if own[many] > high else int(own.argmin())
            found.append(self._finding(after, atom, int(counts[atom]), (low, high)))
        return found

    def _finding(
        self, state: State, atom: int, count: int, span: tuple[float, float]
    ) -> Finding:
        symbol = chemical_symbols[int(state.atomic_numbers[atom])]
        return Finding(
            atom,
            int(state.system_index[atom]),
            float(count),
            span[count > span[1]],
            f"atom {own_number(state, atom)} ({symbol}) has {count} neighbors within "
            f"{self.cutoff_A:g} Å, in the training data it was {self.least:g} to "
            f"{self.most:g}",
        )


def least_distances(state: State, reach_A: float) -> dict[str, float]:
    """Return the least distance of each pair of elements within `reach_A`, Å."""
    edges = find_edges(state.to("cpu"), reach_A)
    lengths = host(edges.vectors.norm(dim=1))
    numbers = host(state.atomic_numbers)
    pairs = np.stack([numbers[host(edges.receivers)], numbers[host(edges.senders)]])
    found: dict[str, float] = {}
    for one, other in np.unique(np.sort(pairs, axis=0), axis=1).T.tolist():
        chosen = (np.sort(pairs, axis=0) == [[one], [other]]).all(axis=0)
        name = "-".join(sorted((chemical_symbols[one], chemical_symbols[other])))
        found[name] = float(lengths[chosen].min())
    return found


def _worst(state: State, edges: Edges, parts: np.ndarray) -> list[int]:
    """Return the row of the least part of each system that has one below 1."""
    systems = host(state.system_index)[host(edges.receivers)]
    near = np.flatnonzero(parts < 1.0)
    found = []
    for system in np.unique(systems[near]).tolist():
        rows = near[systems[near] == system]
        found.append(int(rows[parts[rows].argmin()]))
    return found
