r"""Means with error bars from blocks or replicas, and how long values remember.

The standard error of the mean of a correlated series comes from the scatter of the
means of blocks that are long against the correlation time
:math:`\tau = \tfrac12 + \sum_{k \ge 1} \rho_k` (in frames); replicas are blocks that
are independent by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import fft

# Sokal's window: the sum over the correlations ends after this many times.
WINDOW_TIMES = 5.0
BY_CHANCE = 3.0
"""Standard errors of a correlation that is none."""
FEWEST_TIMES = 20.0
FEWEST_VALUES = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error, in the unit of the values."""

    mean: float
    error: float

    def __str__(self) -> str:
        """Return both with the first digit of the error, at least one decimal."""
        if not (np.isfinite(self.error) and self.error > 0):
            return f"{self.mean:g} ± {self.error:g}"
        decimals = max(1, -int(np.floor(np.log10(self.error))))
        return f"{self.mean:.{decimals}f} ± {self.error:.{decimals}f}"


def block_average(values: Float[np.ndarray, " frames"], n_blocks: int = 10) -> Estimate:
    """Return the mean and its standard error from `n_blocks` equal blocks.

    The error holds where a block is longer than the correlation time. Values that do
    not fill the last block are left out at the start.

    Raises
    ------
    ValueError
        Fewer than two blocks, or fewer values than blocks.
    """
    means = cut_blocks(np.asarray(values), n_blocks).mean(axis=1)
    return replica_average(means)


def replica_average(values: Float[np.ndarray, " replicas"]) -> Estimate:
    """Return the mean and standard error of one value per independent replica.

    Raises
    ------
    ValueError
        Fewer than two replicas.
    """
    mean, error = profile_average(np.asarray(values)[:, None])
    return Estimate(float(mean[0]), float(error[0]))


def profile_average(
    profiles: Float[np.ndarray, "replicas points"],
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Return mean and standard error of curves, one per block or replica.

    Raises
    ------
    ValueError
        Fewer than two curves.
    """
    n_curves = len(profiles)
    if n_curves < FEWEST_VALUES:
        raise ValueError(
            f"{n_curves} replica gives no error bar; give at least {FEWEST_VALUES}"
        )
    error = profiles.std(axis=0, ddof=1) / np.sqrt(n_curves)
    return profiles.mean(axis=0), np.asarray(error)


def cut_blocks(
    values: Float[np.ndarray, "frames ..."], n_blocks: int
) -> Float[np.ndarray, "blocks length ..."]:
    """Return `values` as equal blocks; what is left over is dropped at the start.

    Raises
    ------
    ValueError
        Fewer than two blocks, or fewer values than blocks.
    """
    if not 1 < n_blocks <= len(values):
        raise ValueError(
            f"{len(values)} values cannot be cut into {n_blocks} blocks; use at least "
            "two blocks of one value"
        )
    used = values[len(values) % n_blocks :]
    return used.reshape(n_blocks, -1, *values.shape[1:])


def autocorrelation_time(values: Float[np.ndarray, " frames"]) -> float:
    """Return the integrated autocorrelation time, in frames; 0.5 without memory.

    The mean of n values has the error of n / (2 tau) independent ones. The sum ends at
    the first lag of five times itself (Sokal), or of five times the sum of all
    correlations beyond chance, whatever their sign, where the series holds that lag:
    those of an oscillation cancel over its whole length only. Below its own error the
    sum stands for nothing, and the error is returned.

    Raises
    ------
    ValueError
        The values do not vary, or the series is shorter than its memory.
    """
    n_values = len(values)
    centered = np.asarray(values, dtype=np.float64) - np.mean(values)
    if n_values < FEWEST_VALUES or not np.any(centered):
        raise ValueError(
            f"{n_values} values that do not vary have no correlation time; give a "
            "longer series"
        )
    power = np.abs(fft.rfft(centered, n=2 * n_values)) ** 2
    correlation = fft.irfft(power)[:n_values]
    correlation /= correlation[0]
    times = np.cumsum(correlation) - 0.5
    sizes = np.abs(correlation)
    # Memory makes correlations by chance larger, too (Bartlett).
    chance = np.sqrt((2.0 * np.cumsum(correlation**2) - 1.0) / n_values)
    widest = np.cumsum(np.where(sizes > BY_CHANCE * chance, sizes, 0.0)) - 0.5
    lags = np.arange(n_values)
    settled = lags >= WINDOW_TIMES * np.maximum(times, widest)
    if not settled.any():  # an oscillation as long as the series
        settled = lags >= WINDOW_TIMES * times
    last = int(np.argmax(settled))
    time = float(times[last])
    if n_values < FEWEST_TIMES * time:
        raise ValueError(
            f"{n_values} values with a correlation time near {time:.3g} are fewer than "
            f"{FEWEST_TIMES:g} times that, so the time is a guess; give a longer series"
        )
    return max(time, float(np.sqrt(last / n_values)))
