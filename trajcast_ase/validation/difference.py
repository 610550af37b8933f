r"""Whether two sides differ by more than chance, from the pieces of their runs.

A side is one run or several. The standard error of the difference of two means is that
of AR(1) series (:mod:`~trajcast_ase.validation.correlation`) with the memory that the
pieces show; where runs of a side scatter more than their pieces explain, it is that of
the runs. What is allowed is a multiple of it that holds its level for normal pieces,
with the uncertainty of memory and scatter included. Curves differ by what they lack to
full overlap. What chance allows for pieces without memory comes from dealing the
pieces, each less the mean of its side, anew to both sides; memory widens it as above.

Every difference has two limits. Beyond the first it is more than chance allows with the
memory that is likeliest; beyond the second with the strongest memory that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import inf, sqrt

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, t

from trajcast_ase.analysis.overlap import curve_overlap
from trajcast_ase.validation.correlation import (
    MOST_DIMENSIONS,
    POWER,
    Calibration,
    Memory,
    Moments,
    Side,
    calibration,
    mean_variance,
    moments,
)

N_DEALS = 20_000
SEED = 0
LASTING = 0.5
"""Share kept above which memory without an upper limit excuses nothing."""

Runs = Sequence[Float[np.ndarray, "pieces bins"]]


class Verdict(StrEnum):
    """Whether a row passes, and if not, whether memory may be why."""

    PASS = "pass"  # noqa: S105  no password
    FAIL = "fail"
    DOUBTFUL = "not trustworthy"


@dataclass(frozen=True, slots=True)
class Difference:
    """How two sides differ.

    Attributes
    ----------
    value : float
        Of the means.
    limit : float
        What passes, with the likeliest memory.
    firm_limit : float
        Beyond which it fails, with the strongest memory that is possible.
    seen : float
        True difference that fails with odds of 80 % or more.
    errors : pair of float
        Standard errors of the mean of either side; of curves those of a bin.
    memory : Memory
    """

    value: float
    limit: float
    firm_limit: float
    seen: float
    errors: tuple[float, float]
    memory: Memory

    @property
    def verdict(self) -> Verdict:
        """Whether the row passes."""
        if self.value <= self.limit:
            return Verdict.PASS
        return Verdict.FAIL if self.value > self.firm_limit else Verdict.DOUBTFUL


def number_difference(
    run: Sequence[Float[np.ndarray, " pieces"]],
    reference: Sequence[Float[np.ndarray, " pieces"]],
    level: float,
) -> Difference:
    """Return how the means of numbers differ; of each run its pieces in order.

    Parameters
    ----------
    run, reference : pieces of each run, in the order of time
    level : float
        Chance that sides of one ensemble differ.
    """
    sides = [[one[:, None] for one in side] for side in (run, reference)]
    lengths = _lengths(sides)
    known = calibration(lengths, level)
    found = moments(sides)
    memory = known.memory(found)
    scatter, between = float(found.scatter), _run_error(known, found, memory)
    error = max(scatter * known.standard_error(memory.share), between)
    limit = _likely(known, memory, error, scatter)
    firm = _firm(known, memory, error, between, level)
    means = [float(np.concatenate(side).mean()) for side in (run, reference)]
    widest = firm + float(norm.ppf(POWER)) * between if between > 0.0 else 0.0
    own = [scatter * sqrt(mean_variance(side, memory.share)) for side in lengths]
    if between > 0.0:
        own = [between * one / np.hypot(own[0], own[1]) for one in own]
    return Difference(
        value=abs(means[0] - means[1]),
        limit=limit,
        firm_limit=firm,
        seen=max(scatter * known.seen(memory.share) if scatter else 0.0, widest),
        errors=(own[0], own[1]),
        memory=memory,
    )


def curve_difference(run: Runs, reference: Runs, level: float) -> Difference:
    """Return what the mean curves lack to full overlap; parameters as for numbers."""
    sides = [list(run), list(reference)]
    lengths = _lengths(sides)
    means = [np.concatenate(side).mean(axis=0) for side in sides]
    residuals = [np.concatenate(side) - m for side, m in zip(sides, means, strict=True)]
    weights = np.sqrt(np.concatenate(residuals).std(axis=0))
    # Each bin counts for the memory as its scatter does for the overlap.
    weights = np.divide(1.0, weights, out=np.zeros_like(weights), where=weights > 0)
    weighted = [[one * weights for one in side] for side in sides]
    n_dims = _dimensions(np.concatenate(residuals) * weights)
    known = calibration(lengths, level, n_dims)
    found = moments(weighted)
    memory = known.memory(found)
    between = _run_error(known, found, memory)
    scatter = float(found.scatter)
    error = max(scatter * known.standard_error(memory.share), between)
    alone = scatter * known.standard_error(0.0) or 1.0
    gaps = _chance_gaps(residuals, float(means[0].sum() + means[1].sum()))
    typical = float(norm.isf(level / 2))
    base = float(np.quantile(gaps, 1 - level, method="higher")) / typical
    limit = base * _likely(known, memory, error, scatter) / alone
    firm = base * _firm(known, memory, error, between, level) / alone
    value = float(1.0 - curve_overlap(means[0], means[1]))
    # However the true curves differ, chance takes no more than its own gap from it.
    seen = firm + float(np.quantile(gaps, POWER)) * error / alone
    own = tuple(scatter * sqrt(mean_variance(side, memory.share)) for side in lengths)
    return Difference(value, limit, firm, seen, (own[0], own[1]), memory)


def _lengths(sides: Sequence[Runs]) -> tuple[Side, Side]:
    run, reference = (tuple(len(one) for one in side) for side in sides)
    return run, reference


def _likely(known: Calibration, memory: Memory, error: float, scatter: float) -> float:
    """Return the limit with the memory that is likeliest.

    Memory that may be as long as the runs excuses nothing.
    """
    if memory.share > LASTING and not np.isfinite(memory.highest):
        return known.widening(0.0) * known.standard_error(0.0) * scatter
    return known.widening(memory.share) * error


def _firm(
    known: Calibration, memory: Memory, error: float, between: float, level: float
) -> float:
    """Return the limit with the strongest memory that is possible."""
    if error == 0.0:  # what never varies has no memory that could excuse it
        return 0.0
    firm = known.widening(memory.highest) * error
    if between > 0.0:
        firm = max(firm, float(t.isf(level / 2, known.free_runs)) * between)
    return firm


def _run_error(known: Calibration, found: Moments, memory: Memory) -> float:
    """Return the standard error of the difference by the scatter of the runs.

    Zero where they scatter no more than their pieces explain.
    """
    if not memory.runs_differ:
        return 0.0
    runs = [length for side in known.sides for length in side]
    # Of the mean of one run, whatever its length.
    variance = float(found.between) * len(runs) / sum(runs)
    shares = sum(sum((n / sum(side)) ** 2 for n in side) for side in known.sides)
    return sqrt(variance * shares)


@lru_cache(maxsize=2)
def _deals(n_run: int, n_pieces: int) -> Float[np.ndarray, "deals pieces"]:
    """Return deals of pieces, 1 for those of the run."""
    truth = np.arange(n_pieces) < n_run
    tiled = np.tile(truth, (N_DEALS, 1))
    dealt = np.random.default_rng(SEED).permuted(tiled, axis=1)
    return np.asarray(dealt.astype(np.float32))


def _dimensions(residuals: Float[np.ndarray, "pieces bins"]) -> int:
    """Return how many numbers scatter independently in a curve: 1, 2, 4 or 8."""
    gram = residuals @ residuals.T
    trace = float(np.trace(gram))
    if trace == 0.0:
        return 1
    inverse = float(np.square(gram).sum()) / trace**2 - 1.0 / len(gram)
    number = 1.0 / inverse if inverse > 0 else inf
    return int(2 ** np.floor(np.log2(np.clip(number, 1.0, MOST_DIMENSIONS))))


def _chance_gaps(
    residuals: Sequence[Float[np.ndarray, "pieces bins"]], areas: float
) -> Float[np.ndarray, " deals"]:
    """Return what curves lack to full overlap by chance, with pieces dealt anew.

    `areas` is the sum of both mean curves.
    """
    pieces = np.concatenate(residuals).astype(np.float32)
    n_run, n_pieces = len(residuals[0]), len(pieces)
    first = _deals(n_run, n_pieces) @ pieces
    shift = first / n_run + first / (n_pieces - n_run)  # the residuals sum to zero
    # Two means were taken off the pieces.
    shift *= sqrt(n_pieces / (n_pieces - 2))
    gaps = np.abs(shift).sum(axis=1) / (areas or 1.0)
    return np.asarray(gaps, dtype=np.float64)
