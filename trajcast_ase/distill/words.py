"""Numbers and names as a reader of the console wants them."""

from __future__ import annotations

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
    shown = ", ".join(names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
