"""A layer as a few Triton kernels: features in, features out, no gradients.

Five launches: messages summed at their receivers, a linear map irrep by irrep, the
product with the velocities, the even scalars (among them the gates), and the rest of
the update with gates and residual. What lies between them is some hundred rows of
channels for each atom; of the edges nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.inference.arrays import check_arrays
from trajcast_ase.network.inference.layers import LayerInputs
from trajcast_ase.network.inference.matrices import LayerMatrices
from trajcast_ase.network.inference.shape import EVEN, ODD, LayerShape
from trajcast_ase.network.irreps import slices
from trajcast_ase.network.triton.generate_product import n_rows
from trajcast_ase.network.triton.product import ProductInputs, product_sums
from trajcast_ase.network.triton.programs import launch, power_of_two, program
from trajcast_ase.network.weights import WeightRows

Precision = Literal["ieee", "tf32x3", "tf32"]
"""Of the linear maps in float32, in Triton's words."""
TILE_ROWS, MOST_TILE_COLUMNS, TILE_DEPTH = 16, 64, 32
"""Of matrix products: as few rows as tensor cores take, so that many programs run."""
KINDS, GATED = {EVEN: 0, ODD: 1}, 2
"""Of outputs, as :func:`.kernels.finish` knows them."""


@dataclass(frozen=True, slots=True)
class Plans:
    """What the linear maps need to know of each irrep; see :mod:`.kernels`.

    Attributes
    ----------
    contraction, even, finish : (n_irreps, 5 or 9) int64
    """

    contraction: Int[Tensor, "irreps 5"]
    even: Int[Tensor, "1 5"]
    finish: Int[Tensor, "irreps 9"]

    @classmethod
    def of(cls, shape: LayerShape, device: torch.device) -> Self:
        """Return the plans of a layer."""
        plans = (_contraction(shape), _even(shape), _finish(shape))
        return cls(*(torch.tensor(list(plan), device=device) for plan in plans))


