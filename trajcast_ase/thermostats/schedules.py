"""Temperatures that change with time: a number, or a callable of the driver's time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from trajcast_ase.units import FS

Temperature = float | Callable[[float], float]


@dataclass(frozen=True, slots=True)
class LinearRamp:
    """Temperature that changes linearly from 0 to `duration` and then stays.

    Parameters
    ----------
    start_K, end_K : float, K
    duration : float, ASE units
        For example ``50_000 * units.fs``.
    """

    start_K: float
    end_K: float
    duration: float

    def __post_init__(self) -> None:
        _check_positive("duration", self.duration)

    def __call__(self, time: float) -> float:
        """Return the temperature (K) at `time` (ASE units)."""
        fraction = min(max(time / self.duration, 0.0), 1.0)
        return self.start_K + fraction * (self.end_K - self.start_K)


@dataclass(frozen=True, slots=True)
class ExponentialQuench:
    """Temperature that decays exponentially from `start_K` towards `end_K`.

    Parameters
    ----------
    start_K, end_K : float, K
    time_constant : float, ASE units
    """

    start_K: float
    end_K: float
    time_constant: float

    def __post_init__(self) -> None:
        _check_positive("time_constant", self.time_constant)

    def __call__(self, time: float) -> float:
        """Return the temperature (K) at `time` (ASE units)."""
        decay = math.exp(-max(time, 0.0) / self.time_constant)
        return self.end_K + (self.start_K - self.end_K) * decay


def temperature_at(temperature_K: Temperature, time: float) -> float:
    """Return a temperature (K), or the value of a callable at `time` (ASE units).

    Raises
    ------
    ValueError
        The value is negative or not finite.
    """
    value = temperature_K(time) if callable(temperature_K) else temperature_K
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"temperature_K = {value} K at time {time / FS:.6g} fs must be "
            "zero or positive"
        )
    return float(value)


def checked_temperature(temperature_K: Temperature) -> Temperature:
    """Return a valid number, or a callable, which is checked at each use."""
    return (
        temperature_K if callable(temperature_K) else temperature_at(temperature_K, 0)
    )


def describe_temperature(temperature_K: Temperature) -> Any:
    """Return a number, the fields of a schedule, or the name of a callable."""
    if not callable(temperature_K):
        return temperature_K
    name = getattr(temperature_K, "__qualname__", type(temperature_K).__name__)
    if isinstance(temperature_K, LinearRamp | ExponentialQuench):
        return {"name": name} | asdict(temperature_K)
    return name


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} = {value} must be positive, in ASE time units")
