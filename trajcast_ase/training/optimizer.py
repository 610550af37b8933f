"""Optimisers and their learning rate.

SOAP or Muon for the matrices of the network, AdamW for all else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trajcast_ase.network import Forecaster
from trajcast_ase.network.interaction import IrrepLinear, SpeciesLinear
from trajcast_ase.network.radial import MLP
from trajcast_ase.training.adam import Adam
from trajcast_ase.training.config import OptimizerConfig
from trajcast_ase.training.matrix_blocks import Shapes, StackState, stacks
from trajcast_ase.training.rule import Number, Rule, descend
from trajcast_ase.training.schedule import Schedule
from trajcast_ase.training.soap import Soap

# Odd quintic whose iterates push all singular values to about 1 (K. Jordan, 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
# Gives the update the rms of a typical Adam step (Liu et al., arXiv:2502.16982).
UPDATE_RMS = 0.2
# Gradients are clipped to a norm of about 1; one this small is rounding, as for
# features that vanish by symmetry, and must not be blown up to a full update.
NOISE_FLOOR = 1e-7
# Orthogonalising a matrix with fewer rows or columns would only normalise it.
SMALLEST_SIDE = 4
# Decay of the mean square in SOAP; 0.99 is worse (docs/training.md).
SOAP_SQUARE_DECAY = 0.95


class Muon(Rule):
    """Momentum whose matrix blocks are orthogonalised before they are applied.

    A flat parameter may hold several matrices one after the other, as the weights of
    :class:`~trajcast_ase.network.interaction.IrrepLinear` do; each is a block of its
    own. Blocks of equal shape are orthogonalised together.

    Parameters
    ----------
    params : iterable of (Parameter, shapes)
        Shapes of the matrices in each parameter; their sizes sum to its length.
    lr : float
    momentum : float
    weight_decay : float
        Decoupled. An update has a fixed size whatever the gradient, so that weights
        grow without it.

    Notes
    -----
    K. Jordan et al., Muon (2024); scale of the update from Liu et al.,
    arXiv:2502.16982. Measured benefit here: docs/training.md.
    """

    def __init__(
        self,
        params: Iterable[tuple[nn.Parameter, Shapes]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        blocks = list(params)
        self.stacks = stacks(blocks)
        super().__init__(
            [parameter for parameter, _ in blocks],
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def begin(self) -> bool:
        """Make momenta that are missing, of zeros."""
        for stack in self.stacks:
            state = StackState(self.state[stack.owner], stack.shape)
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(stack.gradients())
        return False

    @torch.no_grad()
    def apply(self, rate: Number, sound: Number) -> None:
        """Change weights and state; see :meth:`.Rule.apply`."""
        group = self.param_groups[0]
        decay, kept = group["momentum"], 1.0 - rate * sound * group["weight_decay"]
        for stack in self.stacks:
            state = StackState(self.state[stack.owner], stack.shape)
            gradients = stack.gradients()
            weight = ((1.0 - decay) * sound).to(gradients.dtype)
            buffer = state["momentum"].lerp_(gradients, weight)
            update = orthogonalize(torch.lerp(gradients, buffer, decay))
            scale = rate * sound * UPDATE_RMS * max(stack.shape) ** 0.5
            descend(stack.weights(), (update * scale).unbind(0), kept)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return `matrices` (n, rows, columns) with singular values near 1."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.transpose(1, 2) if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + NOISE_FLOOR)
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x


def matrix_blocks(model: Forecaster) -> list[tuple[nn.Parameter, Shapes]]:
    """Return the parameters of `model` that are matrices, with their shapes."""
    blocks: list[tuple[nn.Parameter, Shapes]] = []
    for module in model.modules():
        if isinstance(module, IrrepLinear):
            blocks.append((module.weight, tuple(module.shapes)))
        elif isinstance(module, SpeciesLinear):
            n_irreps, n_channels, n_species, _ = module.shape
            shape = (n_channels, n_species * n_channels)
            blocks.append((module.weight, (shape,) * n_irreps))
        elif isinstance(module, MLP):
            blocks += [(weight, (tuple(weight.shape),)) for weight in module.weights]
    return [
        (parameter, shapes)
        for parameter, shapes in blocks
        if min(min(shape) for shape in shapes) >= SMALLEST_SIDE
    ]


def make_optimizers(model: Forecaster, options: OptimizerConfig) -> tuple[Rule, ...]:
    """Return the optimisers that together cover all parameters."""
    adam: dict[str, Any] = {"lr": options.learning_rate, "betas": options.betas}
    if options.optimizer == "adam-amsgrad":
        return (Adam(model.parameters(), amsgrad=True, **adam),)
    adam["weight_decay"] = options.weight_decay
    if options.optimizer == "adamw":
        return (Adam(model.parameters(), **adam),)
    blocks = matrix_blocks(model)
    matrices = {id(parameter) for parameter, _ in blocks}
    others = [p for p in model.parameters() if id(p) not in matrices]
    return (
        _matrix_optimizer(blocks, options),
        Adam(others, **adam),
    )


def _matrix_optimizer(
    blocks: list[tuple[nn.Parameter, Shapes]], options: OptimizerConfig
) -> Soap | Muon:
    shared: dict[str, Any] = {
        "lr": options.learning_rate,
        "weight_decay": options.weight_decay,
    }
    if options.optimizer == "muon":
        return Muon(blocks, momentum=options.momentum, **shared)
    return Soap(
        blocks,
        betas=(options.momentum, SOAP_SQUARE_DECAY),
        refresh_every=options.refresh_every,
        longest_side=options.longest_side,
        **shared,
    )


@dataclass(frozen=True, slots=True)
class Plateau:
    """How often validations have reduced the learning rate.

    Attributes
    ----------
    reductions : int
    best : float
        Smallest validation error so far.
    waited : int
        Validations since then.
    """

    reductions: int = 0
    best: float = math.inf
    waited: int = 0

    def after(self, error: float, options: OptimizerConfig) -> Plateau:
        """Return the state after a validation."""
        if error < self.best:
            return Plateau(self.reductions, error, 0)
        if self.waited < options.plateau_patience:
            return Plateau(self.reductions, self.best, self.waited + 1)
        return Plateau(self.reductions + 1, self.best, 0)


def learning_rate(
    step: int, options: OptimizerConfig, plateau: Plateau, schedule: Schedule
) -> float:
    """Return the learning rate of optimiser step `step`, counted from zero."""
    rate = options.learning_rate * min(1.0, (step + 1) / max(schedule.warmup, 1))
    if options.schedule == "plateau":
        return rate * options.plateau_factor**plateau.reductions
    start = options.constant_fraction
    done = max(0.0, (schedule.share(step) - start) / (1.0 - start))
    return rate * 0.5 * (1.0 + math.cos(math.pi * done))
