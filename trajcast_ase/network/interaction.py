"""One message-passing block: message, aggregation, velocity product, update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network.backend import Backend
from trajcast_ase.network.irreps import Irrep, Irreps, Parity, ProductRule
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.radial import MLP, SILU_NORM, TANH_NORM
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows


@dataclass(frozen=True, slots=True)
class Graph:
    """What every block needs to know of the edges and atoms.

    Attributes
    ----------
    routes : Routes
        Which atom sends to which.
    edge_harmonics : (n_edges, (lmax + 1)²)
    velocity_harmonics : (n_atoms, (lmax + 1)²)
    speeds : (n_atoms,)
    velocity_radial : (n_atoms, n_velocity_rbf)
    species : (n_atoms,) int64
    species_one_hot : (n_atoms, n_species)
    backend : Backend
        What computes the products.
    """

    routes: Routes
    edge_harmonics: Float[Tensor, "edges harmonics"]
    velocity_harmonics: Float[Tensor, "atoms harmonics"]
    speeds: Float[Tensor, " atoms"]
    velocity_radial: Float[Tensor, "atoms velocity_rbf"]
    species: Int[Tensor, " atoms"]
    species_one_hot: Float[Tensor, "atoms species"]
    backend: Backend


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Weights of the two products of a layer for one state.

    Attributes
    ----------
    edge : WeightRows
    velocity : (n_atoms, n_velocity_paths, n_channels)
    """

    edge: WeightRows
    velocity: Float[Tensor, "atoms velocity_paths channels"]


class IrrepLinear(nn.Module):
    """Linear map between blocks of equal irreps; no bias.

    Parameters
    ----------
    irreps_in, multiplicities_in
        Input blocks, sorted by irrep; equal irreps may repeat (they are summed over).
    irreps_out, multiplicities_out
        Output blocks, each irrep once.
    divisor : float
        Of the output, besides the root of the fan-in.
    """

    scales: Tensor

    def __init__(
        self,
        irreps_in: Irreps,
        multiplicities_in: tuple[int, ...],
        irreps_out: Irreps,
        multiplicities_out: tuple[int, ...],
        divisor: float = 1.0,
    ) -> None:
        super().__init__()
        fan_in = dict.fromkeys(irreps_in, 0)
        for irrep, mul in zip(irreps_in, multiplicities_in, strict=True):
            fan_in[irrep] += mul
        self.blocks_in = [
            [k for k, other in enumerate(irreps_in) if other == ir] for ir in irreps_out
        ]
        self.irreps_out = irreps_out
        self.shapes = [
            (fan_in[ir], mul)
            for ir, mul in zip(irreps_out, multiplicities_out, strict=True)
        ]
        self.sizes = [n_in * n_out for n_in, n_out in self.shapes]
        self.weight = nn.Parameter(torch.randn(sum(self.sizes), dtype=torch.float64))
        scales = torch.cat(
            [
                torch.full(
                    (size,), 1.0 / (math.sqrt(n_in) * divisor), dtype=torch.float64
                )
                for size, (n_in, _) in zip(self.sizes, self.shapes, strict=True)
            ]
        )
        self.register_buffer("scales", scales, persistent=False)

    def forward(
        self, blocks: Sequence[Float[Tensor, "atoms _ _"]]
    ) -> list[Float[Tensor, "atoms _ _"]]:
        """Return one tensor ``(n_atoms, 2l + 1, multiplicity)`` per output irrep."""
        weights = (self.weight * self.scales).split_with_sizes(self.sizes)
        outputs = []
        for numbers, weight, shape in zip(
            self.blocks_in, weights, self.shapes, strict=True
        ):
            inputs = [blocks[k] for k in numbers]
            joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=2)
            outputs.append(joined @ weight.view(shape))
        return outputs


class SpeciesLinear(nn.Module):
    """Linear map of each irrep with weights of the atom's own element ("residual").

    ``W[u, t, w]`` per pair of equal irreps, divided by ``sqrt(n_species n_channels)``.
    """

    def __init__(self, irreps: Irreps, n_channels: int, n_species: int) -> None:
        super().__init__()
        self.irreps = irreps
        self.shape = (len(irreps), n_channels, n_species, n_channels)
        self.weight = nn.Parameter(
            torch.randn(math.prod(self.shape), dtype=torch.float64)
        )

    def forward(
        self,
        x: Float[Tensor, "atoms dim channels"],
        species_one_hot: Float[Tensor, "atoms species"],
    ) -> list[Float[Tensor, "atoms _dim_irrep channels"]]:
        """Return one mapped tensor per irrep."""
        _, n_channels, n_species, _ = self.shape
        scale = 1.0 / math.sqrt(n_species * n_channels)
        outputs = []
        weights = (self.weight * scale).view(-1, n_channels, n_species * n_channels)
        blocks = x.split_with_sizes([irrep.dim for irrep in self.irreps], dim=1)
        for block, weight in zip(blocks, weights.unbind(0), strict=True):
            every = (block @ weight).view(*block.shape[:2], n_species, n_channels)
            outputs.append((every * species_one_hot[:, None, :, None]).sum(2))
        return outputs


