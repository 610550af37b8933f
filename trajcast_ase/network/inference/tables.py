r"""Weights of products as tables: cubic interpolation instead of perceptrons.

The weights of a product depend on one number, an edge's length or (by element) an
atom's speed. With frozen parameters they are functions of it, known once and for all;
in training they are those of a step. On a grid of points :math:`x_k` the four nearest
give

.. math:: w(x) \approx \sum_{m=-1}^{2} a_m(t)\, w(x_{k+m}), \qquad t = (x - x_k) / h,

with the cubic Lagrange polynomials :math:`a_m`; the error falls with :math:`h^4`.
Tables for runs are built in float64 and refined until forecasts are as good as float32.
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
LEAST_LENGTH = 0.05
"""Å. Shorter edges are extrapolated; no two atoms come as close."""

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
class Grid:
    """Points at equal distances, one before the start and one after the end."""

    start: float
    step: float
    n_intervals: int

    @classmethod
    def between(cls, start: float, end: float, n_intervals: int) -> Grid:
        """Return the grid that divides a range into intervals."""
        return cls(start, (end - start) / n_intervals, n_intervals)

    @property
    def end(self) -> float:
        """Where the last interval ends."""
        return self.start + self.step * self.n_intervals

    @property
    def n_points(self) -> int:
        """Number of points."""
        return self.n_intervals + 3

    def points(self) -> Float[Tensor, " points"]:
        """Return the points, float64, on the CPU."""
        numbers = torch.arange(
            -1, self.n_intervals + 2, dtype=torch.float64, device="cpu"
        )
        return self.start + self.step * numbers

    def places(
        self,
        values: Float[Tensor, " values"],
        groups: Int[Tensor, " values"] | None = None,
    ) -> Places:
        """Return where `values` lie; those beyond the end count as the end.

        With `groups`, in tables one after the other, one for each group.
        """
        scaled = (values.double() - self.start) / self.step
        scaled = scaled.clamp(max=float(self.n_intervals))
        rows = scaled.floor().long().clamp(0, self.n_intervals - 1)
        fractions = scaled - rows
        if groups is not None:
            rows = rows + groups * self.n_points
        return Places(rows, fractions)


@dataclass(frozen=True, slots=True)
class Table:
    """Weights at the points of a grid, one after the other for several groups.

    Attributes
    ----------
    values : (n_groups * grid.n_points, n_weights)
    grid : Grid
    """

    values: Float[Tensor, "rows weights"]
    grid: Grid

    def to(self, device: torch.device) -> Table:
        """Return the table on `device`."""
        return Table(self.values.to(device), self.grid)

    def at(self, places: Places) -> Float[Tensor, "values weights"]:
        """Return the interpolated weights."""
        return interpolated(self.values, places)


def interpolated(
    values: Float[Tensor, "rows weights"], places: Places
) -> Float[Tensor, "values weights"]:
    """Return the weights at `places` between the rows of a table."""
    t = places.fractions.to(values.dtype)
    factors = (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
    return sum(  # type: ignore[return-value]  # of four tensors
        factor[:, None] * values[places.rows + k] for k, factor in enumerate(factors)
    )


def tabulate(
    functions: Sequence[Function], start: float, end: float, dtype: torch.dtype
) -> Table | None:
    """Return one table of several functions, on the coarsest grid that is fine enough.

    None if even the finest grid misses a function between its points.
    """
    n_intervals = FEWEST_INTERVALS
    while n_intervals <= MOST_INTERVALS:
        grid = Grid.between(start, end, n_intervals)
        points = grid.points()
        table = Table(torch.cat([f(points) for f in functions]), grid)
        if _error(table, functions) <= TOLERANCE:
            return Table(table.values.to(dtype).contiguous(), grid)
        n_intervals *= 2
    return None


def _error(table: Table, functions: Sequence[Function]) -> float:
    """Return the largest relative error midway between points."""
    grid = table.grid
    middles = torch.arange(grid.n_intervals, dtype=torch.float64, device="cpu") + 0.5
    points = grid.start + grid.step * middles
    largest = 0.0
    for group, function in enumerate(functions):
        exact = function(points)
        groups = torch.full_like(points, group, dtype=torch.int64)
        found = table.at(grid.places(points, groups))
        size = exact.abs().amax(dim=1)
        error = (found - exact).abs().amax(dim=1)
        relative = error / torch.maximum(size, size.median())
        largest = max(largest, float(relative.nan_to_num().max()))
    return largest
