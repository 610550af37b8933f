"""From gradients to weights, one step: nothing of it is read on the host.

Gradients are clipped, the optimisers change the weights, the average follows. On a CUDA
device this is one graph, captured once and replayed; elsewhere it is a call. Whether
the gradients are finite is decided on the device, too: where they are not, the step
changes nothing, to the last bit, and the device counts it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from trajcast_ase.device.capture import captured
from trajcast_ase.network import Forecaster
from trajcast_ase.training.average import WeightAverage
from trajcast_ase.training.config import OptimizerConfig
from trajcast_ase.training.optimizer import make_optimizers
from trajcast_ase.training.rule import Rule

Capture = Callable[[Callable[[], None], torch.device], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Steps that were left out, since their gradients were not finite.

    Attributes
    ----------
    now : int
        In a row, up to the last step.
    most : int
        In a row, ever.
    """

    now: int
    most: int


class Update:
    """Weights, their average and their optimisers, of which each call is a step.

    Parameters
    ----------
    model : Forecaster
        With gradients at every call.
    average : WeightAverage
    optimizers : sequence of Rule
    options : OptimizerConfig
        That `optimizers` were made from.
    capture : callable or None
        Makes a graph of a call; None: every step is a call.
    """

    def __init__(
        self,
        model: Forecaster,
        average: WeightAverage,
        optimizers: Sequence[Rule],
        options: OptimizerConfig,
        capture: Capture | None,
    ) -> None:
        self.model, self.average = model, average
        self.optimizers = tuple(optimizers)
        self.rate = options.learning_rate
        self._clip, self._capture = options.gradient_clip, capture
        self._parameters = tuple(model.parameters())
        self._rate = torch.zeros((), dtype=torch.float64, device=model.device)
        self._left_out = torch.zeros(2, dtype=torch.int64, device=model.device)
        self._armed = torch.ones((), dtype=torch.bool, device=model.device)
        self._live: tuple[nn.Parameter, ...] = ()
        self._graph: _Graph | None = None
        self._began = False

    @classmethod
    def of(cls, model: Forecaster, options: OptimizerConfig) -> Self:
        """Return the updates of a model where it is, captured on a CUDA device."""
        return cls(
            model,
            WeightAverage(model, options.ema_decay),
            make_optimizers(model, options),
            options,
            captured if model.device.type == "cuda" else None,
        )

    def __call__(self, rate: float, step: int) -> None:
        """Take a step by the gradients that there are.

        Parameters
        ----------
        rate : float
            Learning rate.
        step : int
            Number of steps before this one.
        """
        self.rate = rate
        self._rate.fill_(rate)
        if not self._began:
            self._begin()
            return
        self._look_at_gradients()
        if self._capture is None:
            self.apply()
        else:
            self._replay(self._capture)
        for optimizer in self.optimizers:
            optimizer.refresh(step)

    def left_out(self) -> LeftOut:
        """Return how many steps were left out; the host waits for the device."""
        now, most = self._left_out.tolist()
        return LeftOut(now, most)

    def restored(self) -> None:
        """Take note that the optimisers have other tensors, those of a checkpoint."""
        self._began = any(one.state for one in self.optimizers)
        self._live, self._graph = (), None

    @torch.no_grad()
    def apply(self) -> None:
        """Clip gradients, and change weights, state and average; read nothing."""
        sound = self._clipped()
        for optimizer in self.optimizers:
            optimizer.apply(self._rate, sound)
        self.average.follow(self.model, sound)

    @torch.no_grad()
    def _begin(self) -> None:
        """Take a first step, which makes the optimisers' state; the host waits."""
        sound = self._clipped()
        if not bool(sound):
            return
        for optimizer in self.optimizers:
            if not optimizer.begin():
                optimizer.apply(self._rate, sound)
        self.average.follow(self.model, sound)
        self._began = True

    def _look_at_gradients(self) -> None:
        """Make what state is missing where other parameters than before have any."""
        live = tuple(one for one in self._parameters if one.grad is not None)
        same = len(live) == len(self._live) and all(map(operator.is_, live, self._live))
        if not same:
            self._live, self._graph = live, None
            for optimizer in self.optimizers:
                optimizer.begin()

    def _clipped(self) -> Tensor:
        """Clip the gradients; return 1, or 0 where they were not finite: now zero."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
        sound = torch.isfinite(norm) & self._armed
        for one in self._parameters:
            if one.grad is not None:
                one.grad.masked_fill_(~sound, 0.0)
        row, most = self._left_out.unbind()
        row.add_(1).mul_(~sound)
        torch.maximum(most, row, out=most)
        return sound.to(torch.float64)

    def _replay(self, capture: Capture) -> None:
        """Replay the graph, which is captured where there is none."""
        if self._graph is None:
            self._graph = self._captured(capture)
        gradients = [one.grad for one in self._live if one.grad is not None]
        torch._foreach_copy_(list(self._graph.gradients), gradients)
        self._graph.replay()
        # A replay goes past what counts the changes of a tensor, which others ask for.
        for one in (*self._parameters, *self.average.module.parameters()):
            torch.autograd.graph.increment_version(one)

    def _captured(self, capture: Capture) -> _Graph:
        """Return the graph of a step; making it leaves no trace."""
        gradients = [one.grad for one in self._live]
        buffers = tuple(torch.zeros_like(one) for one in self._live)
        counted = self._left_out.clone()
        for one, buffer in zip(self._live, buffers, strict=True):
            one.grad = buffer
        # What is captured runs some times before: as steps that are left out.
        self._armed.fill_(False)
        replay = capture(self.apply, self._rate.device)
        self._armed.fill_(True)
        for one, gradient in zip(self._live, gradients, strict=True):
            one.grad = gradient
        self._left_out.copy_(counted)
        return _Graph(buffers, replay)


@dataclass(frozen=True, slots=True)
class _Graph:
    """A captured step, which takes its gradients from `gradients`."""

    gradients: tuple[Tensor, ...]
    replay: Callable[[], None]
