"""The compiled product as a differentiable torch function."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trajcast_ase.network.cpu.build import load
from trajcast_ase.network.cpu.generate_product import product_source
from trajcast_ase.network.cpu.threads import Threads, threads
from trajcast_ase.network.irreps import ProductRule
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows

# Below this a thread costs more than it saves.
MIN_EDGES_PER_THREAD = 256
REAL = {torch.float32: "float", torch.float64: "double"}


def threads_for(n_edges: int) -> Threads:
    """Return as many threads as are worth their start."""
    return threads(min(torch.get_num_threads(), n_edges // MIN_EDGES_PER_THREAD))


class _EdgesStruct(ctypes.Structure):
    """``struct Edges`` of the C++ program."""

    _fields_ = (
        ("n_receivers", ctypes.c_int64),
        ("offsets", ctypes.c_void_p),
        ("senders", ctypes.c_void_p),
        ("weight_rows", ctypes.c_void_p),
        ("fractions", ctypes.c_void_p),
        ("harmonics", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class _Edges:
    """Edges as the kernel reads them; keeps the memory alive that it points to."""

    offsets: Tensor
    senders: Tensor
    weight_rows: Tensor
    fractions: Tensor | None
    harmonics: Tensor

    @property
    def threads(self) -> Threads:
        """Those that are worth their start; the result does not depend on it."""
        return threads_for(self.senders.shape[0])

    def struct(self) -> _EdgesStruct:
        """Return the pointers."""
        return _EdgesStruct(
            self.offsets.shape[0] - 1,
            self.offsets.data_ptr(),
            self.senders.data_ptr(),
            self.weight_rows.data_ptr(),
            None if self.fractions is None else self.fractions.data_ptr(),
            self.harmonics.data_ptr(),
        )


@dataclass(frozen=True, slots=True)
class _Kernel:
    """Entry points for one choice of irreps, channels and type."""

    forward: Callable[..., None]
    backward: Callable[..., None]


@cache
def _kernel(rule: ProductRule, n_channels: int, dtype: torch.dtype) -> _Kernel:
    """Return the kernel, compiled on first use."""
    library = load(product_source(rule, n_channels, REAL[dtype]))
    edges, pointer = ctypes.POINTER(_EdgesStruct), ctypes.c_void_p
    for name, n_pointers in (("product_forward", 3), ("product_backward", 5)):
        function = getattr(library, name)
        function.argtypes = [
            edges,
            *(pointer,) * n_pointers,
            ctypes.POINTER(Threads),
        ]
        function.restype = None
    return _Kernel(library.product_forward, library.product_backward)


def _pointers(tensors: tuple[Tensor, ...]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])


def _forward(
    rule: ProductRule, x: Tensor, weights: Tensor, edges: _Edges
) -> tuple[Tensor, ...]:
    n_rows, n_channels = edges.offsets.shape[0] - 1, x.shape[2]
    out = tuple(
        x.new_empty(n_rows, block.irrep.dim, block.n_paths * n_channels)
        for block in rule.blocks
    )
    _kernel(rule, x.shape[2], x.dtype).forward(
        edges.struct(),
        x.data_ptr(),
        weights.data_ptr(),
        _pointers(out),
        edges.threads,
    )
    return out


class _Function(torch.autograd.Function):
    """Differentiable once, with respect to features and weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, rule: ProductRule, edges: _Edges
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, weights)
        ctx.rule, ctx.edges = rule, edges
        return _forward(rule, x, weights, edges)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weights = ctx.saved_tensors
        rule = ctx.rule
        grad_out = tuple(grad.contiguous() for grad in grad_out)
        # Most rows of a table may be nobody's; other rows are set by their first edge.
        in_table = ctx.edges.fractions is not None
        grad_weights = (torch.zeros_like if in_table else torch.empty_like)(weights)
        grad_x = torch.zeros_like(x)
        _kernel(rule, x.shape[2], x.dtype).backward(
            ctx.edges.struct(),
            x.data_ptr(),
            weights.data_ptr(),
            _pointers(grad_out),
            grad_x.data_ptr(),
            grad_weights.data_ptr(),
            ctx.edges.threads,
        )
        return grad_x, grad_weights, None, None


def convolve(
    rule: ProductRule,
    x: Float[Tensor, "atoms dim channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    weights: WeightRows,
    routes: Routes,
) -> tuple[Float[Tensor, "atoms _ _"], ...]:
    """Return the product of the senders' features, summed at the receivers."""
    edges = _Edges(
        routes.offsets,
        routes.senders,
        weights.rows,
        weights.fractions,
        harmonics.contiguous(),
    )
    _check(rule, x, weights.values, edges)
    return _apply(rule, x, weights.values, edges)


def rowwise(
    rule: ProductRule,
    x: Float[Tensor, "rows dim channels"],
    harmonics: Float[Tensor, "rows harmonics"],
    weights: Float[Tensor, "rows paths channels"],
) -> tuple[Float[Tensor, "rows _ _"], ...]:
    """Return the product of each row with its own harmonics and weights."""
    # Row i is an edge from i to itself: offsets, senders and weight rows all count up.
    count = torch.arange(x.shape[0] + 1, device="cpu")
    edges = _Edges(count, count[:-1], count[:-1], None, harmonics.contiguous())
    weights = weights.flatten(1)
    _check(rule, x, weights, edges)
    return _apply(rule, x, weights, edges)


def _apply(
    rule: ProductRule, x: Tensor, weights: Tensor, edges: _Edges
) -> tuple[Tensor, ...]:
    x, weights = x.contiguous(), weights.contiguous()
    if torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad):
        out: tuple[Tensor, ...] = _Function.apply(  # type: ignore[no-untyped-call]
            x, weights, rule, edges
        )
        return out
    return _forward(rule, x, weights, edges)


def _check(rule: ProductRule, x: Tensor, weights: Tensor, edges: _Edges) -> None:
    """Raise ValueError for arrays that the kernel would misread as raw memory."""
    for tensor in (x, weights, edges.harmonics):
        if x.dtype not in REAL or tensor.dtype != x.dtype or not tensor.is_cpu:
            raise ValueError(
                "the backend 'cpp' computes in float32 or float64 on the CPU, but got "
                f"{tensor.dtype} on {tensor.device}; use the backend 'reference'"
            )
    n_edges, n_channels = len(edges.senders), x.shape[2]
    expected = {
        "features": (x, (x.shape[0], rule.dim_in, n_channels)),
        "weights": (weights, (len(weights), rule.n_paths * n_channels)),
        "harmonics": (edges.harmonics, (n_edges, rule.n_harmonics)),
        "weight rows": (edges.weight_rows, (n_edges,)),
    }
    if edges.fractions is not None:
        expected["fractions"] = (edges.fractions, (n_edges,))
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} have shape {tuple(tensor.shape)}, not {shape}")
    if n_edges > 0:
        last = int(edges.weight_rows.max()) + 3 * (edges.fractions is not None)
        if last >= len(weights):
            raise ValueError(f"edges use rows up to {last} of {len(weights)} weights")
