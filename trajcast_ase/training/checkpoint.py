"""Everything a training needs to go on exactly, in one file without code in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from trajcast_ase.files import write_atomically
from trajcast_ase.sealed import SealError, read_tensors, seal
from trajcast_ase.strict import members, shortened

CHECKPOINT_NAME = "checkpoint.safetensors"
"""In the folder of a training."""
CHECKPOINT_FORMAT = "trajcast-training-2"
_COUNT = re.compile("[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a training after `step` optimiser steps.

    Attributes
    ----------
    step : int
    tensors : dict of str to Tensor
        Parameters, their averages and the optimiser's moments, by name.
    extra : dict
        JSON values: configuration, schedule state, best validation error.
    """

    step: int
    tensors: dict[str, Tensor]
    extra: dict[str, Any]


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` atomically: a kill leaves the old or the new file."""
    tensors = {name: t.detach().contiguous() for name, t in checkpoint.tensors.items()}
    step, extra = str(checkpoint.step), json.dumps(checkpoint.extra)
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "step": step,
        "extra": extra,
        "sha256": seal(step, extra, tensors),
    }
    write_atomically(path, save(tensors, metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    ValueError
        The file is damaged, was edited, or is no training checkpoint.
    """
    try:
        metadata, tensors = read_tensors(path)
    except SealError as error:
        raise ValueError(f"{error}; delete it to start anew") from error
    if metadata.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(
            f"{path} is no training checkpoint of format {CHECKPOINT_FORMAT}; delete "
            "it or choose another run.directory"
        )
    parts = (metadata.get("step", ""), metadata.get("extra", ""))
    if metadata.get("sha256") != seal(*parts, tensors):
        raise ValueError(
            f"{path} is not as it was written: its contents do not match their hash; "
            "restore it, or delete it to start anew"
        )
    return _checkpoint(*parts, tensors, path)


def _checkpoint(
    step: str, extra: str, tensors: dict[str, Tensor], path: Path
) -> Checkpoint:
    try:
        if not _COUNT.fullmatch(step):
            raise ValueError(f"step = {shortened(step)} is no number of steps")  # noqa: TRY301
        # Plain JSON: the best error before the first validation is infinite.
        values = members(json.loads(extra), "extra", dict)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no training checkpoint ({error}); restore it, or delete it to "
            "start anew"
        ) from error
    return Checkpoint(int(step), tensors, values)


def optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer], model: nn.Module
) -> dict[str, Tensor]:
    """Return the optimisers' tensors as ``optimizer/KIND/PARAMETER``.

    Single numbers are copies: parameters share a count of steps, which a file may not.
    """
    return {
        f"optimizer/{kind}/{name}": value if value.ndim else value.clone()
        for optimizer in optimizers
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizers(
    optimizers: Sequence[torch.optim.Optimizer],
    tensors: Mapping[str, Tensor],
    model: nn.Module,
) -> None:
    """Put the tensors of :func:`optimizer_tensors` back."""
    parameters = dict(model.named_parameters())
    owner = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, kind, parameter_name = name.split("/", 2)
            parameter = parameters[parameter_name]
            state = owner[id(parameter)].state[parameter]
            state[kind] = tensor.to(parameter.device)
