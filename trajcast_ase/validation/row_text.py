"""A row of a report in words, for tables and figures."""

from __future__ import annotations

import math

from trajcast_ase.validation.report import Row

SIGNS = {"differs by at most": "±", "at least": "≥", "at most": "≤"}
"""Of limits, where there is little room."""


def cells(row: Row) -> tuple[str, str, str, str, str, str]:
    """Return a row as text: observable, value, reference, limit, verdict, power."""
    name = f"{row.observable} ({row.unit})" if row.unit else row.observable
    return (
        name,
        value_text(row.value, row.error),
        value_text(row.reference, row.reference_error),
        row.limit,
        row.verdict,
        _seen(row),
    )


def short_limit(row: Row) -> str:
    """Return the limit with a sign for its words."""
    for words, sign in SIGNS.items():
        if row.limit.startswith(words):
            return sign + row.limit.removeprefix(words)
    return row.limit


def short_number(value: float, error: float | None) -> str:
    """Return a value with its error as units of the last digit: ``300.1(4)``."""
    if not error:
        return f"{value:.4g}"
    decimals = max(0, -math.floor(math.log10(error)))
    return f"{value:.{decimals}f}({error * 10**decimals:.0f})"


def _seen(row: Row) -> str:
    """Return the deviation that fails with odds of 80 %."""
    if row.seen is None:
        return "any above"
    if not math.isfinite(row.seen):
        return "none"
    if row.error is None:  # an overlap
        return f"below {row.seen:.3f}" if row.seen > 0 else "none"
    return f"± {row.seen:.2g}"


def value_text(value: float, error: float | None) -> str:
    """Return a value, to the digit of its error where it has one."""
    if not error:
        return f"{value:.4g}"
    decimals = max(0, -math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
