"""Whether two runs differ, from their pieces alone: a permutation test.

Under the hypothesis that both runs sample the same ensemble, their pieces may be
exchanged. A permutation test deals all pieces anew to the two runs and asks how often
the runs then differ as much as they do: this holds for numbers (difference of the
means) and for curves (overlap of the mean curves) alike, without any assumption about
their distribution. It does not hold for pieces that remember their neighbors, so their
:mod:`~trajcast_ase.validation.memory` is measured too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float

from trajcast_ase.validation.memory import Memory, memory

N_PERMUTATIONS = 20_000
SEED = 0

Distance = Callable[
    [Float[np.ndarray, "deals bins"], Float[np.ndarray, "deals bins"]],
    Float[np.ndarray, " deals"],
]


class Verdict(StrEnum):
    """Whether a row passes, and if not, whether memory of the pieces may be why."""

    PASS = "pass"  # noqa: S105  no password
    FAIL = "fail"
    DOUBTFUL = "fail, not trustworthy"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How two runs differ.

    Attributes
    ----------
    distance : float
        Of the means.
    allowed : float
        What the distance must not exceed.
    memory : Memory
        Of neighboring pieces.
    verdict : Verdict
    """

    distance: float
    allowed: float
    memory: Memory
    verdict: Verdict


def deal(n_run: int, n_reference: int) -> Bool[np.ndarray, "deals pieces"]:
    """Return which pieces go to the run, the true deal first."""
    rng = np.random.default_rng(SEED)
    truth = np.arange(n_run + n_reference) < n_run
    dealt = rng.permuted(np.tile(truth, (N_PERMUTATIONS, 1)), axis=1)
    return np.concatenate([truth[None], dealt])


def exchange_test(
    run: Float[np.ndarray, "pieces bins"],
    reference: Float[np.ndarray, "pieces bins"],
    distance: Distance,
    level: float,
    deals: Bool[np.ndarray, "deals pieces"],
) -> Outcome:
    """Return whether two runs differ more than exchanged pieces do.

    Parameters
    ----------
    run, reference : (n_pieces, n_bins)
        In the order of time.
    distance : function
        From the means of both sides of each deal, (n_deals, n_bins) each, to their
        distances, (n_deals,).
    level : float
        Chance that runs of one ensemble differ.
    deals : (n_deals, n_pieces of both)
        Those of :func:`deal`.
    """
    distances = distance(*_means(np.concatenate([run, reference]), deals))
    actual, allowed = float(distances[0]), _upper(distances, level)
    remembered = memory((run, reference), level)
    if actual <= allowed:  # memory makes rows fail, not pass
        verdict = Verdict.PASS
    elif not remembered.shows:
        verdict = Verdict.FAIL
    else:
        # As if both runs had one mean, for a true difference widens the limit too.
        moved = reference - reference.mean(axis=0) + run.mean(axis=0)
        scatter = distance(*_means(np.concatenate([run, moved]), deals))
        explained = actual <= remembered.widening * _upper(scatter, level)
        verdict = Verdict.DOUBTFUL if explained else Verdict.FAIL
    return Outcome(actual, allowed, remembered, verdict)


def _upper(distances: Float[np.ndarray, " deals"], level: float) -> float:
    """Return what a share `level` of the distances exceeds."""
    return float(np.quantile(distances, 1 - level, method="higher"))


def _means(
    pieces: Float[np.ndarray, "pieces bins"], deals: Bool[np.ndarray, "deals pieces"]
) -> tuple[Float[np.ndarray, "deals bins"], Float[np.ndarray, "deals bins"]]:
    """Return the mean of the pieces of either side of each deal."""
    n_first = deals[0].sum()
    first = deals.astype(np.float64) @ pieces
    second = pieces.sum(axis=0) - first
    return first / n_first, second / (deals.shape[1] - n_first)
