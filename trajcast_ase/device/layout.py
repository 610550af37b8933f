"""A batch whose systems are known in advance: sizes, sums and who conserves what.

A :class:`State` asks its tensors for these, and so the device for an answer. Here they
are fixed when the batch is laid out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.state import State

CHUNK = 64
"""Terms that are added one after the other; then come the sums of such chunks."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Which rows are summed: chunks of each system, then chunks of those, to the end.

    What a system sums to depends neither on the device's schedule nor on which other
    systems there are, to the last bit.

    Attributes
    ----------
    levels : tuple of (n_chunks,) int64
        Lengths of the chunks. The last level has one chunk for each system.
    """

    levels: tuple[Int[Tensor, " chunks"], ...]

    @classmethod
    def of_sizes(cls, sizes: list[int], device: torch.device) -> Segments:
        """Return the segments of systems of `sizes` atoms."""
        levels = []
        counts = list(sizes)
        while True:
            lengths = [_chunks(count) for count in counts]
            flat = [length for chunks in lengths for length in chunks]
            levels.append(torch.tensor(flat, dtype=torch.int64, device=device))
            counts = [len(chunks) for chunks in lengths]
            if max(counts) == 1:
                return cls(tuple(levels))

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the rows of each system."""
        if not values.dtype.is_floating_point:
            return self.total(values.double()).to(values.dtype)
        for lengths in self.levels:
            # "unsafe": without it the host would look at the lengths.
            values = torch.segment_reduce(
                values, "sum", lengths=lengths, axis=0, unsafe=True
            )
        return values


@dataclass(frozen=True, slots=True)
class LaidOutState(State):
    """A state that knows its sizes without asking the device.

    Attributes
    ----------
    segments : Segments
    atoms_of_systems : tuple of int
        Number of atoms of each system.
    isolated_systems : bool
        Whether any system has no periodic axis.
    number_in_system : (n_atoms,) int64
        Place of each atom among those of its system.
    """

    segments: Segments
    atoms_of_systems: tuple[int, ...]
    isolated_systems: bool
    number_in_system: Int[Tensor, " atoms"]

    @classmethod
    def of(cls, state: State) -> LaidOutState:
        """Return `state` laid out; it is read by the host."""
        sizes = state.sizes()
        numbers = torch.cat([torch.arange(size) for size in sizes])
        return cls(
            state.positions,
            state.velocities,
            state.masses,
            state.atomic_numbers,
            state.cell,
            state.pbc,
            state.system_index,
            segments=Segments.of_sizes(sizes, state.device),
            atoms_of_systems=tuple(sizes),
            isolated_systems=State.has_isolated(state),
            number_in_system=numbers.to(state.device),
        )

    def moved(
        self,
        positions: Float[Tensor, "atoms 3"],
        velocities: Float[Tensor, "atoms 3"],
    ) -> LaidOutState:
        """Return the same systems at other positions and velocities."""
        return replace(self, positions=positions, velocities=velocities)

    def sizes(self) -> list[int]:
        """Return the number of atoms of each system."""
        return list(self.atoms_of_systems)

    def has_isolated(self) -> bool:
        """Return whether any system has no periodic axis."""
        return self.isolated_systems

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of per-atom `values` over each system."""
        return self.segments.total(values)

    def group_sums(
        self, values: Tensor, groups: Int[Tensor, " atoms"], width: int
    ) -> Tensor:
        """Return the sum of per-atom `values` over each group of each system."""
        return self.masked_group_sums(values, groups, width)


def _chunks(count: int) -> list[int]:
    """Return the lengths of the chunks of `count` rows."""
    full, rest = divmod(count, CHUNK)
    return [CHUNK] * full + [rest] * (rest > 0)
