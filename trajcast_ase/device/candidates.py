"""Which pairs a search on the device compares: all of a system, or those of near boxes.

Candidates stand receiver by receiver, in an order that positions alone decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs that may be near.

    Attributes
    ----------
    receivers, senders : (n_candidates,) int64
        Atoms of the batch; the candidates of a receiver are contiguous.
    images : (n_candidates, 3) float64
        Cells from the reduced difference of the two.
    exists : (n_candidates,) bool
        Whether it is a candidate at all.
    atoms : (n_own,) int64
        The receivers.
    bounds : (2, n_own) int64
        First candidate of each of them, and the one after its last.
    fullest_box : () int64
        Atoms in the fullest box.
    """

    receivers: Int[Tensor, " candidates"]
    senders: Int[Tensor, " candidates"]
    images: Float[Tensor, "candidates 3"]
    exists: Bool[Tensor, " candidates"]
    atoms: Int[Tensor, " own"]
    bounds: Int[Tensor, "2 own"]
    fullest_box: Int[Tensor, ""]


@dataclass(frozen=True, slots=True)
class AllPairs:
    """Every atom of small systems with every other and all images that can be near.

    Attributes
    ----------
    pairs : Candidates
        The same at all positions.
    """

    pairs: Candidates

    def candidates(
        self,
        scaled: Float[Tensor, "atoms 3"],
        room: int,
    ) -> Candidates:
        """Return the pairs."""
        del scaled, room
        return self.pairs


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes at least as wide as the cutoff; only adjacent ones hold neighbors.

    Along axes that are not periodic atoms beyond the first or last box count as in it,
    so that a box may fill up but no pair is missed.

    Attributes
    ----------
    atoms : (n_own,) int64
        Atoms of these systems.
    systems : (n_own,) int64
        Number of each atom's system among those of `origin`.
    origin, spans : (n_systems, 3) float64
        Of the boxes, in cell vectors: 0 and 1 along periodic axes.
    periodic : (n_systems, 3) bool
    shape : (n_systems, 3) int64
        Boxes along each axis.
    first : (n_systems,) int64
        Number of each system's first box.
    adjacent : (n_boxes + 1, n_adjacent) int64
        The boxes around each, itself included; ``n_boxes`` is an empty one.
    images : (n_systems, n_images, 3) float64
        Cells that are tried for each pair.
    image_exists : (n_systems, n_images) bool
    """

    atoms: Int[Tensor, " own"]
    systems: Int[Tensor, " own"]
    origin: Float[Tensor, "systems 3"]
    spans: Float[Tensor, "systems 3"]
    periodic: Bool[Tensor, "systems 3"]
    shape: Int[Tensor, "systems 3"]
    first: Int[Tensor, " systems"]
    adjacent: Int[Tensor, "boxes_and_one adjacent"]
    images: Float[Tensor, "systems images 3"]
    image_exists: Bool[Tensor, "systems images"]

    def candidates(
        self,
        scaled: Float[Tensor, "atoms 3"],
        room: int,
    ) -> Candidates:
        """Return each atom with up to `room` atoms of every adjacent box."""
        n_boxes = self.adjacent.shape[0] - 1
        boxes = self._boxes(scaled[self.atoms])
        ordered, order = torch.sort(boxes, stable=True)
        numbers = torch.arange(n_boxes + 2, device=boxes.device)
        starts = torch.searchsorted(ordered, numbers)
        near = self.adjacent[boxes]
        places = torch.arange(room, device=boxes.device)
        slots = starts[near][:, :, None] + places
        filled = slots < starts[near + 1][:, :, None]
        senders = order[slots.clamp(max=len(order) - 1)]
        shape = (*senders.shape, self.images.shape[1])
        own = torch.arange(len(self.atoms), device=boxes.device)
        is_home = (self.images == 0).all(dim=2)[self.systems][:, None, None]
        is_self = (senders == own[:, None, None])[..., None] & is_home
        exists = filled[..., None] & self.image_exists[self.systems][:, None, None]
        each = senders.shape[1] * room * self.images.shape[1]
        first = own * each
        return Candidates(
            receivers=self.atoms[:, None].expand(-1, each).reshape(-1),
            senders=self.atoms[senders][..., None].expand(shape).reshape(-1),
            images=self.images[self.systems][:, None, None]
            .expand(*shape, 3)
            .reshape(-1, 3),
            exists=(exists & ~is_self).reshape(-1),
            atoms=self.atoms,
            bounds=torch.stack([first, first + each]),
            fullest_box=(starts[1:-1] - starts[:-2]).max(),
        )

    def _boxes(self, scaled: Float[Tensor, "own 3"]) -> Int[Tensor, " own"]:
        """Return the number of each atom's box."""
        index = self.systems
        shape = self.shape[index]
        along = (scaled - self.origin[index]) / self.spans[index]
        along = torch.where(self.periodic[index], along - torch.floor(along), along)
        places = torch.nan_to_num(torch.floor(along * shape)).clamp(-1.0, 1e9)
        places = torch.minimum(places.long().clamp(min=0), shape - 1)
        x, y, z = places.unbind(1)
        return self.first[index] + (x * shape[:, 1] + y) * shape[:, 2] + z
