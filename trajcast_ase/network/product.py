"""Depthwise product of features with harmonics, by itself and summed over edges."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trajcast_ase.network.irreps import (
    ProductRule,
    harmonics_irreps,
    slices,
)
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows
from trajcast_ase.network.wigner import wigner_3j


class DepthwiseProduct(nn.Module):
    """Channel-wise product of features with harmonics, one block per path ("uvu").

    ``out_u = sqrt(2 l_out + 1) w_u sum x_u Y w3j``. The harmonics are contracted with
    the Wigner tensors to one small matrix per row and input irrep, so that the product
    is one batched matrix multiplication per input irrep.

    Attributes
    ----------
    rule : ProductRule
        Its paths have one weight per channel each, its blocks are those of the output.

    Notes
    -----
    A layer asks its :class:`.Backend` for the product; this is how torch computes it.
    """

    coupling: Tensor
    path_of_row: Tensor
    output_rows: Tensor

    def __init__(self, rule: ProductRule) -> None:
        super().__init__()
        self.rule = rule
        self._build()

    def _build(self) -> None:
        """Register the couplings by input irrep, and where each row belongs."""
        rule = self.rule
        harmonic_rows = slices(harmonics_irreps(rule.lmax))
        coupling: list[Tensor] = []
        path_of_row: list[int] = []
        component_of_row: list[int] = []
        self.block_rows: list[int] = []
        for block, irrep in enumerate(rule.irreps):
            parts = []
            for number, path in enumerate(rule.paths):
                if path.block != block:
                    continue
                symbol = wigner_3j(irrep.l, path.harmonic, path.out.l)
                part = torch.zeros(
                    rule.n_harmonics, path.out.dim, irrep.dim, dtype=torch.float64
                )
                part[harmonic_rows[path.harmonic]] = symbol.permute(
                    1, 2, 0
                ) * math.sqrt(path.out.dim)
                parts.append(part)
                path_of_row += [number] * path.out.dim
                component_of_row += range(path.out.dim)
            stacked = torch.cat(parts, dim=1)
            self.block_rows.append(stacked.shape[1])
            coupling.append(stacked.flatten(1))
        # The output runs over irreps, then components, then the paths to the irrep.
        rows = [
            (rule.paths[path].out, component, path)
            for path, component in zip(path_of_row, component_of_row, strict=True)
        ]
        order = sorted(range(len(rows)), key=rows.__getitem__)
        for name, value in (
            ("coupling", torch.cat(coupling, dim=1)),
            ("path_of_row", torch.tensor(path_of_row)),
            ("output_rows", torch.tensor(order)),
        ):
            self.register_buffer(name, value, persistent=False)

    def convolve(
        self,
        x: Float[Tensor, "atoms dim channels"],
        harmonics: Float[Tensor, "edges harmonics"],
        weights: WeightRows,
        routes: Routes,
    ) -> tuple[Float[Tensor, "atoms _ _"], ...]:
        """Return the product of the senders' features, summed at the receivers.

        One tensor per block of ``rule.blocks``.
        """
        messages = self._product(
            x[routes.senders],
            harmonics,
            weights.each().view(-1, self.rule.n_paths, x.shape[2]),
        )
        return self._split(routes.sums(messages))

    def rowwise(
        self,
        x: Float[Tensor, "rows dim channels"],
        harmonics: Float[Tensor, "rows harmonics"],
        weights: Float[Tensor, "rows paths channels"],
    ) -> tuple[Float[Tensor, "rows _ _"], ...]:
        """Return the product of each row with its own harmonics and weights.

        One tensor per block of ``rule.blocks``.
        """
        return self._split(self._product(x, harmonics, weights))

    def _product(
        self,
        x: Float[Tensor, "rows dim channels"],
        harmonics: Float[Tensor, "rows harmonics"],
        weights: Float[Tensor, "rows paths channels"],
    ) -> Float[Tensor, "rows dim_out channels"]:
        """Return the product, its rows in the order of the input irreps."""
        irreps = self.rule.irreps
        matrices = (harmonics @ self.coupling).split_with_sizes(
            [r * ir.dim for r, ir in zip(self.block_rows, irreps, strict=True)],
            dim=1,
        )
        parts = [
            torch.bmm(matrix.view(-1, n_rows, irrep.dim), block)
            for matrix, n_rows, irrep, block in zip(
                matrices,
                self.block_rows,
                irreps,
                x.split_with_sizes([irrep.dim for irrep in irreps], dim=1),
                strict=True,
            )
        ]
        return torch.cat(parts, dim=1) * weights[:, self.path_of_row]

    def _split(
        self, product: Float[Tensor, "rows dim_out channels"]
    ) -> tuple[Float[Tensor, "rows _ _"], ...]:
        """Return the output blocks of a product, or of a sum of them."""
        sizes = [block.irrep.dim * block.n_paths for block in self.rule.blocks]
        parts = product[:, self.output_rows].split_with_sizes(sizes, dim=1)
        return tuple(
            part.reshape(part.shape[0], block.irrep.dim, -1)
            for part, block in zip(parts, self.rule.blocks, strict=True)
        )
