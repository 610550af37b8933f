"""Thermostats of the studies by short names, such as ``langevin:2+csvr``.

Parts joined by ``+``, in the order in which they act: ``recommended`` (by the model),
``csvr`` (the paper's time constant) or ``csvr:50`` (of so many strides), ``langevin:2``
and ``adaptive:2`` (noise with a time constant of so many ps), ``molecular`` (CSVR of
molecules and within them, with the paper's time constant or that of so many strides),
and ``noise`` for the calibrated noise of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer

from trajcast_ase.network import Forecaster
from trajcast_ase.thermostats.recommended import setting_of, thermostats_of
from trajcast_ase.thermostats.schedules import Temperature
from trajcast_ase.thermostats.setting import ThermostatSetting

KINDS = ("recommended", "csvr", "langevin", "adaptive", "molecular", "noise")
OF_STRIDES = {"csvr": "CSVR", "molecular": "MolecularCSVR"}
"""Kinds whose number is a time constant in strides."""
RESPONSE_FS = 1000.0
"""Time in which the friction of ``adaptive`` follows."""

MakeMembers = Callable[[Any], list[Any]]
"""From the random numbers of a batch to the thermostats that act on it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Thermostats and noise of a run.

    Attributes
    ----------
    name : str
        As it was given.
    setting : ThermostatSetting
    noise : bool
        Whether forecasts carry the calibrated noise.
    """

    name: str
    setting: ThermostatSetting
    noise: bool

    @property
    def words(self) -> str:
        """Kinds and time constants."""
        return f"{self.setting}{', calibrated noise' if self.noise else ''}"

    @property
    def folder(self) -> str:
        """Name of a folder for runs."""
        return self.name.replace(":", "-")

    def thermostats(self, temperature_K: Temperature) -> MakeMembers:
        """Return what makes the thermostats of a batch at a temperature, K."""
        return partial(thermostats_of, self.setting, temperature_K)


def parse_choice(text: str, model: Forecaster, taut_fs: float) -> Choice:
    """Return what a short name stands for.

    Parameters
    ----------
    text : str
    model : Forecaster
    taut_fs : float, fs
        Of CSVR in the paper.

    Raises
    ------
    typer.BadParameter
        An unknown part, one twice, a number that is missing or not positive, or no
        thermostat.
    """
    parts = [part.partition(":") for part in text.split("+")]
    kinds = [kind for kind, _, _ in parts]
    if set(kinds) - set(KINDS) or len(set(kinds)) < len(kinds):
        raise typer.BadParameter(
            f"{text!r} has an unknown part, or one twice; join parts of "
            f"{', '.join(KINDS)} by +, as in langevin:2+csvr"
        )
    noise = "noise" in kinds
    if "recommended" in kinds:
        if set(kinds) - {"recommended", "noise"} or text.count(":"):
            raise typer.BadParameter(
                f"{text!r} has more than the recommended thermostats; give these alone "
                "or with noise, or name the thermostats"
            )
        return Choice(text, setting_of(model), noise)
    members = tuple(
        _member(kind, number, model.horizon_fs, taut_fs)
        for kind, _, number in parts
        if kind != "noise"
    )
    try:
        return Choice(text, ThermostatSetting(members), noise)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from error


def _member(
    kind: str, number: str, horizon_fs: float, taut_fs: float
) -> dict[str, Any]:
    """Return one thermostat as the setting of a model file has it."""
    try:
        value = float(number) if number else None
    except ValueError:
        raise typer.BadParameter(f"{number!r} after {kind} is no number") from None
    if kind in OF_STRIDES:
        constant = taut_fs if value is None else value * horizon_fs
        return {"kind": OF_STRIDES[kind], "time_constant_fs": constant}
    if value is None:
        raise typer.BadParameter(f"{kind} needs a time in ps, as in {kind}:2")
    if kind == "langevin":
        return {"kind": "Langevin", "time_constant_fs": 1e3 * value}
    return {
        "kind": "AdaptiveLangevin",
        "time_constant_fs": 1e3 * value,
        "response_fs": RESPONSE_FS,
    }
