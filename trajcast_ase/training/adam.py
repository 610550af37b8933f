"""Adam with decoupled weight decay, as a rule that reads nothing on the host."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from trajcast_ase.training.rule import Number, Rule, descend, follow

FLOOR = 1e-8
"""Added to the root of the mean square."""


class Adam(Rule):
    """Adam; with `weight_decay` AdamW, with `amsgrad` of the largest mean square.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
    betas : (float, float)
        Decay of the mean gradient, and of the mean of its squares.
    weight_decay : float
        Decoupled.
    amsgrad : bool

    Notes
    -----
    Loshchilov and Hutter, arXiv:1711.05101; the numbers are those of
    :class:`torch.optim.AdamW` and :class:`torch.optim.Adam`, which run on a card as
    they can be captured, and so nowhere else. All parameters share one count of steps.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        self.amsgrad = amsgrad
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def begin(self) -> bool:
        """Make moments that are missing, of zeros."""
        live = self._live()
        for parameter in live:
            state = self.state[parameter]
            for name in self._moments() if not state else ():
                state[name] = torch.zeros_like(parameter)
        counts = [self.state[p]["step"] for p in live if "step" in self.state[p]]
        count = counts[0] if counts else torch.zeros((), device=_device(live))
        for parameter in live:
            self.state[parameter]["step"] = count
        return False

    @torch.no_grad()
    def apply(self, rate: Number, sound: Number) -> None:
        """Change weights and state; see :meth:`.Rule.apply`."""
        live = self._live()
        if not live:
            return
        group = self.param_groups[0]
        states = [self.state[parameter] for parameter in live]
        gradients = [p.grad for p in live if p.grad is not None]
        means, squares, *largest = (
            [state[name] for state in states] for name in self._moments()
        )
        first, second = group["betas"]
        # Before the first step there is nothing to divide by; nor is anything changed.
        count = states[0]["step"].add_(sound).double().clamp(min=1.0)
        follow(means, gradients, (1.0 - first) * sound)
        fresh = torch._foreach_mul(gradients, gradients)  # noqa: SLF001
        follow(squares, fresh, (1.0 - second) * sound)
        for maxima in largest:
            torch._foreach_maximum_(maxima, squares)
        roots = torch._foreach_sqrt(largest[0] if largest else squares)  # noqa: SLF001
        dtype = roots[0].dtype
        torch._foreach_mul_(roots, (1.0 - torch.pow(second, count)).rsqrt().to(dtype))
        torch._foreach_add_(roots, FLOOR)
        changes = torch._foreach_div(means, roots)  # noqa: SLF001
        torch._foreach_mul_(
            changes, (rate * sound / (1.0 - torch.pow(first, count))).to(dtype)
        )
        descend(live, changes, 1.0 - rate * sound * group["weight_decay"])

    def _live(self) -> list[nn.Parameter]:
        """Return the parameters that have a gradient."""
        parameters: list[nn.Parameter] = self.param_groups[0]["params"]
        return [one for one in parameters if one.grad is not None]

    def _moments(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq") + self.amsgrad * ("max_exp_avg_sq",)


def _device(parameters: list[nn.Parameter]) -> torch.device | None:
    return parameters[0].device if parameters else None
