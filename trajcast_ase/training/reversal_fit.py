r"""Limits of going back from what it missed on held-out pairs.

Scale and shape of tails come from probability-weighted moments of the largest values
(Hosking and Wallis 1987). A shape below 0, a tail that ends, is taken as 0, an
exponential: the careful side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from trajcast_ase.models.reversal_limits import (
    FEWEST_PAIRS,
    ReversalLimits,
    ReversalScale,
)
from trajcast_ase.models.tails import HEAVIEST_SHAPE, Tail

LARGEST_SHARE = 0.1
MOST_EXCESSES = 200
FEWEST_VALUES = 100
SMALLEST = 1e-12
"""Å and Å/fs: less is rounding."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What going back missed, all atoms of all systems in a row.

    Attributes
    ----------
    atomic_numbers : (n,)
    positions : (n,), Å
    velocities : (n,), Å/fs
    sizes : (n_systems,)
        Atoms of each system.
    """

    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, " atoms"]
    velocities: Float[np.ndarray, " atoms"]
    sizes: Int[np.ndarray, " systems"]


def fit_limits(missed: Missed) -> ReversalLimits:
    """Return the limits that fit what going back missed on held-out pairs.

    Raises
    ------
    ValueError
        Fewer than 100 pairs, misses that are not finite, or an element that always
        comes back exactly.
    """
    if len(missed.sizes) < FEWEST_PAIRS:
        raise ValueError(
            f"limits of going back need {FEWEST_PAIRS} pairs or more, not "
            f"{len(missed.sizes)}"
        )
    elements = {}
    squares = np.empty(len(missed.positions))
    for z in np.unique(missed.atomic_numbers):
        own, symbol = missed.atomic_numbers == z, chemical_symbols[z]
        x, v = missed.positions[own], missed.velocities[own]
        scale = ReversalScale(*(float(np.sqrt(np.mean(q**2))) for q in (x, v)))
        if not (
            SMALLEST < scale.displacement < math.inf
            and SMALLEST < scale.velocity < math.inf
        ):
            raise ValueError(
                f"going back misses the start of {symbol} by {scale.displacement:g} Å "
                f"and {scale.velocity:g} Å/fs, which leaves nothing to measure by"
            )
        elements[symbol] = scale
        squares[own] = ((x / scale.displacement) ** 2 + (v / scale.velocity) ** 2) / 2
    starts = np.concatenate([[0], np.cumsum(missed.sizes)[:-1]])
    rms = np.sqrt(np.add.reduceat(squares, starts) / missed.sizes)
    return ReversalLimits(
        elements,
        fit_tail(np.sqrt(squares)),
        fit_tail((rms - 1.0) * np.sqrt(missed.sizes)),
        int(missed.sizes.max()),
        len(missed.sizes),
    )


def fit_tail(values: Float[np.ndarray, " values"]) -> Tail:
    """Return the tail of values, from the largest tenth or the largest 200.

    Raises
    ------
    ValueError
        Fewer than 100 values, values that are not finite, or largest ones that are all
        alike.
    """
    if len(values) < FEWEST_VALUES or not np.isfinite(values).all():
        raise ValueError(
            f"a tail needs {FEWEST_VALUES} finite values or more, not {len(values)}; "
            "give more pairs"
        )
    count = min(MOST_EXCESSES, int(LARGEST_SHARE * len(values)))
    ordered = np.sort(values)
    threshold = float(ordered[-count - 1])
    excesses = ordered[-count:] - threshold
    mean = float(excesses.mean())
    ranks = np.arange(count)[::-1] / (count - 1)
    spare = mean - 2.0 * float((ranks * excesses).mean())
    if not spare > 0:
        raise ValueError(
            f"the largest {count} values are all {threshold:g}: they have no tail"
        )
    shape = min(max(2.0 - mean / spare, 0.0), HEAVIEST_SHAPE)
    return Tail(threshold, mean * (1.0 - shape), shape, count / len(values))
