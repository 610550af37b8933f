"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

AverageFunction = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def exponential_average(decay: float) -> AverageFunction:
    """Return the update of an average that forgets its beginning.

    The decay grows as ``(1 + n) / (10 + n)`` up to `decay`, so that the wild first
    steps do not stay in the average for thousands of others.
    """

    @torch.no_grad()
    def update(
        averages: Sequence[Tensor], current: Sequence[Tensor], n_averaged: Tensor | int
    ) -> None:
        n = int(n_averaged)
        weight = 1.0 - min(decay, (1.0 + n) / (10.0 + n))
        torch._foreach_lerp_(list(averages), list(current), weight)

    return update
