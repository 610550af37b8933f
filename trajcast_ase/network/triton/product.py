"""The product summed over edges as Triton kernels, and its derivatives for training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from trajcast_ase.network.irreps import Irreps, ProductRule
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.triton.generate_product import ProductCode
from trajcast_ase.network.triton.programs import (
    generated,
    launch,
    power_of_two,
    program,
)
from trajcast_ase.network.weights import WeightRows

MOST_CHANNELS = 32
"""Of one program, a warp: a channel for each thread."""
MOST_COLUMNS = 256
"""Of one program that sums rows of gradients."""


@dataclass(frozen=True, slots=True)
class ProductInputs:
    """What a product reads besides features and weights.

    Attributes
    ----------
    harmonics : (n_edges, (lmax + 1)²)
    rows : (n_edges,) int64
    fractions : (n_edges,) or None
        As in :class:`.WeightRows`.
    offsets, senders, receivers : int64 or None
        As in :class:`.Routes`. None: every atom has one edge, to itself.
    """

    harmonics: Float[Tensor, "edges harmonics"]
    rows: Int[Tensor, " edges"]
    fractions: Float[Tensor, " edges"] | None
    offsets: Int[Tensor, " atoms_and_one"] | None = None
    senders: Int[Tensor, " edges"] | None = None
    receivers: Int[Tensor, " edges"] | None = None

    def code(self, rule: ProductRule, outputs: Irreps) -> ProductCode:
        """Return the kernels that read such inputs."""
        return _code(rule, outputs, self.fractions is not None, self.offsets is None)


@cache
def _code(
    rule: ProductRule, outputs: Irreps, between: bool, rowwise: bool
) -> ProductCode:
    return ProductCode(rule, outputs, between, rowwise)


@cache
def _forward_sources(code: ProductCode) -> tuple[str, ...]:
    return tuple(code.forward(group) for group in code.groups)


@cache
def _backward_source(code: ProductCode) -> str:
    return code.backward()


def product_sums(
    rule: ProductRule,
    outputs: Irreps,
    x: Float[Tensor, "atoms dim channels"],
    values: Float[Tensor, "rows weights"],
    inputs: ProductInputs,
) -> Float[Tensor, " rows_of_blocks"]:
    """Return the blocks of `outputs`, summed at the receivers, one after the other.

    Each is (n_atoms, components, paths * n_channels); edges behind the last offset are
    not read.
    """
    code, (n_atoms, _, n_channels) = inputs.code(rule, outputs), x.shape
    out = x.new_empty(n_atoms * code.n_rows * n_channels)
    for source in _forward_sources(code):
        launch(
            generated(source),
            _grid(n_atoms, n_channels),
            x,
            inputs.harmonics,
            values,
            inputs.rows,
            inputs.fractions,
            inputs.offsets,
            inputs.senders,
            out,
            n_atoms,
            on=x,
            **_slices(n_channels),
        )
    return out


def _grid(n_atoms: int, n_channels: int) -> tuple[int, ...]:
    return (n_atoms, -(-n_channels // _slices(n_channels)["BLOCK"]))


def _slices(n_channels: int) -> dict[str, int]:
    block = min(MOST_CHANNELS, power_of_two(n_channels))
    return {"C": n_channels, "BLOCK": block, "num_warps": 1}


class _Function(torch.autograd.Function):
    """Differentiable once, with respect to features and weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, rule: ProductRule, inputs: ProductInputs
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, values)
        ctx.rule, ctx.inputs = rule, inputs
        return _blocks(rule, x, values, inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, values = ctx.saved_tensors
        grad = torch.cat([block.flatten() for block in grad_out])
        return (*gradients(ctx.rule, x, values, ctx.inputs, grad), None, None)


def _blocks(
    rule: ProductRule, x: Tensor, values: Tensor, inputs: ProductInputs
) -> tuple[Tensor, ...]:
    sums = product_sums(rule, rule.irreps_out, x, values, inputs)
    n_atoms, n_channels = x.shape[0], x.shape[2]
    shapes = [(b.irrep.dim, b.n_paths * n_channels) for b in rule.blocks]
    parts = sums.split_with_sizes([n_atoms * dim * n for dim, n in shapes])
    return tuple(
        part.view(n_atoms, *shape) for part, shape in zip(parts, shapes, strict=True)
    )


def gradients(
    rule: ProductRule, x: Tensor, values: Tensor, inputs: ProductInputs, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of features and weights, every sum in a fixed order.

    `grad` is that of what :func:`product_sums` returns.
    """
    n_atoms, _, n_channels = x.shape
    order = offsets = None
    if inputs.senders is not None:
        order = inputs.senders.argsort(stable=True)
        bounds = torch.arange(n_atoms + 1, device=x.device)
        offsets = torch.searchsorted(inputs.senders[order], bounds)
    grad_x = torch.empty_like(x)
    of_edges = x.new_empty(len(inputs.harmonics), values.shape[1])
    launch(
        generated(_backward_source(inputs.code(rule, rule.irreps_out))),
        _grid(n_atoms, n_channels),
        x,
        inputs.harmonics,
        values,
        inputs.rows,
        inputs.fractions,
        offsets,
        order,
        inputs.receivers,
        grad,
        grad_x,
        of_edges,
        n_atoms,
        on=x,
        **_slices(n_channels),
    )
    if inputs.offsets is None:
        return grad_x, of_edges
    return grad_x, _summed(of_edges, inputs, len(values))


def _summed(of_edges: Tensor, inputs: ProductInputs, n_rows: int) -> Tensor:
    """Return the gradients of rows of weights from those of the edges that use them."""
    order = inputs.rows.argsort(stable=True)
    bounds = torch.arange(n_rows + 1, device=order.device)
    firsts = torch.searchsorted(inputs.rows[order], bounds)
    n_columns = of_edges.shape[1]
    out = of_edges.new_empty(n_rows, n_columns)
    block = min(MOST_COLUMNS, power_of_two(n_columns))
    launch(
        program("sum_rows"),
        (n_rows, -(-n_columns // block)),
        of_edges,
        order,
        firsts,
        inputs.rows,
        inputs.fractions,
        out,
        on=out,
        COLUMNS=n_columns,
        BETWEEN=inputs.fractions is not None,
        BLOCK=block,
    )
    return out


def convolve(
    rule: ProductRule,
    x: Float[Tensor, "atoms dim channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    weights: WeightRows,
    routes: Routes,
) -> tuple[Float[Tensor, "atoms _ _"], ...]:
    """Return the product of the senders' features, summed at the receivers.

    For gradients the list of edges must not have rows behind its edges.
    """
    inputs = ProductInputs(
        harmonics.contiguous(),
        weights.rows,
        weights.fractions,
        routes.offsets,
        routes.senders,
        routes.receivers,
    )
    return _apply(rule, x, weights.values, inputs)


def rowwise(
    rule: ProductRule,
    x: Float[Tensor, "rows dim channels"],
    harmonics: Float[Tensor, "rows harmonics"],
    weights: Float[Tensor, "rows paths channels"],
) -> tuple[Float[Tensor, "rows _ _"], ...]:
    """Return the product of each row with its own harmonics and weights."""
    rows = torch.arange(len(x), device=x.device)
    inputs = ProductInputs(harmonics.contiguous(), rows, None)
    return _apply(rule, x, weights.flatten(1), inputs)


def _apply(
    rule: ProductRule, x: Tensor, values: Tensor, inputs: ProductInputs
) -> tuple[Tensor, ...]:
    _check(rule, x, values, inputs)
    x, values = x.contiguous(), values.contiguous()
    if torch.is_grad_enabled() and (x.requires_grad or values.requires_grad):
        blocks: tuple[Tensor, ...] = _Function.apply(  # type: ignore[no-untyped-call]
            x, values, rule, inputs
        )
        return blocks
    return _blocks(rule, x, values, inputs)


def _check(rule: ProductRule, x: Tensor, values: Tensor, inputs: ProductInputs) -> None:
    """Raise ValueError for arrays that the kernel would misread as raw memory.

    Numbers of rows and atoms are not read: a card would have to be waited for.
    """
    for tensor in (x, values, inputs.harmonics):
        known = x.dtype in {torch.float32, torch.float64}
        if not known or (tensor.dtype, tensor.device) != (x.dtype, x.device):
            raise ValueError(
                "the backend 'triton' computes in float32 or float64 on one device, "
                f"but got {x.dtype} on {x.device} and {tensor.dtype} on "
                f"{tensor.device}; use the backend 'reference'"
            )
    n_edges, n_channels = len(inputs.rows), x.shape[2]
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "features": (x, (x.shape[0], rule.dim_in, n_channels)),
        "weights": (values, (len(values), rule.n_paths * n_channels)),
        "harmonics": (inputs.harmonics, (n_edges, rule.n_harmonics)),
        "fractions": (inputs.fractions, (n_edges,)),
        "senders": (inputs.senders, (n_edges,)),
        "offsets": (inputs.offsets, (x.shape[0] + 1,)),
    }
    for name, (found, shape) in expected.items():
        if found is not None and found.shape != shape:
            raise ValueError(f"{name} have shape {tuple(found.shape)}, not {shape}")
