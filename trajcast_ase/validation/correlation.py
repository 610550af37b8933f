r"""How much a piece remembers of the one before it, and what that leaves to chance.

The pieces of a run are taken as a series of which each keeps the share :math:`\rho` of
the last, AR(1). The sample correlation of neighbors is

.. math::

    r = \frac{\sum_t \langle d_t, d_{t+1} \rangle}{\sum_t \langle d_t, d_t \rangle},

where :math:`d_t` is a piece less the mean of all runs of its side, and the sums go over
the neighbors within each run. :math:`r` is biased and scatters, and the scatter of a
difference of means depends on :math:`\rho` too. Both are simulated: many pairs of sides
of normal pieces, with runs of the lengths at hand, for every :math:`\rho` of a grid.
From these come the :math:`\rho` that explains :math:`r` best, the largest one that
:math:`r` leaves possible, and what the difference of two sides of one ensemble exceeds
at a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, sqrt

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter
from scipy.stats import norm

SHARES = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
"""Of a piece that the next keeps."""
POWER = 0.8
"""Odds at which a difference that is said to be seen fails."""
DOUBT = 0.02
"""Chance that pieces remember more than is held possible."""
RUN_LEVEL = 0.05
"""Chance that runs that share all scatter more than their pieces explain."""
N_SIMULATED = 20_000
N_SIMULATED_CURVES = 2_000
MOST_DIMENSIONS = 8
"""Of the scatter of a curve; more say little more about its memory."""
SEED = 0

Side = tuple[int, ...]
"""Number of pieces of each run of a side."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a row remembers.

    Attributes
    ----------
    share : float
        Of a piece that the next keeps; the best estimate.
    highest : float
        What it is at most, but for a chance of 2 %; infinite where the pieces are too
        few or too much alike to say.
    run_scatter : float or None
        Variance between the runs of a side over that expected from their pieces; None
        where each side is one run.
    run_limit : float or None
        What chance exceeds in one of twenty cases.
    """

    share: float
    highest: float
    run_scatter: float | None = None
    run_limit: float | None = None

    @property
    def shows(self) -> bool:
        """Whether there is a memory, or chance gives such a one in 2 % at most."""
        return self.share > 0.0

    @property
    def runs_differ(self) -> bool:
        """Whether runs scatter more than their pieces explain."""
        if self.run_scatter is None or self.run_limit is None:
            return False
        return self.run_scatter > self.run_limit


@dataclass(frozen=True, slots=True)
class Moments:
    """What the pieces of two sides say of their scatter.

    Attributes
    ----------
    correlation : (...)
        Of neighbors, not corrected.
    scatter : (...)
        Standard deviation of the pieces of both sides about the mean of their side.
    between : (...)
        Variance between the means of runs, per piece; zero with one run a side.
    """

    correlation: Float[np.ndarray, ...]
    scatter: Float[np.ndarray, ...]
    between: Float[np.ndarray, ...]


def moments(
    sides: Sequence[Sequence[Float[np.ndarray, "*sims pieces bins"]]],
) -> Moments:
    """Return the moments of two sides, each the pieces of its runs."""
    above = below = between = np.zeros(())
    n_pieces = n_runs = 0
    n_bins = sides[0][0].shape[-1]
    for runs in sides:
        total = sum(run.shape[-2] for run in runs)
        mean = sum(run.sum(axis=-2, keepdims=True) for run in runs) / total
        for run in runs:
            away = run - mean
            above = above + (away[..., 1:, :] * away[..., :-1, :]).sum(axis=(-1, -2))
            below = below + np.square(away).sum(axis=(-1, -2))
            shift = np.square(away.mean(axis=-2)).sum(axis=-1)
            between = between + run.shape[-2] * shift
        n_pieces, n_runs = n_pieces + total, n_runs + len(runs)
    free = max(n_runs - len(sides), 1)
    correlation = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
    return Moments(
        correlation,
        np.sqrt(below / (n_bins * (n_pieces - len(sides)))),
        between / (n_bins * free),
    )


def mean_variance(side: Side, share: float) -> float:
    """Return the variance of the mean of a side, for pieces of unit variance."""
    total = 0.0
    for length in side:
        lags = np.arange(1, length)
        total += length + 2 * float(((length - lags) * share**lags).sum())
    return total / sum(side) ** 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """What chance does to two sides with runs of given lengths.

    Attributes
    ----------
    sides : pair of Side
    level : float
        Chance that sides of one ensemble differ.
    likeliest, lowest : (n_shares,)
        Correlation that a share exceeds in half the cases, and in all but `DOUBT`.
    allowed : (n_shares,)
        Difference that chance exceeds at the level, over its standard error by the
        best estimate of the share.
    needed : (n_shares,)
        True difference that fails in four of five cases, over the standard deviation
        of a piece; infinite where memory has no upper limit too often.
    between : (n_shares,)
        Scatter of runs that chance exceeds in one of twenty cases.
    """

    sides: tuple[Side, Side]
    level: float
    likeliest: Float[np.ndarray, " shares"]
    lowest: Float[np.ndarray, " shares"]
    allowed: Float[np.ndarray, " shares"]
    needed: Float[np.ndarray, " shares"]
    between: Float[np.ndarray, " shares"]

    @property
    def free_runs(self) -> int:
        """Runs that tell how runs of one side scatter."""
        return sum(map(len, self.sides)) - len(self.sides)

    def share(self, correlation: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
        """Return the share that explains a correlation best."""
        return np.asarray(np.interp(correlation, self.likeliest, SHARES))

    def memory(self, found: Moments) -> Memory:
        """Return the memory that pieces show."""
        share = float(self.share(found.correlation))
        highest = float(np.interp(found.correlation, self.lowest, SHARES, right=inf))
        scatter = limit = None
        if self.free_runs > 0 and found.scatter > 0:
            scatter = float(run_scatter(found, np.array(share), self.sides))
            limit = float(np.interp(share, SHARES, self.between))
        return Memory(share, max(highest, share), scatter, limit)

    def standard_error(self, share: float) -> float:
        """Return that of the difference of the sides, for pieces of unit variance."""
        return sqrt(sum(mean_variance(side, share) for side in self.sides))

    def seen(self, share: float) -> float:
        """Return what `needed` says of a share."""
        upper = int(np.searchsorted(SHARES, share))
        if not np.isfinite(self.needed[upper]):
            return inf
        return float(np.interp(share, SHARES, self.needed))

    def widening(self, share: float) -> float:
        """Return the difference allowed, in standard errors of the share's estimate."""
        return float(np.interp(share, SHARES, self.allowed, right=inf))


