"""Types and ranges of all that a model file states; without torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from trajcast_ase.models.reversal_limits import ReversalLimits
from trajcast_ase.strict import flag, integer, members, number, shortened, text

UNITS = {"length": "Å", "time": "fs", "mass": "amu"}
HEAVIEST_AMU = 1000.0
LONGEST_DTYPE = 16
ITEM_SIZES = {"F32": 4, "F64": 8}
COVARIANCE_KEYS = {"displacement", "cross", "velocity"}
# Of one tensor; a whole file holds fewer.
MOST_NUMBERS = 2**40


def _hash(value: Any, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{name} = {shortened(value)} must be a SHA-256")
    return value


def _units(value: Any, name: str) -> dict[str, str]:
    if value != UNITS:
        raise ValueError(f"{name} = {shortened(value)} must be {UNITS}")
    return dict(UNITS)


def _positive(value: Any, name: str) -> float:
    if not number(value, name) > 0:
        raise ValueError(f"{name} = {shortened(value)} must be positive")
    return float(value)


def _elements(value: Any, name: str) -> list[str]:
    for symbol in members(value, name):
        if not _is_symbol(symbol):
            raise ValueError(f"{name} holds {shortened(symbol)}, which is no symbol")
    if not value or len(set(value)) != len(value):
        raise ValueError(f"{name} = {shortened(value)} must be distinct and not empty")
    return list(value)


def _is_symbol(value: Any) -> bool:
    """Return whether `value` looks like a symbol; a loaded model checks which."""
    return isinstance(value, str) and bool(re.fullmatch("[A-Z][a-z]?", value))


def _masses(value: Any, name: str) -> list[float]:
    for mass in members(value, name):
        if number(mass, f"{name}, one of them", 0, HEAVIEST_AMU) == 0:
            raise ValueError(f"{name} holds a mass of 0")
    return list(map(float, value))


def _periodic(value: Any, name: str) -> bool | None:
    return None if value is None else flag(value, name)


def _conserved(value: Any, name: str) -> list[str]:
    return [text(what, f"{name}, one of them") for what in members(value, name)]


def _dictionary(value: Any, name: str) -> dict[str, Any]:
    """Return a dictionary whose texts a terminal may show."""
    _check_texts(members(value, name, dict), name)
    return dict(value)


def _errors(value: Any, name: str) -> dict[str, Any]:
    content = _dictionary(value, name)
    # Absent where nobody has measured any.
    if content.get("reversal") is not None:
        ReversalLimits.from_plain(content["reversal"], f"{name}.reversal")
    covariances = content.get("covariances")
    if covariances is not None:
        name = f"{name}.covariances"
        for symbol, one in members(covariances, name, dict).items():
            _check_covariance(symbol, one, name)
    return content


def _check_covariance(symbol: str, one: Any, name: str) -> None:
    if not _is_symbol(symbol):
        raise ValueError(f"{name} holds {shortened(symbol)}, which is no symbol")
    if members(one, f"{name}.{symbol}", dict).keys() != COVARIANCE_KEYS:
        raise ValueError(
            f"{name}.{symbol} = {shortened(one)} must have the keys "
            f"{', '.join(sorted(COVARIANCE_KEYS))}"
        )
    for key, entry in one.items():
        number(entry, f"{name}.{symbol}.{key}", -math.inf if key == "cross" else 0)


def _check_texts(value: Any, name: str) -> None:
    if isinstance(value, str):
        text(value, name)
    elif isinstance(value, dict):
        for key, entry in value.items():
            _check_texts(entry, f"{name}.{text(key, f'{name}, a key')}")
    elif isinstance(value, list):
        for entry in value:
            _check_texts(entry, name)


Check = Callable[[Any, str], Any]
TEXT_CHECKS: dict[str, Check] = {
    "name": text,
    "package_version": text,
    "licence": text,
    "citation": text,
    "created": text,
    "sha256": _hash,
}
JSON_CHECKS: dict[str, Check] = {
    "config": _dictionary,
    "horizon_fs": _positive,
    "units": _units,
    "elements": _elements,
    "masses_amu": _masses,
    "cutoff_A": _positive,
    "periodic": _periodic,
    "conserved": _conserved,
    "training": _dictionary,
    "errors": _errors,
}


def check_agreement(values: Mapping[str, Any]) -> None:
    """Raise ValueError where two keys of a header contradict each other."""
    elements, config = values["elements"], values["config"]
    if len(values["masses_amu"]) != len(elements):
        raise ValueError(
            f"masses_amu = {shortened(values['masses_amu'])} must hold one mass for "
            f"each of elements = {shortened(elements)}"
        )
    for key, ours, theirs in (
        ("horizon_fs", values["horizon_fs"], "horizon_fs"),
        ("cutoff_A", values["cutoff_A"], "cutoff"),
    ):
        if config.get(theirs) != ours:
            raise ValueError(
                f"{key} = {shortened(values[key])} contradicts {theirs} = "
                f"{shortened(config.get(theirs))} of its configuration"
            )


def tensor_entries(entries: Mapping[str, Any]) -> list[int]:
    """Return where each tensor ends, from a safetensors table.

    Raises
    ------
    ValueError
        A shape, type or place that no tensor has; the text names the tensor.
    """
    return [_tensor_end(entry, name) for name, entry in entries.items()]


def _tensor_end(entry: Any, name: str) -> int:
    name = f"tensor {shortened(name)}"
    if members(entry, name, dict).keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} must have a dtype, a shape and data_offsets")
    if not isinstance(entry["dtype"], str) or len(entry["dtype"]) > LONGEST_DTYPE:
        raise ValueError(f"{name} has the dtype {shortened(entry['dtype'])}")
    for size in members(entry["shape"], f"{name}, shape"):
        integer(size, f"{name}, a size", 0, MOST_NUMBERS)
    offsets = members(entry["data_offsets"], f"{name}, data_offsets")
    if len(offsets) != 2:  # noqa: PLR2004  start and end
        raise ValueError(f"{name} must have two data_offsets")
    start = integer(offsets[0], f"{name}, start", 0, MOST_NUMBERS)
    end = integer(offsets[1], f"{name}, end", start, MOST_NUMBERS)
    item = ITEM_SIZES.get(entry["dtype"])
    if item is not None and math.prod(entry["shape"]) * item != end - start:
        raise ValueError(
            f"{name} of shape {tuple(entry['shape'])} has {end - start} bytes"
        )
    return end
