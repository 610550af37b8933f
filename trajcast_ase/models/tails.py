r"""How rare a large value is: generalised Pareto tails beyond a threshold.

Whatever the distribution, excesses over a high threshold :math:`u` tend to

.. math:: P(x > u + y) = s \, (1 + \xi y / \sigma)^{-1/\xi}

where :math:`s` is the share above the threshold (Pickands 1975), which is what can be
said of values that are rarer than any that was seen. Without torch, ASE and numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from trajcast_ase.strict import members, number, shortened

HEAVIEST_SHAPE = 0.5
"""Beyond it the moments of a tail have no finite variance."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The upper tail of a distribution.

    Attributes
    ----------
    threshold : float
        Where it begins.
    scale : float
        Positive, in the unit of the values.
    shape : float
        From 0, exponential, to 0.5.
    share : float
        Of the values beyond the threshold.
    """

    threshold: float
    scale: float
    shape: float
    share: float

    def limit(self, probability: float) -> float:
        """Return what a value exceeds with `probability`; at least the threshold."""
        if probability >= self.share:
            return self.threshold
        folds = math.log(self.share / probability)
        # expm1(xi t) / xi tends to t.
        longer = math.expm1(self.shape * folds) / self.shape if self.shape else folds
        return self.threshold + self.scale * longer

    @classmethod
    def from_plain(cls, value: Any, name: str) -> Tail:
        """Return the tail of JSON values; `name` names it in errors.

        Raises
        ------
        ValueError
            It is none.
        """
        keys = tuple(cls.__slots__)
        if members(value, name, dict).keys() != set(keys):
            raise ValueError(
                f"{name} = {shortened(value)} must have the keys {', '.join(keys)}"
            )
        lowest = {"threshold": -math.inf}
        highest = {"shape": HEAVIEST_SHAPE, "share": 1.0}
        numbers = {
            key: number(
                value[key],
                f"{name}.{key}",
                lowest.get(key, 0.0),
                highest.get(key, math.inf),
            )
            for key in keys
        }
        for key in ("scale", "share"):
            if numbers[key] == 0:
                raise ValueError(f"{name}.{key} = 0 must be positive")
        return cls(**numbers)
