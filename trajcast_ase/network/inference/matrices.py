"""The linear maps of a layer with all constant factors in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.network.inference.shape import EVEN, ODD, LayerShape
from trajcast_ase.network.interaction import Interaction, IrrepLinear


@dataclass(frozen=True, slots=True)
class LayerMatrices:
    """The constant matrices of a layer, all factors folded in.

    Attributes
    ----------
    contraction : (sum of n_paths of the edge product * n_channels²,)
        Irrep by irrep, ``[n_paths * n_channels, n_channels]``.
    update : (n,)
        Likewise for the irreps that are needed; the even scalars have the columns of
        the outputs first, then the gates.
    residual : (n_species, n_residuals, n_channels, n_channels)
    """

    contraction: Float[Tensor, " contraction"]
    update: Float[Tensor, " update"]
    residual: Float[Tensor, "species residuals channels channels"]


def folded(layer: Interaction, shape: LayerShape) -> LayerMatrices:
    r"""Return the matrices of a layer with their constant factors.

    The new features are :math:`(\text{update} + \text{residual}) / \sqrt{2}`.
    """
    weight = layer.residual.weight.view(layer.residual.shape).double()
    _, n_channels, n_species, _ = layer.residual.shape
    kept = [layer.residual.irreps.index(irrep) for irrep in shape.residuals]
    residual = weight[kept].permute(2, 0, 1, 3) / math.sqrt(2 * n_species * n_channels)
    update = torch.cat([m.flatten() for m in _update(layer, shape)])
    contraction = torch.cat([m.flatten() for m in _matrices(layer.contraction)])
    return LayerMatrices(
        *(
            matrix.to(layer.residual.weight.dtype).contiguous()
            for matrix in (contraction, update, residual)
        )
    )


def _update(layer: Interaction, shape: LayerShape) -> Iterator[Tensor]:
    """Yield the matrices of the update that are needed, gated ones with their norm."""
    gated = [irrep for irrep in layer.irreps_out if irrep.l > 0]
    matrices = dict(zip(layer.irreps_out, _matrices(layer.update), strict=True))
    for irrep in shape.updated:
        matrix = matrices[irrep]
        if irrep == EVEN:
            scalars, *gates = torch.split(matrix, shape.n_channels, dim=1)
            gate_of = dict(zip(gated, gates, strict=True))
            own = [scalars] if EVEN in shape.outputs else []
            yield torch.cat([*own, *(gate_of[ir] for ir in shape.gated)], dim=1)
        elif irrep == ODD:
            yield matrix
        else:
            yield matrix / math.sqrt(2.0)


def _matrices(linear: IrrepLinear) -> list[Float[Tensor, "n_in n_out"]]:
    """Return the scaled matrix of each irrep, float64."""
    scaled = (linear.weight.double() * linear.scales.double()).split_with_sizes(
        linear.sizes
    )
    return [m.view(shape) for m, shape in zip(scaled, linear.shapes, strict=True)]
