"""The linear maps of a layer with all constant factors in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.network.embedding import ThermalEmbedding
from trajcast_ase.network.inference.shape import EVEN, ODD, LayerShape
from trajcast_ase.network.interaction import Interaction, IrrepLinear

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster


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


@dataclass(frozen=True, slots=True)
class EndMatrices:
    """What stands before and behind the layers, all factors folded in.

    Attributes
    ----------
    scalars : (n_species, n_channels)
        Of each element.
    radial : (n_species, n_basis, n_channels)
        Of the Gaussians of the speed, which are 1 at their centers.
    vectors : (n_species, lmax, n_channels)
        Of the harmonics of the velocity, by l > 0.
    receivers : (n_species, lmax + 1, n_channels, n_channels) or None
        Of the sums over the surroundings, where the network has any.
    readout : (2, n_channels)
        Of the vectors of the last layer.
    """

    scalars: Float[Tensor, "species channels"]
    radial: Float[Tensor, "species basis channels"]
    vectors: Float[Tensor, "species lmax channels"]
    receivers: Float[Tensor, "species degrees channels channels"] | None
    readout: Float[Tensor, "2 channels"]


def folded_ends(network: Forecaster) -> EndMatrices:
    """Return the matrices before and behind the layers."""
    speed, n_species = network.speed, len(network.config.elements)
    n_basis, n_channels = speed.weight.shape[0], network.config.n_channels
    if isinstance(network.embedding, ThermalEmbedding):
        scale = 1.0 / math.sqrt(n_species + n_basis)
        of_scalars = network.embedding.scalars.double() * scale
        vectors = network.embedding.vectors.double().transpose(0, 1)
    else:
        of_scalars, *higher = _matrices(network.embedding.linear)
        vectors = torch.cat(higher).expand(n_species, -1, -1)
    of_speed = speed.weight.double().transpose(0, 1) * (
        speed.basis.scale / math.sqrt(n_basis * n_species)
    )
    receivers, share, module = None, 1.0, network.surroundings
    if module is not None:
        share = 1.0 / math.sqrt(2.0)
        linear = module.receivers
        weight = linear.weight.double().view(linear.shape).permute(2, 0, 1, 3)
        receivers = _plain(share * weight / math.sqrt(n_species * n_channels), network)
    compression, readout = _matrices(network.compression), _matrices(network.readout)
    return EndMatrices(
        scalars=_plain(share * of_scalars[:n_species], network),
        radial=_plain(share * (of_speed @ of_scalars[n_species:]), network),
        vectors=_plain(share * vectors, network),
        receivers=receivers,
        readout=_plain((compression[0] @ readout[0]).T, network),
    )


def _plain(matrix: Tensor, network: Forecaster) -> Tensor:
    return matrix.to(network.dtype).contiguous()


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
