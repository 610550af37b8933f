"""The average of the weights that a training leaves."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from trajcast_ase.network import Forecaster
from trajcast_ase.training.rule import Number


class WeightAverage(nn.Module):
    """A copy of a model whose weights are an average that forgets its beginning.

    The decay grows as ``(1 + n) / (10 + n)`` up to `decay`, so that the wild first
    steps do not stay in the average for thousands of others; the first weights are
    taken over as they are.

    Parameters
    ----------
    model : Forecaster
    decay : float
    """

    module: Forecaster
    n_averaged: Tensor

    def __init__(self, model: Forecaster, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        self.decay = decay
        count = torch.zeros((), dtype=torch.int64, device=model.device)
        self.register_buffer("n_averaged", count)

    @torch.no_grad()
    def follow(self, model: Forecaster, sound: Number) -> None:
        """Take in the weights of `model`; if `sound` is 0, change nothing.

        The host reads nothing.
        """
        weight = self.weight().to(model.dtype) * sound.to(model.dtype)
        for average, now in zip(
            self.module.parameters(), model.parameters(), strict=True
        ):
            average.lerp_(now, weight)
        self.n_averaged.add_(sound.to(torch.int64))

    def weight(self) -> Number:
        """Return the share of the next weights in the average."""
        n = self.n_averaged.double()
        kept = ((1.0 + n) / (10.0 + n)).clamp(max=self.decay)
        return torch.where(n > 0, 1.0 - kept, torch.ones_like(kept))
