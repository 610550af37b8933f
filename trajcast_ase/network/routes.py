"""Which atom sends to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Int
from torch import Tensor

from trajcast_ase.neighbors import Edges


@dataclass(frozen=True, slots=True)
class Routes:
    """Edges sorted by receiver.

    A list of fixed size has rows behind the last offset, which kernels do not read.
    Torch operations do: a receiver there is an atom, and the edge is longer than the
    cutoff, so that it weighs nothing.

    Attributes
    ----------
    receivers, senders : (n_edges,) int64
        `receivers` ascends.
    offsets : (n_atoms + 1,) int64
        The edges of receiver i are ``offsets[i]`` to ``offsets[i + 1] - 1``.
    """

    receivers: Int[Tensor, " edges"]
    senders: Int[Tensor, " edges"]
    offsets: Int[Tensor, " atoms_and_one"]

    @classmethod
    def of_edges(cls, edges: Edges, n_atoms: int) -> Self:
        """Return the routes of `edges` between `n_atoms` atoms."""
        receivers, senders = edges.receivers.contiguous(), edges.senders.contiguous()
        bounds = torch.arange(n_atoms + 1, device=receivers.device)
        return cls(receivers, senders, torch.searchsorted(receivers, bounds))

    def sums(self, messages: Tensor) -> Tensor:
        """Return the sum of the messages of edges at each receiver.

        Without gradients every sum has one order, on any device.
        """
        if messages.device.type == "cpu" or messages.requires_grad:
            total = messages.new_zeros(self.n_atoms, *messages.shape[1:])
            return total.index_add(0, self.receivers, messages)
        # On a card index_add has the order in which its threads happen to come.
        return torch.segment_reduce(
            messages, "sum", offsets=self.offsets, axis=0, unsafe=True
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms, those without edges included."""
        return self.offsets.shape[0] - 1
