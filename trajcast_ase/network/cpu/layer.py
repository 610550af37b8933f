"""The compiled layer: features in, features out, no gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.network.cpu.build import load
from trajcast_ase.network.cpu.generate_layer import layer_source
from trajcast_ase.network.cpu.product import REAL, threads_for
from trajcast_ase.network.cpu.threads import Threads
from trajcast_ase.network.inference.arrays import check_arrays
from trajcast_ase.network.inference.layers import LayerInputs
from trajcast_ase.network.inference.matrices import LayerMatrices
from trajcast_ase.network.inference.shape import LayerShape
from trajcast_ase.network.weights import WeightRows


class _WeightsStruct(ctypes.Structure):
    """``struct Weights`` of the C++ program."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("fractions", ctypes.c_void_p),
    )


class _LayerStruct(ctypes.Structure):
    """``struct Layer`` of the C++ program."""

    _fields_ = (
        ("n_atoms", ctypes.c_int64),
        *((field.name, ctypes.c_void_p) for field in fields(LayerInputs)),
        ("edge_weights", _WeightsStruct),
        ("velocity_weights", _WeightsStruct),
        *((field.name, ctypes.c_void_p) for field in fields(LayerMatrices)),
    )


@cache
def layer_program(shape: LayerShape, dtype: torch.dtype) -> Callable[..., None]:
    """Return the entry point, compiled on first use."""
    function = load(layer_source(shape, REAL[dtype])).layer_forward
    function.argtypes = [
        ctypes.POINTER(_LayerStruct),
        *(ctypes.c_void_p,) * 2,
        ctypes.POINTER(Threads),
    ]
    function.restype = None
    return function


@dataclass(frozen=True, slots=True)
class CompiledLayer:
    """One layer, ready to run.

    Attributes
    ----------
    shape : LayerShape
    matrices : LayerMatrices
    """

    shape: LayerShape
    matrices: LayerMatrices

    def __call__(
        self,
        x: Float[Tensor, "atoms dim channels"],
        inputs: LayerInputs,
        edge: WeightRows,
        velocity: WeightRows,
    ) -> Float[Tensor, "atoms dim_out channels"]:
        """Return the features of ``shape.outputs``.

        Those of an atom do not depend on its place among the others, nor on the number
        of threads, to the last bit.

        Raises
        ------
        ValueError
            Arrays that do not fit together, which the program would misread.
        """
        check_arrays(self.shape, self.matrices.update, x, inputs, edge, velocity)
        out = x.new_empty(x.shape[0], self.shape.dim_out, self.shape.n_channels)
        layer = _LayerStruct(
            x.shape[0],
            *_pointers(inputs),
            _WeightsStruct(*_pointers(edge)),
            _WeightsStruct(*_pointers(velocity)),
            *_pointers(self.matrices),
        )
        threads = threads_for(len(inputs.senders))
        layer_program(self.shape, x.dtype)(layer, x.data_ptr(), out.data_ptr(), threads)
        return out


def _pointers(arrays: LayerInputs | LayerMatrices | WeightRows) -> list[int | None]:
    """Return where the arrays lie, in the order of their names."""
    tensors = [getattr(arrays, field.name) for field in fields(arrays)]
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]
