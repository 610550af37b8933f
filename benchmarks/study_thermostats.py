"""Thermostats of the studies by short names, such as ``csvr+langevin:2``.

Parts joined by ``+``: ``recommended`` (of the model), ``csvr`` (the paper's time
constant) or ``csvr:50`` (of so many strides), ``langevin:2`` and ``adaptive:2`` (noise
with a time constant of so many ps), ``noise`` (calibrated, of the model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer
from ase import units

from trajcast_ase import CSVR, AdaptiveLangevin, Langevin
from trajcast_ase.network import Forecaster
from trajcast_ase.schedules import Temperature

KINDS = ("recommended", "csvr", "langevin", "adaptive", "noise")
ORDER = ("langevin", "adaptive", "csvr")
"""In which thermostats act."""
ADAPTION_FS = 1000.0
"""Time constant with which the friction of ``adaptive`` follows, fs."""

MakeMembers = Callable[[Any], list[Any]]
"""From the random numbers of a batch to the thermostats that act on it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Thermostats and noise of a run.

    Attributes
    ----------
    name : str
    values : dict of str to float or None
        Kind to its number, None where it has none.
    """

    name: str
    values: dict[str, float | None]

    @property
    def noise(self) -> bool:
        """Whether forecasts carry the calibrated noise."""
        return "noise" in self.values

    def describe(self, horizon_fs: float, taut_fs: float) -> str:
        """Return the setting in words."""
        words = []
        for kind, value in self.values.items():
            if kind == "csvr":
                constant = taut_fs if value is None else value * horizon_fs
                words.append(f"CSVR {constant:g} fs")
            elif kind == "langevin":
                words.append(f"Langevin {value:g} ps")
            elif kind == "adaptive":
                words.append(f"adaptive Langevin {value:g} ps")
            else:
                words.append(
                    "calibrated noise" if kind == "noise" else "recommended setting"
                )
        return " + ".join(words)

    def thermostats(
        self, temperature_K: Temperature, model: Forecaster, taut_fs: float
    ) -> MakeMembers:
        """Return what makes the thermostats of a batch.

        Parameters
        ----------
        temperature_K : float, or callable of the time in ASE units, K
        model : Forecaster
        taut_fs : float, fs
            Of CSVR in the paper.
        """
        if "recommended" in self.values:

            def recommended(rng: Any) -> list[Any]:
                found = model.recommended_thermostat(temperature_K, rng)
                return list(found) if isinstance(found, list | tuple) else [found]

            return recommended
        makers = [
            self._maker(kind, temperature_K, model.horizon_fs, taut_fs)
            for kind in ORDER
            if kind in self.values
        ]
        return lambda rng: [make(rng) for make in makers]

    def _maker(
        self, kind: str, temperature_K: Temperature, horizon_fs: float, taut_fs: float
    ) -> Callable[[Any], Any]:
        value = self.values[kind]
        if kind == "csvr":
            constant = taut_fs if value is None else value * horizon_fs
            return lambda rng: CSVR(temperature_K, constant * units.fs, rng)
        friction = 1.0 / ((value or 0.0) * 1e3 * units.fs)
        if kind == "langevin":
            return lambda rng: Langevin(temperature_K, friction, rng)
        taut = ADAPTION_FS * units.fs
        return lambda rng: AdaptiveLangevin(temperature_K, friction, taut, rng)


def parse_setting(text: str) -> Setting:
    """Return the setting of a short name.

    Raises
    ------
    typer.BadParameter
        An unknown part, one twice, a number that is missing or not positive, or no
        thermostat.
    """
    values: dict[str, float | None] = {}
    for part in text.split("+"):
        kind, _, number = part.partition(":")
        if kind not in KINDS or kind in values:
            raise typer.BadParameter(
                f"{part!r} in {text!r} is unknown or there twice; join parts of "
                f"{', '.join(KINDS)} by +, as in csvr+langevin:2"
            )
        values[kind] = _number(kind, number, text)
    if set(values) == {"noise"} or ("recommended" in values and len(values) > 1):
        raise typer.BadParameter(
            f"{text!r} needs one thermostat with the noise, and none beside the "
            "recommended; try langevin:2+noise"
        )
    return Setting(text, values)


def _number(kind: str, text: str, whole: str) -> float | None:
    """Return the number of a part, None for kinds that need none."""
    needed = kind in ("langevin", "adaptive")
    if not text and not needed:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0 or kind in ("noise", "recommended"):
        raise typer.BadParameter(
            f"{kind}:{text} in {whole!r} is no setting; give a positive number after "
            "langevin and adaptive (ps), none or one after csvr (strides), else none"
        )
    return value


def folder_name(setting: Setting) -> str:
    """Return the name of the folder of a setting's runs."""
    return setting.name.replace(":", "-")
