"""The weights of a product: rows that edges share, or places in a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.inference.tables import (
    LEAST_LENGTH,
    Grid,
    Places,
    interpolated,
)
from trajcast_ase.network.radial import MLP, BesselBasis

TRAINING_INTERVALS = 512


@dataclass(frozen=True, slots=True)
class WeightRows:
    """Weights of a product: rows of their own, or places in a table.

    Attributes
    ----------
    values : (n_rows, n_paths * n_channels)
    rows : (n,) int64
        Of each edge or atom; in a table, the first of four.
    fractions : (n,) float64 or None
        Places in the table, as in :class:`.inference.tables.Places`.
    """

    values: Float[Tensor, "rows weights"]
    rows: Int[Tensor, " n"]
    fractions: Float[Tensor, " n"] | None = None

    @classmethod
    def at(cls, values: Float[Tensor, "rows weights"], places: Places) -> Self:
        """Return the weights at places in a table."""
        return cls(values, places.rows, places.fractions)

    def each(self) -> Float[Tensor, "n weights"]:
        """Return the weights of every edge or atom."""
        if self.fractions is None:
            return self.values[self.rows]
        return interpolated(self.values, Places(self.rows, self.fractions))


def training_grid(basis: BesselBasis) -> Grid:
    """Return the lengths (Å) at which a training evaluates perceptrons."""
    return Grid.between(LEAST_LENGTH, basis.cutoff, TRAINING_INTERVALS)


@dataclass(frozen=True, slots=True)
class SampledLengths:
    """Lengths at which perceptrons give weights, and where each edge finds its own.

    Attributes
    ----------
    radial : (n_rows, n_basis)
        Basis functions at the lengths.
    rows, fractions
        As in :class:`WeightRows`.
    """

    radial: Float[Tensor, "rows basis"]
    rows: Int[Tensor, " edges"]
    fractions: Float[Tensor, " edges"] | None

    @classmethod
    def distinct(cls, basis: BesselBasis, lengths: Float[Tensor, " edges"]) -> Self:
        """Return the lengths that occur; weights are exact."""
        sharing = Sharing.of_lengths(lengths)
        radial = basis(lengths[sharing.representatives].to(basis.roots.dtype))
        return cls(radial, sharing.rows, None)

    @classmethod
    def on_grid(cls, basis: BesselBasis, lengths: Float[Tensor, " edges"]) -> Self:
        """Return the points of a grid; weights are interpolated.

        Their error is some 1e-5 of the largest weight of their length, their cost does
        not grow with the number of edges.
        """
        grid = training_grid(basis)
        places = grid.places(lengths)
        radial = basis(grid.points().to(basis.roots))
        return cls(radial, places.rows, places.fractions)

    def weights(self, perceptron: MLP) -> WeightRows:
        """Return the weights that `perceptron` gives."""
        return WeightRows(perceptron(self.radial), self.rows, self.fractions)


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which edges share their radial weights: the edges i -> j and j -> i do.

    Attributes
    ----------
    rows : (n_edges,) int64
        Row of weights of each edge, numbered in the order of first use.
    representatives : (n_rows,) int64
        First edge that uses each row.
    """

    rows: Int[Tensor, " edges"]
    representatives: Int[Tensor, " rows"]

    @classmethod
    def of_lengths(cls, lengths: Float[Tensor, " edges"]) -> Self:
        """Return which edges are equally long.

        Lengths that carry a gradient share nothing, since each has its own; on another
        device than the CPU the search costs more than it saves.
        """
        if lengths.requires_grad or lengths.device.type != "cpu":
            every = torch.arange(len(lengths), device=lengths.device)
            return cls(every, every)
        _, first, inverse = np.unique(
            lengths.numpy(), return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return cls(torch.from_numpy(rank[inverse]), torch.from_numpy(first[order]))
