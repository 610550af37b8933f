r"""What going back usually misses, and beyond which limits it does not; without torch.

A stride forward, all velocities reversed, and a stride: exact dynamics is back at its
start. What a model misses is measured on held-out pairs, and an atom's *deviation* is

.. math:: d_i^2 = \tfrac12 (\delta x_i / s_x)^2 + \tfrac12 (\delta v_i / s_v)^2

with the root mean squares :math:`s` of its element, so that 1 is usual. The largest
deviation of an atom shows a fault in one place, the root mean square over a system one
that is everywhere, such as another temperature. Both have limits for a chosen rate of
false alarms, from tails (:mod:`.tails`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_numbers as numbers_of_symbols
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from trajcast_ase.strict import integer, members, number, shortened
from trajcast_ase.tails import Tail

FEWEST_PAIRS = 100
"""Of which a tail of the systems is fitted."""
MOST = 2**40
SMALLEST = 1e-12
"""Å and Å/fs: less is rounding."""


@dataclass(frozen=True, slots=True)
class ReversalScale:
    """Root mean square of what going back misses, of the atoms of one element.

    Attributes
    ----------
    displacement : float, Å
    velocity : float, Å/fs
        Both lengths of vectors.
    """

    displacement: float
    velocity: float


@dataclass(frozen=True, slots=True)
class ReversalLimits:
    """What going back usually misses.

    Attributes
    ----------
    elements : dict of symbol to ReversalScale
    atom : Tail
        Of deviations of single atoms.
    system : Tail
        Of ``(rms - 1) * sqrt(n_atoms)``, with the rms of the deviations of a system.
    n_atoms : int
        Of the largest system it was measured on.
    n_pairs : int
    """

    elements: Mapping[str, ReversalScale]
    atom: Tail
    system: Tail
    n_atoms: int
    n_pairs: int

    def atom_limit(self, n_atoms: int, rate: float) -> float:
        """Return what, at a share of looks `rate`, any of `n_atoms` deviates by.

        At most: the share of one atom is `rate` over their number, whether or not they
        depend on each other.
        """
        return self.atom.limit(rate / n_atoms)

    def system_limit(self, n_atoms: int, rate: float) -> float:
        """Return the rms of deviations that a share of looks `rate` is above.

        It narrows with the square root of the number of atoms, but not beyond the
        systems that it was measured on: atoms far from each other may err alike.
        """
        width = math.sqrt(min(n_atoms, self.n_atoms))
        return 1.0 + max(0.0, self.system.limit(rate)) / width

    @classmethod
    def from_plain(cls, value: Any, name: str) -> ReversalLimits:
        """Return the limits of JSON values; `name` names them in errors.

        Raises
        ------
        ValueError
            A key is missing or unknown, or a value is out of its range.
        """
        value = _with_keys(value, name, tuple(cls.__slots__))
        elements = members(value["elements"], f"{name}.elements", dict)
        if not elements:
            raise ValueError(f"{name}.elements is empty")
        return cls(
            {symbol: _scale(symbol, one, name) for symbol, one in elements.items()},
            Tail.from_plain(value["atom"], f"{name}.atom"),
            Tail.from_plain(value["system"], f"{name}.system"),
            integer(value["n_atoms"], f"{name}.n_atoms", 1, MOST),
            integer(value["n_pairs"], f"{name}.n_pairs", FEWEST_PAIRS, MOST),
        )


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
        Tail.of(np.sqrt(squares)),
        Tail.of((rms - 1.0) * np.sqrt(missed.sizes)),
        int(missed.sizes.max()),
        len(missed.sizes),
    )


def _scale(symbol: str, value: Any, name: str) -> ReversalScale:
    if numbers_of_symbols.get(symbol, 0) < 1:
        raise ValueError(f"{name} holds {shortened(symbol)}, which is no symbol")
    name = f"{name}.elements.{symbol}"
    value = _with_keys(value, name, tuple(ReversalScale.__slots__))
    numbers = {key: number(one, f"{name}.{key}", 0.0) for key, one in value.items()}
    for key, one in numbers.items():
        if one == 0:
            raise ValueError(f"{name}.{key} = 0 must be positive")
    return ReversalScale(**numbers)


def _with_keys(value: Any, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    content: dict[str, Any] = members(value, name, dict)
    if content.keys() != set(keys):
        raise ValueError(
            f"{name} = {shortened(value)} must have the keys {', '.join(keys)}"
        )
    return content