@dataclass(frozen=True, slots=True)
class TritonLayer:
    """One layer, ready to run.

    Attributes
    ----------
    shape : LayerShape
    matrices : LayerMatrices
    plans : Plans
    precision : "ieee", "tf32x3" or "tf32"
    """

    shape: LayerShape
    matrices: LayerMatrices
    plans: Plans
    precision: Precision

    @classmethod
    def of(
        cls, shape: LayerShape, matrices: LayerMatrices, precision: Precision
    ) -> Self:
        """Return the layer of folded matrices."""
        return cls(shape, matrices, Plans.of(shape, matrices.update.device), precision)

    def __call__(
        self,
        x: Float[Tensor, "atoms dim channels"],
        inputs: LayerInputs,
        edge: WeightRows,
        velocity: WeightRows,
    ) -> Float[Tensor, "atoms dim_out channels"]:
        """Return the features of ``shape.outputs``.

        Edges behind the last offset are not read.

        Raises
        ------
        ValueError
            Arrays that do not fit together, which the kernels would misread.
        """
        shape, matrices = self.shape, self.matrices
        check_arrays(shape, matrices.update, x, inputs, edge, velocity)
        rule = shape.edge
        of_edges = ProductInputs(
            inputs.edge_harmonics,
            edge.rows,
            edge.fractions,
            inputs.offsets,
            inputs.senders,
        )
        sums = product_sums(rule, rule.irreps_out, x, edge.values, of_edges)
        middle = x.new_empty(len(x), shape.velocity.dim_in, shape.n_channels)
        self._linear(sums, matrices.contraction, self.plans.contraction, middle)
        of_atoms = ProductInputs(
            inputs.velocity_harmonics, velocity.rows, velocity.fractions
        )
        products = product_sums(
            shape.velocity, shape.updated, middle, velocity.values, of_atoms
        )
        even = x.new_empty(len(x), 1, shape.even_columns * shape.n_channels)
        self._linear(products, matrices.update, self.plans.even, even)
        return self._finish(products, even, x, inputs.species)

    def _linear(
        self, blocks: Tensor, matrices: Tensor, plan: Tensor, out: Tensor
    ) -> None:
        """Write the linear map of each irrep."""
        n_atoms, dim_out, n_columns = out.shape
        launch(
            program("linear"),
            self._grid(n_atoms * min(dim_out, self._largest), n_columns, len(plan)),
            blocks,
            matrices,
            out,
            plan,
            n_atoms,
            on=out,
            C=self.shape.n_channels,
            DIM_OUT=dim_out,
            COLUMNS=n_columns,
            **self._tiles(n_columns),
        )

    def _finish(
        self, products: Tensor, even: Tensor, x: Tensor, species: Tensor
    ) -> Tensor:
        """Return gated updates and residuals."""
        shape, residuals = self.shape, self.matrices.residual
        n_atoms, n_channels = x.shape[0], shape.n_channels
        out = x.new_empty(n_atoms, shape.dim_out, n_channels)
        launch(
            program("finish"),
            self._grid(n_atoms * self._largest, n_channels, len(self.plans.finish)),
            products,
            self.matrices.update,
            even,
            x,
            residuals,
            species,
            out,
            self.plans.finish,
            n_atoms,
            on=x,
            C=n_channels,
            DIM_IN=shape.edge.dim_in,
            DIM_OUT=shape.dim_out,
            EVEN_COLUMNS=even.shape[2],
            N_SPECIES=residuals.shape[0],
            N_RESIDUALS=residuals.shape[1],
            **self._tiles(n_channels),
        )
        return out

    @property
    def _largest(self) -> int:
        """Components of the largest irrep."""
        return 2 * self.shape.lmax + 1

    def _grid(self, rows: int, columns: int, irreps: int) -> tuple[int, ...]:
        return (-(-rows // TILE_ROWS), -(-columns // _width(columns)), irreps)

    def _tiles(self, n_columns: int) -> dict[str, int | str]:
        single = self.matrices.update.dtype == torch.float32
        precision = self.precision if single else "ieee"
        tiles = {"M": TILE_ROWS, "N": _width(n_columns), "K": TILE_DEPTH}
        return {**tiles, "PRECISION": precision, "num_warps": 4}


def _width(n_columns: int) -> int:
    """Return the columns of a tile: a power of two, enough for tensor cores."""
    return max(16, min(MOST_TILE_COLUMNS, power_of_two(n_columns)))


def _contraction(shape: LayerShape) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of each irrep of the first linear map."""
    blocks = shape.edge.blocks
    rows = accumulate((n_rows(block) for block in blocks), initial=0)
    sizes = [block.n_paths * shape.n_channels**2 for block in blocks]
    starts = accumulate(sizes, initial=0)
    to = slices(shape.velocity.irreps)
    for block, row, start, place in zip(blocks, rows, starts, to, strict=False):
        yield block.irrep.dim, block.n_paths, row, start, place.start


def _updates(shape: LayerShape) -> Iterator[tuple[int, ...]]:
    """Yield components, paths, rows and elements in front of each updated irrep."""
    row = start = 0
    for block in shape.velocity.blocks:
        if block.irrep not in shape.updated:
            continue
        yield block.irrep.dim, block.n_paths, row, start
        columns = shape.even_columns if block.irrep == EVEN else 1
        row += n_rows(block)
        start += block.n_paths * columns * shape.n_channels**2


def _even(shape: LayerShape) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of the even scalars."""
    yield (*tuple(_updates(shape))[shape.updated.index(EVEN)], 0)


def _finish(shape: LayerShape) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of each irrep that goes out."""
    updates = dict(zip(shape.updated, _updates(shape), strict=True))
    inputs = dict(zip(shape.irreps_in, slices(shape.irreps_in), strict=True))
    gate = int(EVEN in shape.outputs)
    for irrep, to in zip(shape.outputs, slices(shape.outputs), strict=True):
        dim, n_paths, row, start = updates[irrep]
        kind = KINDS.get(irrep, GATED)
        residual = source = -1
        if irrep in shape.residuals:
            residual, source = shape.residuals.index(irrep), inputs[irrep].start
        paths = 0 if irrep == EVEN else n_paths
        mine = gate if kind == GATED else 0
        gate += kind == GATED
        yield dim, paths, row, start, to.start, kind, mine, residual, source
