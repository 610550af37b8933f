r"""Whether a piece remembers the one before it.

Pieces may be exchanged between runs only where neighbors know nothing of each other.
Then their order does not matter either, so shuffles of it tell which correlation of
neighbors,

.. math::

    r = \frac{\sum_t \langle d_t, d_{t+1} \rangle}{\sum_t \langle d_t, d_t \rangle},

chance gives: :math:`d_t` is a piece less the mean of its run, and the sums go over
both runs. The level of this test holds for numbers and curves, and for any number of
pieces: few have so few orders, or so broad a scatter, that none stands out.

The pieces of a run sum to zero, which alone gives the numerator the mean
:math:`-\sum_t \langle d_t, d_t \rangle / n`; it is taken off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from jaxtyping import Float

N_SHUFFLES = 20_000
SEED = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """How alike neighboring pieces are.

    Attributes
    ----------
    correlation : float
        Of neighbors; zero on average without memory.
    limit : float
        What chance exceeds at the level of the test.
    """

    correlation: float
    limit: float

    @property
    def shows(self) -> bool:
        """Whether neighbors are more alike than chance makes them."""
        return self.correlation > self.limit

    @property
    def widening(self) -> float:
        """How many times as far as without memory the means of runs may scatter.

        That of a series of which each piece keeps the same share of the last (AR(1)).
        The share is the correlation and what chance may hide of it.
        """
        if not self.shows:
            return 1.0
        share = self.correlation + self.limit
        return sqrt((1 + share) / (1 - share)) if share < 1.0 else inf


def memory(runs: Sequence[Float[np.ndarray, "pieces bins"]], level: float) -> Memory:
    """Return the correlation of neighboring pieces, and its limit.

    Parameters
    ----------
    runs : sequence of (n_pieces, n_bins)
        Pieces of each run, in the order of time.
    level : float
        Chance that pieces without memory exceed the limit.
    """
    rng = np.random.default_rng(SEED)
    products, total = np.zeros(1 + N_SHUFFLES), 0.0
    for pieces in runs:
        deviations = pieces - pieces.mean(axis=0)
        gram = deviations @ deviations.T
        truth = np.arange(len(pieces))
        shuffled = rng.permuted(np.tile(truth, (N_SHUFFLES, 1)), axis=1)
        orders = np.concatenate([truth[None], shuffled])
        products += gram[orders[:, :-1], orders[:, 1:]].sum(axis=1)
        products += np.trace(gram) / len(pieces)
        total += np.trace(gram)
    if total == 0.0:  # constant, as a rigid bond is
        return Memory(0.0, 0.0)
    correlations = products / total
    limit = np.quantile(correlations, 1 - level, method="higher")
    return Memory(float(correlations[0]), float(limit))


def describe(found: Mapping[str, Memory]) -> str:
    """Return which of the observables remember, and what follows, in words."""
    shown = {name: one for name, one in found.items() if one.shows}
    if not shown:
        limit = max(one.limit for one in found.values())
        return (
            "No row shows a memory of neighboring pieces; correlations up to "
            f"{limit:.2f} could be chance."
        )
    names = ", ".join(
        f"{name} {one.correlation:.2f} ({one.limit:.2f})" for name, one in shown.items()
    )
    return (
        f"Neighboring pieces remember each other in {len(shown)} of {len(found)} rows, "
        f"by their correlation (in brackets: what chance gives at most): {names}. Such "
        "rows fail more often than these odds. A failure that memory may explain is "
        "marked as not trustworthy; a pass holds. For more, give longer runs and cut "
        "them into longer pieces."
    )
