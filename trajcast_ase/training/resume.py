"""A checkpoint back into a training: all of it, or an error that says why not."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from trajcast_ase.network import Forecaster
from trajcast_ase.strict import integer, members, number, shortened
from trajcast_ase.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizers,
)
from trajcast_ase.training.config import MOST_STEPS, MOST_THREADS, OptimizerConfig
from trajcast_ase.training.optimizer import Plateau, make_optimizers

MOST_NUMBERS = 2**53
"""Of reductions, waits and unreported losses: floats count as far."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a training has done, beside its tensors.

    Attributes
    ----------
    step : int
    seconds, seconds_reported : float
        Of all steps, and until the last report.
    unreported : tuple of float
        Losses since then.
    plateau : Plateau
    threads : int
    steps : int
        Of the whole training.
    """

    step: int
    seconds: float
    seconds_reported: float
    unreported: tuple[float, ...]
    plateau: Plateau
    threads: int
    steps: int

    def to_plain(self) -> dict[str, Any]:
        """Return all but `step` as JSON values."""
        values = asdict(self)
        del values["step"]
        return values

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """Return what a checkpoint states.

        Raises
        ------
        ValueError
            A value is missing, of another type or out of range.
        """
        step, values = checkpoint.step, checkpoint.extra
        losses = members(values.get("unreported"), "unreported")
        if len(losses) > step:
            raise ValueError(f"unreported has {len(losses)} losses of {step} steps")
        return cls(
            step=step,
            seconds=number(values.get("seconds"), "seconds", 0),
            seconds_reported=number(
                values.get("seconds_reported"), "seconds_reported", 0
            ),
            unreported=tuple(number(loss, "unreported, a loss") for loss in losses),
            plateau=_plateau(values.get("plateau")),
            threads=integer(values.get("threads"), "threads", 1, MOST_THREADS),
            steps=integer(values.get("steps"), "steps", max(step, 1), MOST_STEPS),
        )


def _plateau(value: Any) -> Plateau:
    values = members(value, "plateau", dict)
    if values.keys() != {"reductions", "best", "waited"}:
        raise ValueError(f"plateau = {shortened(value)} lacks a key or has another")
    best = values["best"]
    if best != math.inf:  # before the first validation
        number(best, "plateau.best", 0)
    return Plateau(
        reductions=integer(values["reductions"], "plateau.reductions", 0, MOST_NUMBERS),
        best=best,
        waited=integer(values["waited"], "plateau.waited", 0, MOST_NUMBERS),
    )


def identity_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what names the training of a checkpoint."""
    identity: dict[str, Any] = members(
        checkpoint.extra.get("identity"), "identity", dict
    )
    return identity


@dataclass(frozen=True, slots=True)
class TrainingParts:
    """Everything of a training that has tensors.

    Attributes
    ----------
    model : Forecaster
    average : Module
    optimizers : sequence of Optimizer
    options : OptimizerConfig
        That `optimizers` were made from.
    """

    model: Forecaster
    average: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    options: OptimizerConfig

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        return self._of_modules() | optimizer_tensors(self.optimizers, self.model)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the tensors of a checkpoint back.

        Raises
        ------
        ValueError
            One is missing, unknown, of another shape or type, or not finite; nothing
            has changed then.
        """
        self._check(checkpoint)
        for prefix, module in self._modules():
            module.load_state_dict(
                {
                    name.removeprefix(prefix): tensor
                    for name, tensor in checkpoint.tensors.items()
                    if name.startswith(prefix)
                }
            )
        restore_optimizers(self.optimizers, checkpoint.tensors, self.model)

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("model/", self.model), ("average/", self.average)

    def _of_modules(self) -> dict[str, Tensor]:
        return {
            f"{prefix}{name}": tensor
            for prefix, module in self._modules()
            for name, tensor in module.state_dict().items()
        }

    def _check(self, checkpoint: Checkpoint) -> None:
        expected = self._of_modules()
        if checkpoint.step > 0:
            expected |= self._optimizer_tensors_after_a_step()
        found = checkpoint.tensors
        for name in sorted(expected.keys() | found.keys()):
            if name not in found:
                raise ValueError(f"it lacks the tensor {name!r}")
            if name not in expected:
                raise ValueError(f"it holds a tensor {shortened(name)} of no use here")
            _check_like(found[name], expected[name], name)
            if _counts_steps(name):
                number(float(found[name]), name, 0, checkpoint.step)
            if _holds_squares(name) and bool((found[name] < 0).any()):
                raise ValueError(f"{name!r} holds mean squares below zero")

    def _optimizer_tensors_after_a_step(self) -> Mapping[str, Tensor]:
        """Return the optimisers' tensors of a step without gradient, of a copy.

        All of them exist after one step, with their final shapes.
        """
        model = copy.deepcopy(self.model)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizers = make_optimizers(model, self.options)
        for optimizer in optimizers:
            optimizer.step()
        return optimizer_tensors(optimizers, model)


def _counts_steps(name: str) -> bool:
    kind = name.split("/")[1]
    return name == "average/n_averaged" or (
        name.startswith("optimizer/") and kind.endswith("step")
    )


def _holds_squares(name: str) -> bool:
    return name.startswith("optimizer/") and name.split("/")[1].endswith(
        ("exp_avg_sq", "-square")
    )


def _check_like(found: Tensor, expected: Tensor, name: str) -> None:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(
            f"{name!r} is of shape {tuple(found.shape)} and {found.dtype}, here "
            f"it is of shape {tuple(expected.shape)} and {expected.dtype}"
        )
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"{name!r} holds numbers that are not finite")


def read_checkpoint(path: Path) -> tuple[Checkpoint, Progress, dict[str, Any]]:
    """Return a checkpoint, the progress that it states, and whose it is.

    Raises
    ------
    ValueError
        The file is damaged, was edited, or is no training checkpoint.
    """
    checkpoint = load_checkpoint(path)
    try:
        progress = Progress.from_checkpoint(checkpoint)
        return checkpoint, progress, identity_of(checkpoint)
    except ValueError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: ValueError) -> ValueError:
    """Return the error of a checkpoint that nobody can go on from."""
    return ValueError(
        f"{path} cannot be gone on from: {error}; restore it, or delete it to start "
        "anew"
    )
