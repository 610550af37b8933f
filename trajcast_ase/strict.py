"""Values from files, checked strictly: a string is no bool, and a bool no number."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from reprlib import Repr
from typing import Any
from unicodedata import category

_REPR = Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
DEEPEST = 100
"""Lists and dictionaries inside each other in JSON."""


def shortened(value: Any) -> str:
    """Return what an error shows of a value of any size."""
    return _REPR.repr(value)


def integer(value: Any, name: str, low: int, high: int) -> int:
    """Return `value` if it is an integer in the range, else raise ValueError."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(
            f"{name} = {shortened(value)} must be an integer from {low} to {high}"
        )
    return value


def number(
    value: Any, name: str, low: float = -math.inf, high: float = math.inf
) -> float:
    """Return `value` if it is a finite number from `low` to `high`.

    Raises
    ------
    ValueError
        It is not; bools are no numbers.
    """
    if not is_finite_number(value):
        raise ValueError(f"{name} = {shortened(value)} must be a finite number")
    if not low <= value <= high:
        raise ValueError(
            f"{name} = {shortened(value)} must lie between {low:g} and {high:g}"
        )
    return float(value)


def flag(value: Any, name: str) -> bool:
    """Return `value` if it is true or false, else raise ValueError."""
    if not isinstance(value, bool):
        raise ValueError(  # noqa: TRY004  wrong content, not a wrong argument
            f"{name} = {shortened(value)} must be true or false"
        )
    return value


def choice(value: Any, name: str, options: Sequence[str]) -> str:
    """Return `value` if it is one of `options`, else raise ValueError."""
    if not isinstance(value, str) or value not in options:
        named = " or ".join(repr(option) for option in options)
        raise ValueError(f"{name} = {shortened(value)}; choose {named}")
    return value


def text(value: Any, name: str) -> str:
    """Return `value` if it is text, else raise ValueError.

    A terminal that shows a file's text must not obey control characters in it.
    """
    if not isinstance(value, str) or any(
        category(character) in {"Cc", "Cs"} and character not in "\n\t"
        for character in value
    ):
        raise ValueError(
            f"{name} = {shortened(value)} must be text without control characters"
        )
    return value


def members(value: Any, name: str, kind: type = list) -> Any:
    """Return `value` if it is of `kind` (list, tuple, dict), else raise ValueError."""
    if not isinstance(value, kind):
        raise ValueError(  # noqa: TRY004  wrong content, not a wrong argument
            f"{name} = {shortened(value)} must be a {kind.__name__}"
        )
    return value


def parse_json(content: str | bytes, *, deepest: int = DEEPEST) -> Any:
    """Return what JSON says, without NaN, infinities and deep nests.

    Raises
    ------
    ValueError
        It is not JSON, holds a number that is not finite, or nests too deeply.
    """
    try:
        value = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError(f"it nests more than {deepest} levels") from error
    _check_depth(value, deepest, deepest)
    return value


def is_finite_number(value: Any) -> bool:
    """Return whether `value` is a finite number; bools are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {shortened(digits)} is not finite")
    return value


def _check_depth(value: Any, left: int, deepest: int) -> None:
    if isinstance(value, dict):
        inner: list[Any] = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return
    if left == 0:
        raise ValueError(f"it nests more than {deepest} levels")
    for entry in inner:
        _check_depth(entry, left - 1, deepest)
