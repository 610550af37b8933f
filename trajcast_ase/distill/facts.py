"""What the later stages know of the reference MD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from trajcast_ase.strict import flag, members, number, text

LARGEST = 1e12


@dataclass(frozen=True, slots=True)
class Facts:
    """The reference MD of a state file.

    Attributes
    ----------
    train, validation, canonical : tuple of str
        Files of NVE runs to train on and to choose by, and of the runs that the report
        is held against; relative to the folder.
    has_thermostat : bool
        Whether the last are canonical.
    temperature_K : float, K
    stride_fs : float, fs
        Between frames.
    fastest_period_fs : float, fs
    timestep_fs, seconds_per_step : float or None
        Of the calculator; None where trajectories were given.
    notes : tuple of str
        What became of the system, if anything.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    canonical: tuple[str, ...]
    has_thermostat: bool
    temperature_K: float
    stride_fs: float
    fastest_period_fs: float
    timestep_fs: float | None
    seconds_per_step: float | None
    notes: tuple[str, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Return the facts of a state file.

        Raises
        ------
        ValueError
            A value is missing, or of another type.
        """
        if values.keys() != set(cls.__slots__):
            raise ValueError("the reference MD of the state lacks a key or has another")
        found: dict[str, Any] = dict(values)
        for name in ("train", "validation", "canonical", "notes"):
            found[name] = tuple(
                text(one, name) for one in members(values[name], name, list)
            )
        flag(values["has_thermostat"], "has_thermostat")
        for name in ("temperature_K", "stride_fs", "fastest_period_fs"):
            number(values[name], name, 0, LARGEST)
        for name in ("timestep_fs", "seconds_per_step"):
            if values[name] is not None:
                number(values[name], name, 0, LARGEST)
        return cls(**found)

    def paths(self, names: tuple[str, ...], folder: Path) -> list[Path]:
        """Return files of this stage with their folder."""
        return [folder / name for name in names]
