"""Pairs within a cutoff on the device of the atoms: a list of fixed size.

:func:`search` reads nothing on the host and its tensors never change their shapes, so
that it can be part of a CUDA graph. It gives the pairs of
:func:`trajcast_ase.neighbors.find_edges`, sorted by receiver, for any cell, periodicity
and batch. What does not fit is counted and not listed (:class:`Found`): the caller asks
later, and comes back with more room.

Every system is searched as costs less candidates: all pairs of its atoms, or boxes at
least as wide as the cutoff. For both, the difference of two atoms is first reduced by
whole cell vectors to at most half of one along each periodic axis. Then only the images
up to ``cutoff / height + 1/2`` cells away can be near: none but the atom itself where
the cell is wider than two cutoffs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajcast_ase.device.candidates import AllPairs, Boxes, Candidates


@dataclass(frozen=True, slots=True)
class Room:
    """How much a list holds.

    Attributes
    ----------
    edges : int
        Pairs, both directions counted.
    box : int
        Atoms of one box; 0 where there are no boxes.
    """

    edges: int
    box: int


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a search needs beside the positions; made on the host for fixed cells.

    Attributes
    ----------
    cutoff : float, Å
    n_atoms : int
        Of the batch.
    inverse, cell : (n_systems, 3, 3), 1/Å and Å
    periodic : (n_systems, 3) float64
        1 for periodic axes, 0 for others.
    system_index : (n_atoms,) int64
    parts : tuple of AllPairs or Boxes
        Every atom is the receiver of one part.
    """

    cutoff: float
    n_atoms: int
    inverse: Float[Tensor, "systems 3 3"]
    cell: Float[Tensor, "systems 3 3"]
    periodic: Float[Tensor, "systems 3"]
    system_index: Int[Tensor, " atoms"]
    parts: tuple[AllPairs | Boxes, ...]


@dataclass(frozen=True, slots=True)
class DeviceEdges:
    """A list of pairs, sorted by receiver and filled up to its fixed size.

    The rest are edges of the last atom with itself, longer than the cutoff: they weigh
    nothing, and consumers that go by `offsets` do not see them.

    Attributes
    ----------
    receivers, senders : (n_room,) int64
    vectors : (n_room, 3) float64, Å
        From receiver to sender.
    offsets : (n_atoms + 1,) int64
        The edges of receiver i are ``offsets[i]`` to ``offsets[i + 1] - 1``.
    """

    receivers: Int[Tensor, " room"]
    senders: Int[Tensor, " room"]
    vectors: Float[Tensor, "room 3"]
    offsets: Int[Tensor, " atoms_and_one"]


@dataclass(frozen=True, slots=True)
class Found:
    """Pairs, and how much room all of them need.

    Attributes
    ----------
    edges : DeviceEdges
    needed_edges, needed_box : () int64
        What :class:`Room` should have been at least; the first counts pairs that a box
        without room has left out only where `needed_box` says so.
    """

    edges: DeviceEdges
    needed_edges: Int[Tensor, ""]
    needed_box: Int[Tensor, ""]


def search(plan: SearchPlan, positions: Float[Tensor, "atoms 3"], room: Room) -> Found:
    """Return all pairs closer than the cutoff, as far as there is `room`.

    Parameters
    ----------
    plan : SearchPlan
    positions : (n_atoms, 3) float64, Å
        Wrapped or not.
    room : Room
    """
    scaled = lattice_product(positions, plan.inverse[plan.system_index])
    found = [part.candidates(scaled, room.box) for part in plan.parts]
    senders, receivers, images = (
        torch.cat([getattr(one, name) for one in found])
        for name in ("senders", "receivers", "images")
    )
    moved = scaled[senders] - scaled[receivers]
    systems = plan.system_index[receivers]
    shifts = images - torch.round(moved) * plan.periodic[systems]
    vectors = positions[senders] - positions[receivers]
    vectors = vectors + lattice_product(shifts, plan.cell[systems])
    exists = torch.cat([one.exists for one in found])
    near = exists & (vectors.square().sum(dim=1) < plan.cutoff**2)
    pairs = _Pairs(near, receivers, senders, vectors, _bounds(found, plan.n_atoms))
    edges, needed = pairs.packed(room.edges, plan.cutoff)
    fullest = torch.stack([one.fullest_box for one in found]).max()
    return Found(edges, needed, fullest)


def within(edges: DeviceEdges, cutoff: float, room: int) -> tuple[DeviceEdges, Tensor]:
    """Return the pairs closer than `cutoff` (Å) of a list, and how many there are."""
    numbers = torch.arange(len(edges.receivers), device=edges.receivers.device)
    near = edges.vectors.square().sum(dim=1) < cutoff**2
    near = near & (numbers < edges.offsets[-1])
    bounds = torch.stack([edges.offsets[:-1], edges.offsets[1:]])
    pairs = _Pairs(near, edges.receivers, edges.senders, edges.vectors, bounds)
    return pairs.packed(room, cutoff)


def lattice_product(
    rows: Float[Tensor, "rows 3"], matrices: Float[Tensor, "rows 3 3"]
) -> Float[Tensor, "rows 3"]:
    """Return each row times its matrix, as a sum whose order is always the same."""
    x, y, z = rows[:, :, None].unbind(1)
    a, b, c = matrices.unbind(1)
    return x * a + y * b + z * c


def _bounds(found: list[Candidates], n_atoms: int) -> Int[Tensor, "2 atoms"]:
    """Return the first candidate of each receiver, and the one after its last."""
    bounds = found[0].bounds.new_zeros(2, n_atoms)
    start = 0
    for one in found:
        bounds = bounds.index_copy(1, one.atoms, one.bounds + start)
        start += one.senders.shape[0]
    return bounds


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of which some are near; those of a receiver lie between its `bounds`."""

    near: Bool[Tensor, " candidates"]
    receivers: Int[Tensor, " candidates"]
    senders: Int[Tensor, " candidates"]
    vectors: Float[Tensor, "candidates 3"]
    bounds: Int[Tensor, "2 atoms"]

    def packed(self, room: int, cutoff: float) -> tuple[DeviceEdges, Int[Tensor, ""]]:
        """Return those that are near, receiver by receiver, and their number."""
        pad = torch.nn.functional.pad
        running = pad(self.near.to(torch.int64).cumsum(0), (1, 0))
        first, last = running[self.bounds]
        offsets = pad((last - first).cumsum(0), (1, 0))
        # Its receiver's first place, and how many of the receiver's came before.
        rank = running[:-1] - first[self.receivers]
        place = offsets[self.receivers] + rank
        # The place after the last is for those that are not listed.
        place = torch.where(self.near & (place < room), place, room)
        numbers = torch.arange(len(place), device=place.device)
        chosen = numbers.new_zeros(room + 1).scatter(0, place, numbers)[:room]
        filled = torch.arange(room, device=place.device) < offsets[-1]
        nobody = self.bounds.shape[1] - 1
        far = pad(self.vectors.new_full((1, 1), 2.0 * cutoff), (0, 2))
        edges = DeviceEdges(
            receivers=torch.where(filled, self.receivers[chosen], nobody),
            senders=torch.where(filled, self.senders[chosen], nobody),
            vectors=torch.where(filled[:, None], self.vectors[chosen], far),
            offsets=offsets.clamp(max=room),
        )
        return edges, offsets[-1]
