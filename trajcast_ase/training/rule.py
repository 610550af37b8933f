"""What an optimiser must be to be part of a CUDA graph: one that reads nothing.

A step has three parts. :meth:`Rule.begin` makes the state, once, and may look at it.
:meth:`Rule.apply` changes weights and state: learning rate and the word whether the
gradients are finite are tensors on the device, so that the host neither knows nor
waits. :meth:`Rule.refresh` does what is due only now and then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Number = Float[Tensor, ""]


class Rule(torch.optim.Optimizer, ABC):
    """An optimiser whose step reads nothing on the host."""

    _calls = 0

    @abstractmethod
    def begin(self) -> bool:
        """Make what is missing of the state; return whether this step does no more.

        Gradients are finite, and the host may read them.
        """

    @abstractmethod
    def apply(self, rate: Number, sound: Number) -> None:
        """Change weights and state by finite gradients, reading nothing on the host.

        Parameters
        ----------
        rate : () float64
            Learning rate.
        sound : () float64
            1, or 0 for a step that is left out: then gradients are zero, and nothing
            changes.
        """

    def refresh(self, step: int) -> None:
        """Do what is due after some of the steps, counted from zero."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # overloads of the base
        """Apply one update, at the learning rate ``param_groups[0]["lr"]``."""
        loss = None if closure is None else closure()
        if not self.begin():
            group = self.param_groups[0]
            rate = torch.tensor(
                group["lr"], dtype=torch.float64, device=group["params"][0].device
            )
            self.apply(rate, torch.ones_like(rate))
            self._calls += 1
            self.refresh(self._calls)
        return loss


def follow(
    averages: Sequence[Tensor], values: Sequence[Tensor], weight: Number
) -> None:
    """Move each of `averages` towards its value, in place, by the share `weight`."""
    missing = torch._foreach_sub(list(values), list(averages))  # noqa: SLF001
    torch._foreach_mul_(missing, weight.to(missing[0].dtype))
    torch._foreach_add_(list(averages), missing)


def descend(weights: Sequence[Tensor], changes: Sequence[Tensor], kept: Number) -> None:
    """Multiply `weights` with `kept`, which is their decay, and subtract `changes`."""
    torch._foreach_mul_(list(weights), kept.to(weights[0].dtype))
    torch._foreach_sub_(list(weights), list(changes))
