"""Distributions with error bars: of energies, bonds, angles, order parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trajcast_ase.analysis.blocks import (
    Estimate,
    cut_blocks,
    profile_average,
    replica_average,
)

ROUNDING = 1e-12
"""Relative; values that differ by less in each bin are equal, as rigid bonds are."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Probability density of a quantity over frames and over its instances.

    Attributes
    ----------
    name : str
        Such as "Si-O-Si".
    unit : str
    center : (n,), unit
        Middles of equal bins.
    density : (n,), 1/unit
        Integrates to the share of the values between the first and last edge.
    error : (n,), 1/unit
        Standard error of `density` from blocks.
    mean, sd : Estimate, unit
        Of all values, those beyond the bins too.
    n_values : int
    """

    name: str
    unit: str
    center: Float[np.ndarray, " bins"]
    density: Float[np.ndarray, " bins"]
    error: Float[np.ndarray, " bins"]
    mean: Estimate
    sd: Estimate
    n_values: int

    @property
    def bin_width(self) -> float:
        """Width of a bin, unit."""
        return float(self.center[1] - self.center[0])


def distribution(
    values: Float[np.ndarray, "frames ..."],
    *,
    name: str,
    unit: str,
    n_bins: int = 60,
    limits: tuple[float, float] | None = None,
    n_blocks: int = 10,
) -> Distribution:
    """Return the distribution of `values`, with errors from blocks of frames.

    Parameters
    ----------
    values : (n_frames,) or (n_frames, n_instances), unit
        The instances are equivalent: bonds of one type, molecules, atoms.
    name, unit : str
    n_bins : int
    limits : (lowest, highest), unit
        Of the bins; default those of the values.
    n_blocks : int
        A block must be longer than the correlation time.

    Raises
    ------
    ValueError
        No values, fewer frames than blocks, values that are not finite, or limits
        that are no interval.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{name}: there are no values, or some are not finite")
    low, high = limits if limits is not None else (values.min(), values.max())
    rounding = n_bins * ROUNDING * max(abs(low), abs(high))
    if n_bins < 2 or not high - low > rounding:  # noqa: PLR2004  one bin shows nothing
        raise ValueError(
            f"{name}: {n_bins} bins from {low:g} to {high:g} {unit} show no "
            "distribution; give at least two bins and limits that span the values"
        )
    blocks = cut_blocks(values.reshape(len(values), -1), n_blocks)
    edges = np.linspace(low, high, n_bins + 1)
    counts = np.stack([np.histogram(block, edges)[0] for block in blocks])
    density, error = profile_average(counts / (blocks[0].size * np.diff(edges)))
    mean = blocks.mean()
    squares = np.square(blocks - mean).mean(axis=(1, 2))
    variance = replica_average(squares)
    sd = float(np.sqrt(variance.mean))
    return Distribution(
        name=name,
        unit=unit,
        center=0.5 * (edges[1:] + edges[:-1]),
        density=density,
        error=error,
        mean=replica_average(blocks.mean(axis=(1, 2))),
        sd=Estimate(sd, variance.error / (2 * sd) if sd > 0 else 0.0),
        n_values=blocks.size,
    )


def common_area(first: Distribution, second: Distribution) -> float:
    """Return the common area of two distributions over the same bins, at most 1.

    Raises
    ------
    ValueError
        The bins or units differ.
    """
    if (
        first.unit != second.unit
        or first.center.shape != second.center.shape
        or not np.allclose(first.center, second.center)
    ):
        raise ValueError(
            f"distributions of {first.name} and {second.name} have different bins; "
            "compute both with equal limits and n_bins"
        )
    common = np.minimum(first.density, second.density).sum() * first.bin_width
    return float(common)
