"""Numbers and names as a reader of the console wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence

FIGURES = 3
EXACT = 1000.0
"""From here on the figures given are whole numbers."""
MOST_NAMES = 5


def figures(value: float) -> str:
    """Return a number with three figures, and never a power of ten."""
    rounded = float(f"{value:.{FIGURES}g}")
    return f"{rounded:.0f}" if abs(rounded) >= EXACT else f"{rounded:g}"


def counted(number: int, one: str, several: str) -> str:
    """Return a number with its noun."""
    return f"{number} {one if number == 1 else several}"


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    first = ", ".join(names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{first} and {more} more" if more > 0 else first


def shown(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    if seconds < 5400:  # noqa: PLR2004
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def budget_option(seconds: float) -> str:
    """Return a budget as the option takes it, rounded up."""
    minutes = math.ceil(seconds / 60.0)
    return f"{minutes}min" if minutes < 120 else f"{math.ceil(minutes / 6) / 10:g}h"  # noqa: PLR2004