class Interaction(nn.Module):
    """One message-passing layer (arXiv:2503.23794, methods).

    Parameters
    ----------
    irreps_in : Irreps
        Irreps of the incoming features, each with `n_channels` channels.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        *,
        lmax: int,
        parity: Parity,
        n_channels: int,
        n_species: int,
        avg_num_neighbors: float,
        edge_widths: tuple[int, ...],
        velocity_widths: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        edge_rule = ProductRule(irreps_in, lmax, parity)
        summed = edge_rule.irreps_out
        velocity_rule = ProductRule(summed, lmax, parity)
        self.edge_product = DepthwiseProduct(edge_rule)
        self.edge_mlp = MLP((*edge_widths, edge_rule.n_paths * n_channels))
        self.contraction = IrrepLinear(
            summed,
            tuple(b.n_paths * n_channels for b in edge_rule.blocks),
            summed,
            (n_channels,) * len(summed),
            divisor=avg_num_neighbors,
        )
        self.velocity_product = DepthwiseProduct(velocity_rule)
        self.velocity_mlp = MLP((*velocity_widths, velocity_rule.n_paths * n_channels))
        self.irreps_out = velocity_rule.irreps_out
        self.update = IrrepLinear(
            self.irreps_out,
            tuple(b.n_paths * n_channels for b in velocity_rule.blocks),
            self.irreps_out,
            tuple(self._update_multiplicity(ir) for ir in self.irreps_out),
        )
        self.residual = SpeciesLinear(irreps_in, n_channels, n_species)

    def _update_multiplicity(self, irrep: Irrep) -> int:
        """Return channels, plus one gate per gated channel for the even scalars."""
        n_gated = sum(ir.l > 0 for ir in self.irreps_out)
        n_gates = n_gated if irrep == Irrep(0, 1) else 0
        return self.n_channels * (1 + n_gates)

    def forward(
        self,
        x: Float[Tensor, "atoms dim channels"],
        graph: Graph,
        weights: LayerWeights,
    ) -> Float[Tensor, "atoms dim_out channels"]:
        """Return the updated features."""
        messages = graph.backend.convolve(
            self.edge_product, x, graph.edge_harmonics, weights.edge, graph.routes
        )
        updated = graph.backend.rowwise(
            self.velocity_product,
            torch.cat(self.contraction(messages), dim=1),
            graph.velocity_harmonics,
            weights.velocity,
        )
        new = self._gate(self.update(updated))
        for irrep, old in zip(
            self.residual.irreps,
            self.residual(x, graph.species_one_hot),
            strict=True,
        ):
            new[irrep] = new[irrep] + old
        return torch.cat([new[ir] for ir in self.irreps_out], dim=1) / math.sqrt(2.0)

    def velocity_weights(
        self, radial: Float[Tensor, "atoms velocity_rbf"]
    ) -> Float[Tensor, "atoms paths channels"]:
        """Return the weights of the velocity product that the perceptron gives."""
        weights: Tensor = self.velocity_mlp(radial)
        return weights.view(-1, self.velocity_product.rule.n_paths, self.n_channels)

    def _gate(self, blocks: list[Tensor]) -> dict[Irrep, Tensor]:
        """Return activated scalars and gated higher irreps."""
        by_irrep = dict(zip(self.irreps_out, blocks, strict=True))
        even = SILU_NORM * nn.functional.silu(by_irrep[Irrep(0, 1)])
        scalars, *gates = torch.split(even, self.n_channels, dim=2)
        gate = iter(gates)
        activated = {}
        for irrep, block in by_irrep.items():
            if irrep == Irrep(0, 1):
                activated[irrep] = scalars
            elif irrep == Irrep(0, -1):
                activated[irrep] = TANH_NORM * torch.tanh(block)
            else:
                activated[irrep] = block * next(gate)
        return activated
