"""Which atom sends to which, and which edges share their radial weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.neighbors import Edges


@dataclass(frozen=True, slots=True)
class Routes:
    """Edges sorted by receiver.

    Radial weights depend on the length alone, and the edges i -> j and j -> i are
    equally long: weights are computed once for each distinct length.

    Attributes
    ----------
    receivers, senders : (n_edges,) int64
        `receivers` ascends.
    offsets : (n_atoms + 1,) int64
        The edges of receiver i are ``offsets[i]`` to ``offsets[i + 1] - 1``.
    weight_rows : (n_edges,) int64
        Row of weights of each edge, numbered in the order of first use.
    representatives : (n_weight_rows,) int64
        First edge that uses each row.
    """

    receivers: Int[Tensor, " edges"]
    senders: Int[Tensor, " edges"]
    offsets: Int[Tensor, " atoms_and_one"]
    weight_rows: Int[Tensor, " edges"]
    representatives: Int[Tensor, " rows"]

    @classmethod
    def of_edges(
        cls, edges: Edges, n_atoms: int, *, share_weights: bool = True
    ) -> Self:
        """Return the routes of `edges` between `n_atoms` atoms.

        Without `share_weights` nobody looks for equal lengths: each edge has a row.
        """
        receivers, senders = edges.receivers.contiguous(), edges.senders.contiguous()
        bounds = torch.arange(n_atoms + 1, device=receivers.device)
        return cls(
            receivers,
            senders,
            torch.searchsorted(receivers, bounds),
            *_weight_rows(edges.vectors, share=share_weights),
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms, those without edges included."""
        return self.offsets.shape[0] - 1


def _weight_rows(
    vectors: Float[Tensor, "edges 3"], *, share: bool
) -> tuple[Int[Tensor, " edges"], Int[Tensor, " rows"]]:
    """Return each edge's row and each row's first edge, rows in order of first use.

    Vectors that carry a gradient share nothing, since each has its own; on another
    device than the CPU the search costs more than it saves.
    """
    if not share or vectors.requires_grad or vectors.device.type != "cpu":
        every = torch.arange(vectors.shape[0], device=vectors.device)
        return every, every
    lengths = vectors.norm(dim=1).numpy()
    _, first, inverse = np.unique(lengths, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return torch.from_numpy(rank[inverse]), torch.from_numpy(first[order])
