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
    train, validation : tuple of str
        Files to train on and to choose by, relative to the folder: NVE runs, and where
        it can be learnt from the canonical run of the bath.
    bath, report : tuple of str
        Files of the runs that the bath is chosen beside, and that the report is held
        against.
    has_thermostat : bool
        Whether the last two are canonical.
    temperatures_K : tuple of float, K
        One, or both ends of a range and its middle.
    stride_fs : float, fs
        Between frames.
    fastest_period_fs : float, fs
    timestep_fs, seconds_per_step : float or None
        Of the calculator, by the clock; None where trajectories were given.
    calculator_ns_per_day : float or None, ns/day
        On one core.
    notes : tuple of str
        What became of the system, if anything.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    bath: tuple[str, ...]
    report: tuple[str, ...]
    has_thermostat: bool
    temperatures_K: tuple[float, ...]
    stride_fs: float
    fastest_period_fs: float
    timestep_fs: float | None
    seconds_per_step: float | None
    calculator_ns_per_day: float | None
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
        for name in ("train", "validation", "bath", "report", "notes"):
            found[name] = tuple(
                text(one, name) for one in members(values[name], name, list)
            )
        flag(values["has_thermostat"], "has_thermostat")
        kelvins = members(values["temperatures_K"], "temperatures_K", list)
        found["temperatures_K"] = tuple(
            number(one, "temperatures_K", 0, LARGEST) for one in kelvins
        )
        for name in ("stride_fs", "fastest_period_fs"):
            number(values[name], name, 0, LARGEST)
        for name in ("timestep_fs", "seconds_per_step", "calculator_ns_per_day"):
            if values[name] is not None:
                number(values[name], name, 0, LARGEST)
        return cls(**found)

    @property
    def middle(self) -> float:
        """The temperature, or the middle of a range, K."""
        return self.temperatures_K[len(self.temperatures_K) // 2]

    @property
    def shares_reference(self) -> bool:
        """Whether the bath is chosen beside the runs of the report."""
        return bool(set(self.bath) & set(self.report))

    @property
    def constant_energy(self) -> tuple[str, ...]:
        """The NVE runs to train on."""
        return tuple(name for name in self.train if name not in self.bath)

    def paths(self, names: tuple[str, ...], folder: Path) -> list[Path]:
        """Return files of this stage with their folder."""
        return [folder / name for name in names]
