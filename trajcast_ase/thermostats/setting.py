"""The thermostats that a model was validated with, as data; read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trajcast_ase.strict import is_finite_number, shortened

TIME_CONSTANTS: dict[str, tuple[str, ...]] = {
    "Langevin": ("time_constant_fs",),
    "CSVR": ("time_constant_fs",),
    "AdaptiveLangevin": ("time_constant_fs", "response_fs"),
    "MolecularCSVR": ("time_constant_fs",),
}
"""Kinds of thermostats and their time constants, fs.

``time_constant_fs`` of ``Langevin``, and of the noise of ``AdaptiveLangevin``, is one
over the friction; ``response_fs`` is the time in which the latter's friction follows.
"""


@dataclass(frozen=True, slots=True)
class ThermostatSetting:
    """Thermostats in the order in which they act, without a temperature.

    Attributes
    ----------
    members : tuple of dict
        Each with its "kind" and the time constants of :data:`TIME_CONSTANTS`.
    chosen_by : str
        What validation chose them.

    Raises
    ------
    ValueError
        No member, an unknown kind, or a time constant that is missing, unknown or not
        positive.
    """

    members: tuple[Mapping[str, Any], ...]
    chosen_by: str = ""

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError(
                "a thermostat setting without members says nothing; name at least one "
                "thermostat, or leave the setting out"
            )
        for member in self.members:
            _check(member)

    @classmethod
    def from_plain(cls, value: Any) -> ThermostatSetting:
        """Return the setting of :meth:`to_plain`.

        Raises
        ------
        ValueError
            It is not of this form.
        """
        if not (
            isinstance(value, Mapping)
            and value.keys() == {"members", "chosen_by"}
            and isinstance(value["members"], list | tuple)
            and all(isinstance(member, Mapping) for member in value["members"])
            and isinstance(value["chosen_by"], str)
        ):
            raise ValueError(
                f"the thermostat setting {shortened(value)} is not a list of members "
                "and what chose them; write it with "
                "trajcast_ase.models.model_file.with_thermostat"
            )
        return cls(
            tuple(dict(member) for member in value["members"]), value["chosen_by"]
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the setting as JSON values."""
        members = [dict(member) for member in self.members]
        return {"members": members, "chosen_by": self.chosen_by}

    def __str__(self) -> str:
        """Return kinds and time constants, such as ``Langevin 2000 fs, CSVR 70 fs``."""
        return ", ".join(map(_named, self.members))


def _named(member: Mapping[str, Any]) -> str:
    kind = member["kind"]
    times = [f"{member[key]:g}" for key in TIME_CONSTANTS[kind]]
    return f"{kind} {'/'.join(times)} fs"


def _check(member: Mapping[str, Any]) -> None:
    """Raise ValueError for a member that no thermostat can be made of."""
    kind = member.get("kind")
    if not isinstance(kind, str) or kind not in TIME_CONSTANTS:
        raise ValueError(
            f"unknown kind of thermostat {shortened(kind)}; known are "
            f"{', '.join(TIME_CONSTANTS)}"
        )
    needed = TIME_CONSTANTS[kind]
    unknown = sorted(set(member) - {"kind", *needed})
    if unknown:
        raise ValueError(
            f"the thermostat {kind} has no key {shortened(unknown[0])}; give "
            f"{' and '.join(needed)}"
        )
    for key in needed:
        if key not in member:
            raise ValueError(f"the thermostat {kind} lacks {key}; give it in fs")
        value = member[key]
        if not (is_finite_number(value) and value > 0):
            raise ValueError(
                f"{key} = {shortened(value)} of the thermostat {kind} must be a "
                "positive number of fs"
            )
