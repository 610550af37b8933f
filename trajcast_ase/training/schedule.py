"""Learning rate: warm-up, then a cosine or a reduction on plateaus."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trajcast_ase.training.config import OptimizerConfig


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


def learning_rate(step: int, options: OptimizerConfig, plateau: Plateau) -> float:
    """Return the learning rate of optimiser step `step`, counted from zero."""
    warmup = min(1.0, (step + 1) / max(options.warmup_steps, 1))
    rate = options.learning_rate * warmup
    if options.schedule == "plateau":
        return rate * options.plateau_factor**plateau.reductions
    start = options.constant_fraction * options.steps
    done = max(0.0, (step - start) / (options.steps - start))
    return rate * 0.5 * (1.0 + math.cos(math.pi * done))
