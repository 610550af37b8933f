"""Tensors without numbers: who reads one on the host gets an exception.

Torch's device "meta" stands for a GPU: there, too, a tensor of another device is
refused, and a copy from the host is seen by :class:`NoTransfers`.
"""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


def without_numbers(value: object) -> object:
    """Return `value` with all tensors in it on the device "meta"."""
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to("meta")
    if isinstance(value, tuple):
        return tuple(without_numbers(one) for one in value)
    if isinstance(value, dict):
        return {name: without_numbers(one) for name, one in value.items()}
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        return replace(value, **{n: without_numbers(getattr(value, n)) for n in names})
    return value


class NoTransfers(TorchDispatchMode):
    """Raise for a tensor that goes from one device to another.

    A CUDA graph cannot be captured while the host copies something to the device.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        copies = function in {
            torch.ops.aten._to_copy.default,
            torch.ops.aten.copy_.default,
        }
        for one in args if isinstance(result, torch.Tensor) else ():
            # A single number of the host is an argument of a kernel, unless copied.
            if isinstance(one, torch.Tensor) and (copies or one.dim() > 0):
                assert one.device == result.device, f"{function} from {one.device}"
        return result


UNORDERED = {
    torch.ops.aten.index_add.default,
    torch.ops.aten.index_add_.default,
    torch.ops.aten.scatter_add.default,
    torch.ops.aten.scatter_add_.default,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
}


class OneOrder(TorchDispatchMode):
    """Raise for a sum of fractions that a card makes in the order of its threads."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in UNORDERED:
            assert not result.dtype.is_floating_point, f"{function} has no order"
        return result
