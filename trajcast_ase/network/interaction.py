"""One message-passing block: message, aggregation, velocity product, update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network.irreps import (
    Irrep,
    Irreps,
    all_irreps,
    harmonics_irreps,
    path_irreps,
    product_paths,
    slices,
    wigner_3j,
)
from trajcast_ase.network.radial import MLP, SILU_NORM, TANH_NORM


@dataclass(frozen=True, slots=True)
class Graph:
    """What every block needs to know of the edges and atoms.

    Attributes
    ----------
    receivers, senders : (n_edges,)
        `receivers` ascends.
    edge_harmonics : (n_edges, (lmax + 1)²)
    edge_radial : (n_edges, n_edge_rbf)
    velocity_harmonics : (n_atoms, (lmax + 1)²)
    velocity_radial : (n_atoms, n_velocity_rbf)
    species_one_hot : (n_atoms, n_species)
    """

    receivers: Int[Tensor, " edges"]
    senders: Int[Tensor, " edges"]
    edge_harmonics: Float[Tensor, "edges harmonics"]
    edge_radial: Float[Tensor, "edges rbf"]
    velocity_harmonics: Float[Tensor, "atoms harmonics"]
    velocity_radial: Float[Tensor, "atoms rbf"]
    species_one_hot: Float[Tensor, "atoms species"]


class DepthwiseProduct(nn.Module):
    """Channel-wise product of features with harmonics, one block per path ("uvu").

    ``out_u = sqrt(2 l_out + 1) w_u sum x_u Y w3j``. The harmonics are contracted with
    the Wigner tensors to one small matrix per row and input irrep, so that the product
    is one batched matrix multiplication per input irrep.
    """

    coupling: Tensor
    path_of_row: Tensor
    sorted_rows: Tensor

    def __init__(self, irreps: Irreps, lmax: int) -> None:
        super().__init__()
        self.irreps = irreps
        self.lmax = lmax
        self.paths = product_paths(irreps, lmax)
        self.irreps_out: Irreps = tuple(path.out for path in self.paths)
        self._build()

    @property
    def n_paths(self) -> int:
        """Number of paths, each with one weight per channel."""
        return len(self.paths)

    def _build(self) -> None:
        harmonic_rows = slices(harmonics_irreps(self.lmax))
        starts = [rows.start for rows in slices(self.irreps_out)]
        coupling, path_of_row, sorted_rows = [], [], []
        self.block_rows: list[int] = []
        for block, irrep in enumerate(self.irreps):
            parts = []
            for number, path in enumerate(self.paths):
                if path.block != block:
                    continue
                symbol = wigner_3j(irrep.l, path.harmonic, path.out.l)
                part = torch.zeros(
                    (self.lmax + 1) ** 2, path.out.dim, irrep.dim, dtype=torch.float64
                )
                part[harmonic_rows[path.harmonic]] = symbol.permute(
                    1, 2, 0
                ) * math.sqrt(path.out.dim)
                parts.append(part)
                path_of_row += [number] * path.out.dim
                sorted_rows += range(
                    starts[number], starts[number] + path.out.dim
                )
            stacked = torch.cat(parts, dim=1)
            self.block_rows.append(stacked.shape[1])
            coupling.append(stacked.flatten(1))
        self.register_buffer("coupling", torch.cat(coupling, dim=1), persistent=False)
        self.register_buffer(
            "path_of_row", torch.tensor(path_of_row), persistent=False
        )
        self.register_buffer(
            "sorted_rows", torch.argsort(torch.tensor(sorted_rows)), persistent=False
        )

    def forward(
        self,
        x: Float[Tensor, "rows dim channels"],
        harmonics: Float[Tensor, "rows harmonics"],
        weights: Float[Tensor, "rows paths channels"],
    ) -> Float[Tensor, "rows dim_out channels"]:
        """Return the product; rows in block order, see :meth:`sort`."""
        matrices = (harmonics @ self.coupling).split(
            [r * ir.dim for r, ir in zip(self.block_rows, self.irreps, strict=True)],
            dim=1,
        )
        parts = [
            torch.bmm(matrix.view(-1, n_rows, irrep.dim), block)
            for matrix, n_rows, irrep, block in zip(
                matrices,
                self.block_rows,
                self.irreps,
                x.split([irrep.dim for irrep in self.irreps], dim=1),
                strict=True,
            )
        ]
        return torch.cat(parts, dim=1) * weights[:, self.path_of_row]

    def sort(
        self, product: Float[Tensor, "rows dim_out channels"]
    ) -> Float[Tensor, "rows dim_out channels"]:
        """Return the rows of a product (or of a sum of them) in path order."""
        return product[:, self.sorted_rows]


class IrrepLinear(nn.Module):
    """Linear map between blocks of equal irreps; no bias.

    Parameters
    ----------
    irreps_in, multiplicities_in
        Input blocks, sorted by irrep; equal irreps may repeat (they are summed over).
    irreps_out, multiplicities_out
        Output blocks, each irrep once.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        multiplicities_in: tuple[int, ...],
        irreps_out: Irreps,
        multiplicities_out: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.dims_in = [ir.dim for ir in irreps_in]
        fan_in = {ir: 0 for ir in irreps_in}
        for irrep, mul in zip(irreps_in, multiplicities_in, strict=True):
            fan_in[irrep] += mul
        self.blocks_in = {
            ir: [k for k, other in enumerate(irreps_in) if other == ir]
            for ir in irreps_out
        }
        self.irreps_out = irreps_out
        self.shapes = [
            (fan_in[ir], mul)
            for ir, mul in zip(irreps_out, multiplicities_out, strict=True)
        ]
        n_weights = sum(n_in * n_out for n_in, n_out in self.shapes)
        self.weight = nn.Parameter(torch.randn(n_weights, dtype=torch.float64))

    def forward(
        self, blocks: tuple[Float[Tensor, "atoms dim channels"], ...]
    ) -> list[Float[Tensor, "atoms dim_out channels_out"]]:
        """Return one tensor ``(n_atoms, 2l + 1, multiplicity)`` per output irrep."""
        weights = self.weight.split([n_in * n_out for n_in, n_out in self.shapes])
        outputs = []
        for irrep, weight, shape in zip(
            self.irreps_out, weights, self.shapes, strict=True
        ):
            inputs = [blocks[k] for k in self.blocks_in[irrep]]
            joined = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=2)
            outputs.append(joined @ (weight.view(shape) / math.sqrt(shape[0])))
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
    ) -> list[Float[Tensor, "atoms dim_irrep channels"]]:
        """Return one mapped tensor per irrep."""
        _, n_channels, n_species, _ = self.shape
        scale = 1.0 / math.sqrt(n_species * n_channels)
        outputs = []
        weights = self.weight.view(self.shape).unbind(0)
        blocks = x.split([irrep.dim for irrep in self.irreps], dim=1)
        for block, weight in zip(blocks, weights, strict=True):
            every = block @ (weight.reshape(n_channels, -1) * scale)
            every = every.view(*block.shape[:2], n_species, n_channels)
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
        n_channels: int,
        n_species: int,
        avg_num_neighbors: float,
        edge_widths: tuple[int, ...],
        velocity_widths: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.avg_num_neighbors = avg_num_neighbors
        self.edge_product = DepthwiseProduct(irreps_in, lmax)
        self.edge_mlp = MLP((*edge_widths, self.edge_product.n_paths * n_channels))
        summed = path_irreps(self.edge_product.paths)
        self.contraction = IrrepLinear(
            self.edge_product.irreps_out,
            (n_channels,) * self.edge_product.n_paths,
            summed,
            (n_channels,) * len(summed),
        )
        self.velocity_product = DepthwiseProduct(summed, lmax)
        self.velocity_mlp = MLP(
            (*velocity_widths, self.velocity_product.n_paths * n_channels)
        )
        self.irreps_out = tuple(
            ir
            for ir in all_irreps(lmax)
            if ir in path_irreps(self.velocity_product.paths)
        )
        self.update = IrrepLinear(
            self.velocity_product.irreps_out,
            (n_channels,) * self.velocity_product.n_paths,
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
        self, x: Float[Tensor, "atoms dim channels"], graph: Graph
    ) -> Float[Tensor, "atoms dim_out channels"]:
        """Return the updated features."""
        product = self.velocity_product
        weights = self.velocity_mlp(graph.velocity_radial)
        summed = self.contraction(self._messages(x, graph))
        updated = product.sort(
            product(
                torch.cat(summed, dim=1),
                graph.velocity_harmonics,
                weights.view(-1, product.n_paths, self.n_channels),
            )
        )
        new = self._gate(
            self.update(updated.split([ir.dim for ir in product.irreps_out], dim=1))
        )
        for irrep, old in zip(
            self.residual.irreps,
            self.residual(x, graph.species_one_hot),
            strict=True,
        ):
            new[irrep] = new[irrep] + old
        return torch.cat([new[ir] for ir in self.irreps_out], dim=1) / math.sqrt(2.0)

    def _messages(
        self, x: Float[Tensor, "atoms dim channels"], graph: Graph
    ) -> tuple[Float[Tensor, "atoms dim_path channels"], ...]:
        """Return the sum of messages over the neighbours, one block per path."""
        product = self.edge_product
        weights = self.edge_mlp(graph.edge_radial)
        messages = product(
            x[graph.senders],
            graph.edge_harmonics,
            weights.view(-1, product.n_paths, self.n_channels),
        )
        total = messages.new_zeros(x.shape[0], *messages.shape[1:])
        total = total.index_add(0, graph.receivers, messages)
        return (product.sort(total) / self.avg_num_neighbors).split(
            [irrep.dim for irrep in product.irreps_out], dim=1
        )

    def _gate(self, blocks: list[Tensor]) -> dict[Irrep, Tensor]:
        """Return activated scalars and gated higher irreps."""
        by_irrep = dict(zip(self.irreps_out, blocks, strict=True))
        scalars, gates = by_irrep[Irrep(0, 1)].tensor_split([self.n_channels], dim=2)
        gate = iter((SILU_NORM * nn.functional.silu(gates)).split(self.n_channels, 2))
        activated = {}
        for irrep, block in by_irrep.items():
            if irrep == Irrep(0, 1):
                activated[irrep] = SILU_NORM * nn.functional.silu(scalars)
            elif irrep == Irrep(0, -1):
                activated[irrep] = TANH_NORM * torch.tanh(block)
            else:
                activated[irrep] = block * next(gate)
        return activated
