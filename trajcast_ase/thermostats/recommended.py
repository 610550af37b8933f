"""Thermostats, ready to use, of a setting that a model carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trajcast_ase.models.model_header import ModelHeader
from trajcast_ase.streams import RandomSource, Streams
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.adaptive import AdaptiveLangevin
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.thermostats.molecular import MolecularCSVR
from trajcast_ase.thermostats.schedules import Temperature
from trajcast_ase.thermostats.setting import ThermostatSetting
from trajcast_ase.thermostats.thermostat import Thermostat
from trajcast_ase.units import FS

HORIZONS = 10.0
"""Time constant of CSVR, in horizons, where nobody has validated another setting."""


def plain_setting(horizon_fs: float) -> ThermostatSetting:
    """Return that of the paper: CSVR alone, with ten horizons as its time constant."""
    member = {"kind": "CSVR", "time_constant_fs": HORIZONS * horizon_fs}
    return ThermostatSetting((member,), "the paper's, arXiv:2503.23794")


def setting_of(model: ForecastModel) -> ThermostatSetting:
    """Return what the file of `model` recommends, or else the paper's setting."""
    header: ModelHeader | None = getattr(model, "header", None)
    found = None if header is None else header.thermostat
    return found or plain_setting(model.horizon_fs)


def described_setting(model: ForecastModel) -> str:
    """Return what :func:`setting_of` returns in words, and where it comes from."""
    setting = setting_of(model)
    if setting == plain_setting(model.horizon_fs):
        return f"thermostat {setting} (the paper's; the model recommends none)"
    return f"thermostat {setting} (recommended by the model)"


def thermostats_of(
    setting: ThermostatSetting,
    temperature_K: Temperature,
    rng: RandomSource | Streams | None = None,
) -> list[Thermostat]:
    """Return the thermostats of `setting` at a temperature, which share `rng`.

    Parameters
    ----------
    setting : ThermostatSetting
    temperature_K : float, or callable of the time in ASE units, K
    rng : numpy Generator, RandomState or Streams, optional
        Default: a fresh ``np.random.default_rng()``.
    """
    streams = Streams.of(rng)
    return [
        _MAKERS[member["kind"]](temperature_K, member, streams)
        for member in setting.members
    ]


class RecommendsThermostats:
    """A model that comes with the thermostats it was validated with."""

    def recommended_thermostat(
        self: ForecastModel,
        temperature_K: Temperature,
        rng: RandomSource | Streams | None = None,
    ) -> list[Thermostat]:
        """Return the thermostats that the model was validated with, in order.

        The paper's where its file names none: CSVR alone, time constant ten horizons.

        Parameters
        ----------
        temperature_K : float, or callable of the time in ASE units, K
        rng : numpy Generator, RandomState or Streams, optional
            Default: a fresh ``np.random.default_rng()``.
        """
        return thermostats_of(setting_of(self), temperature_K, rng)


def _csvr(target: Temperature, member: Mapping[str, Any], rng: Streams) -> Thermostat:
    return CSVR(target, member["time_constant_fs"] * FS, rng)


def _molecular(
    target: Temperature, member: Mapping[str, Any], rng: Streams
) -> Thermostat:
    return MolecularCSVR(target, member["time_constant_fs"] * FS, rng)


def _langevin(
    target: Temperature, member: Mapping[str, Any], rng: Streams
) -> Thermostat:
    return Langevin(target, 1 / (member["time_constant_fs"] * FS), rng)


def _adaptive(
    target: Temperature, member: Mapping[str, Any], rng: Streams
) -> Thermostat:
    friction = 1 / (member["time_constant_fs"] * FS)
    return AdaptiveLangevin(target, friction, member["response_fs"] * FS, rng)


_MAKERS: dict[str, Callable[[Temperature, Mapping[str, Any], Streams], Thermostat]] = {
    "CSVR": _csvr,
    "Langevin": _langevin,
    "AdaptiveLangevin": _adaptive,
    "MolecularCSVR": _molecular,
}
