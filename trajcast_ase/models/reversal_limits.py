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
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trajcast_ase.models.tails import Tail
from trajcast_ase.strict import integer, members, number, shortened

FEWEST_PAIRS = 100
"""Of which a tail of the systems is fitted."""
MOST = 2**40


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


def _scale(symbol: str, value: Any, name: str) -> ReversalScale:
    if not re.fullmatch("[A-Z][a-z]?", symbol):
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
