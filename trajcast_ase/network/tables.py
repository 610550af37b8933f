r"""Weights of products as tables, for runs: cubic interpolation instead of perceptrons.

The weights of a product depend on one number, an edge's length or (by element) an
atom's speed. With frozen parameters they are functions of it, known once and for all.
On a grid of points :math:`x_k` the four nearest give

.. math:: w(x) \approx \sum_{m=-1}^{2} a_m(t)\, w(x_{k+m}), \qquad t = (x - x_k) / h,

with the cubic Lagrange polynomials :math:`a_m`; the error falls with :math:`h^4`.
Tables are built in float64 and refined until forecasts are as good as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

FEWEST_INTERVALS, MOST_INTERVALS = 128, 2048
TOLERANCE = 1e-5
"""Of interpolated weights, relative to the largest at their point; forecasts then are
nearer to float64 than those of float32 perceptrons."""

Function = Callable[[Float[Tensor, " points"]], Float[Tensor, "points weights"]]


@dataclass(frozen=True, slots=True)
class Places:
    """Where in tables of one grid some values lie.

    Attributes
    ----------
    rows : (n,) int64
        The first of four rows.
    fractions : (n,) float64
        From 0 at the second of them to 1 at the third.
    """

    rows: Int[Tensor, " values"]
    fractions: Float[Tensor, " values"]


@dataclass(frozen=True, slots=True)
class Table:
    """Weights on even grids, one after the other for several groups of values.

    Attributes
    ----------
    values : (n_groups * (n_intervals + 3), n_weights)
        Each grid has one point before its start and one after its end.
    start, step : float
    n_intervals : int
    """

    values: Float[Tensor, "rows weights"]
    start: float
    step: float
    n_intervals: int

    def places(
        self,
        points: Float[Tensor, " values"],
        groups: Int[Tensor, " values"] | None = None,
    ) -> Places:
        """Return where `points` lie; those beyond the end count as the end."""
        scaled = (points.double() - self.start) / self.step
        scaled = scaled.clamp(max=float(self.n_intervals))
        rows = scaled.floor().long().clamp(0, self.n_intervals - 1)
        fractions = scaled - rows
        if groups is not None:
            rows = rows + groups * (self.n_intervals + 3)
        return Places(rows, fractions)

    def at(self, places: Places) -> Float[Tensor, "values weights"]:
        """Return the interpolated weights."""
        t = places.fractions.to(self.values.dtype)
        factors = (
            -t * (t - 1) * (t - 2) / 6,
            (t + 1) * (t - 1) * (t - 2) / 2,
            -(t + 1) * t * (t - 2) / 2,
            (t + 1) * t * (t - 1) / 6,
        )
        return sum(  # type: ignore[return-value]  # of four tensors
            factor[:, None] * self.values[places.rows + k]
            for k, factor in enumerate(factors)
        )


def tabulate(
    functions: Sequence[Function], start: float, end: float, dtype: torch.dtype
) -> Table | None:
    """Return one table of several functions, on the coarsest grid that is fine enough.

    None if even the finest grid misses a function between its points.
    """
    n_intervals = FEWEST_INTERVALS
    while n_intervals <= MOST_INTERVALS:
        step = (end - start) / n_intervals
        grid = start + step * torch.arange(-1, n_intervals + 2, dtype=torch.float64)
        table = Table(torch.cat([f(grid) for f in functions]), start, step, n_intervals)
        if _error(table, functions) <= TOLERANCE:
            values = table.values.to(dtype).contiguous()
            return Table(values, start, step, n_intervals)
        n_intervals *= 2
    return None


def _error(table: Table, functions: Sequence[Function]) -> float:
    """Return the largest relative error midway between points."""
    middles = torch.arange(table.n_intervals, dtype=torch.float64) + 0.5
    points = table.start + table.step * middles
    largest = 0.0
    for group, function in enumerate(functions):
        exact = function(points)
        found = table.at(table.places(points, torch.full(points.shape, group)))
        size = exact.abs().amax(dim=1)
        error = (found - exact).abs().amax(dim=1)
        relative = error / torch.maximum(size, size.median())
        largest = max(largest, float(relative.nan_to_num().max()))
    return largest