def run_scatter(
    found: Moments, share: Float[np.ndarray, ...], sides: tuple[Side, Side]
) -> Float[np.ndarray, ...]:
    """Return the variance between runs over that expected from their pieces."""
    lengths = [length for side in sides for length in side]
    of_piece = [
        np.mean([length * mean_variance((length,), one) for length in lengths])
        for one in SHARES
    ]
    expected = np.square(found.scatter) * np.interp(share, SHARES, of_piece)
    return np.asarray(found.between / expected)


@lru_cache(maxsize=64)
def calibration(sides: tuple[Side, Side], level: float, n_dims: int = 1) -> Calibration:
    """Return what chance does to sides with runs of these lengths.

    Parameters
    ----------
    sides : pair of Side
    level : float
        Chance that sides of one ensemble differ.
    n_dims : int
        Numbers that scatter independently; more say more about their memory. What is
        allowed is always that of one number.
    """
    likeliest, lowest, between = _memory_quantiles(sides, n_dims)
    allowed, needed = _limits(sides, level)
    return Calibration(sides, level, likeliest, lowest, allowed, needed, between)


@lru_cache(maxsize=64)
def _memory_quantiles(
    sides: tuple[Side, Side], n_dims: int
) -> tuple[Float[np.ndarray, " shares"], ...]:
    samples = _simulated(sides, n_dims)
    likeliest = _rising([float(np.median(one.correlation)) for _, one in samples])
    lowest = _rising([float(np.quantile(one.correlation, DOUBT)) for _, one in samples])
    between = []
    for _, one in samples:
        share = np.interp(one.correlation, likeliest, SHARES)
        between.append(
            float(np.quantile(run_scatter(one, share, sides), 1 - RUN_LEVEL))
        )
    return likeliest, lowest, _rising(between)


@lru_cache(maxsize=64)
def _limits(
    sides: tuple[Side, Side], level: float
) -> tuple[Float[np.ndarray, " shares"], Float[np.ndarray, " shares"]]:
    """Return the differences allowed and needed, for each share."""
    likeliest, lowest, _ = _memory_quantiles(sides, 1)
    by_share = [
        sqrt(sum(mean_variance(side, share) for side in sides)) for share in SHARES
    ]
    simulated = _simulated(sides, 1)
    errors = []
    for _, one in simulated:
        share = np.interp(one.correlation, likeliest, SHARES)
        errors.append(one.scatter * np.interp(share, SHARES, by_share))
    limits = [
        float(np.quantile(difference / error, 1 - level))
        for (difference, _), error in zip(simulated, errors, strict=True)
    ]
    limits[0] = max(limits[0], float(norm.isf(level / 2)))
    allowed, needed = _rising(limits), []
    for (difference, one), error in zip(simulated, errors, strict=True):
        highest = np.interp(one.correlation, lowest, SHARES, right=inf)
        firm = error * np.interp(highest, SHARES, allowed, right=inf)
        # Chance is as often on the side of a true difference as against it.
        short = np.concatenate([firm - difference, firm + difference])
        needed.append(float(np.quantile(short, POWER, method="higher")))
    return allowed, _rising(needed)


def _rising(values: Sequence[float]) -> Float[np.ndarray, " shares"]:
    return np.maximum.accumulate(np.asarray(values, dtype=np.float64))


@lru_cache(maxsize=4)
def _simulated(
    sides: tuple[Side, Side], n_dims: int
) -> tuple[tuple[Float[np.ndarray, " sims"], Moments], ...]:
    """Return differences and moments of simulated sides, for each share."""
    rng = np.random.default_rng(SEED)
    n_sims = N_SIMULATED if n_dims == 1 else N_SIMULATED_CURVES
    results = []
    for share in SHARES:
        drawn = [
            [
                remembering((n_sims, length, n_dims), float(share), rng)
                for length in side
            ]
            for side in sides
        ]
        means = [
            sum(run.sum(axis=1) for run in runs) / sum(side)
            for runs, side in zip(drawn, sides, strict=True)
        ]
        difference = np.linalg.norm(means[0] - means[1], axis=1)
        results.append((difference, moments(drawn)))
    return tuple(results)


def remembering(
    shape: tuple[int, int, int], share: float, rng: np.random.Generator
) -> Float[np.ndarray, "sims pieces bins"]:
    """Return stationary series of unit variance, of which each piece keeps a share."""
    kicks = rng.normal(size=shape)
    kicks[:, 1:] *= sqrt(1 - share**2)
    return np.asarray(lfilter([1.0], [1.0, -share], kicks, axis=1))
