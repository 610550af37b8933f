"""The thermostats of ``trajcast run``: a choice, its options, and what they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trajcast_ase.dynamics.replicas import ThermostatMaker
    from trajcast_ase.network.forecaster import Forecaster
    from trajcast_ase.streams import Streams
    from trajcast_ase.thermostats.schedules import LinearRamp, Temperature
    from trajcast_ase.thermostats.setting import ThermostatSetting
    from trajcast_ase.thermostats.thermostat import Thermostat

LANGEVIN_FRICTION = 0.01
"""Of Langevin alone, 1/fs."""
WEAK_FRICTION = 0.0005
"""Of the weak baths: Langevin beside others, noise of AdaptiveLangevin, 1/fs."""
RESPONSE = 1000.0
"""Time constant of the friction of AdaptiveLangevin, fs."""


class ThermostatName(StrEnum):
    """Thermostats of the command line."""

    RECOMMENDED = "recommended"
    CSVR = "csvr"
    LANGEVIN = "langevin"
    LANGEVIN_CSVR = "langevin+csvr"
    MOLECULAR = "molecular"
    LANGEVIN_MOLECULAR = "langevin+molecular"
    ADAPTIVE = "adaptive"
    NONE = "none"


OWNERS = {
    "taut": (
        ThermostatName.CSVR,
        ThermostatName.LANGEVIN_CSVR,
        ThermostatName.MOLECULAR,
        ThermostatName.LANGEVIN_MOLECULAR,
    ),
    "friction": (
        ThermostatName.LANGEVIN,
        ThermostatName.LANGEVIN_CSVR,
        ThermostatName.LANGEVIN_MOLECULAR,
        ThermostatName.ADAPTIVE,
    ),
    "response": (ThermostatName.ADAPTIVE,),
}
"""The thermostats that have an option."""


@dataclass(frozen=True, slots=True)
class Bath:
    """Thermostat as the command line gives it: K, fs, 1/fs, fs."""

    name: ThermostatName
    temperature: float | None
    taut: float | None = None
    friction: float | None = None
    response: float | None = None
    ramp: LinearRamp | None = None


def ramp_of(text: str | None, duration: float) -> LinearRamp | None:
    """Return the ramp that ``START:END`` (K) asks for, over a run (ASE units).

    Raises
    ------
    ValueError
        The text is none, or a temperature is not positive.
    """
    if text is None:
        return None
    from trajcast_ase.thermostats.schedules import LinearRamp  # noqa: PLC0415

    try:
        start, end = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise ValueError(
            f"--ramp {text} is no ramp; give two temperatures in K, such as 300:600"
        ) from error
    if not (0 < start < math.inf and 0 < end < math.inf):
        raise ValueError(f"--ramp {text}: temperatures must be positive and finite")
    return LinearRamp(start, end, duration)


def questioned(bath: Bath, horizon_fs: float) -> str | None:
    """Return a warning of a time constant that was probably meant in ps."""
    if bath.taut is None or not 0 < bath.taut < horizon_fs:
        return None
    return (
        f"warning: --taut {bath.taut:g} is in fs and below one stride of "
        f"{horizon_fs:g} fs, so that velocities are drawn anew at each; if "
        f"{bath.taut:g} ps were meant, give --taut {1e3 * bath.taut:g}"
    )


def thermostat_maker(bath: Bath, network: Forecaster) -> ThermostatMaker | None:
    """Return what makes the thermostats of a run from its random numbers.

    Raises
    ------
    ValueError
        An option of a thermostat that was not chosen, or a value out of range.
    """
    for option in OWNERS:
        _check_belongs(bath, option)
    if bath.name is ThermostatName.NONE:
        if bath.ramp is not None:
            raise ValueError("--ramp needs a thermostat, but --thermostat is none")
        return None
    temperature: Temperature = bath.ramp or checked_temperature(
        bath.temperature, f"thermostat {bath.name}"
    )
    if bath.name is ThermostatName.RECOMMENDED:
        return partial(network.recommended_thermostat, temperature)
    maker = partial(_chosen, bath, temperature, network.horizon_fs)
    maker(None)  # refuses wrong settings before any file is touched
    return maker


def setting_of_choice(bath: Bath, network: Forecaster) -> ThermostatSetting | None:
    """Return the thermostats of a choice as data; None for none.

    Raises
    ------
    ValueError
        An option of a thermostat that was not chosen, or a value out of range.
    """
    from trajcast_ase.thermostats.recommended import setting_of  # noqa: PLC0415
    from trajcast_ase.thermostats.setting import ThermostatSetting  # noqa: PLC0415

    for option in OWNERS:
        _check_belongs(bath, option)
    if bath.name is ThermostatName.NONE:
        return None
    if bath.name is ThermostatName.RECOMMENDED:
        return setting_of(network)
    friction, taut, response = _values(bath, network.horizon_fs)
    if not 0 < friction < math.inf:
        raise ValueError(f"--friction {friction:g} must be positive and finite")
    constant = {"time_constant_fs": 1.0 / friction}
    members = {
        "csvr": {"kind": "CSVR", "time_constant_fs": taut},
        "langevin": {"kind": "Langevin", **constant},
        "adaptive": {"kind": "AdaptiveLangevin", **constant, "response_fs": response},
        "molecular": {"kind": "MolecularCSVR", "time_constant_fs": taut},
    }
    chosen = tuple(members[name] for name in bath.name.split("+"))
    return ThermostatSetting(chosen, "the command line")


def described(bath: Bath, network: Forecaster) -> str:
    """Return the thermostats in words, and who chose them."""
    if bath.name is not ThermostatName.RECOMMENDED:
        return f"thermostat {bath.name}"
    from trajcast_ase.thermostats.recommended import described_setting  # noqa: PLC0415

    return described_setting(network)


def checked_temperature(temperature: float | None, needed_by: str) -> float:
    """Return a temperature above zero, K."""
    if temperature is None:
        raise ValueError(f"{needed_by} needs --temperature, in K")
    if not 0 < temperature < math.inf:
        raise ValueError(f"--temperature {temperature:g} must be positive and finite")
    return temperature


def _chosen(
    bath: Bath, temperature: Temperature, horizon_fs: float, rng: Streams | None
) -> Sequence[Thermostat]:
    """Return the thermostats of a choice."""
    from trajcast_ase.thermostats.adaptive import AdaptiveLangevin  # noqa: PLC0415
    from trajcast_ase.thermostats.csvr import CSVR  # noqa: PLC0415
    from trajcast_ase.thermostats.langevin import Langevin  # noqa: PLC0415
    from trajcast_ase.thermostats.molecular import MolecularCSVR  # noqa: PLC0415
    from trajcast_ase.units import FS  # noqa: PLC0415

    friction, taut, response = _values(bath, horizon_fs)
    makers: dict[str, Callable[..., Thermostat]] = {
        "csvr": partial(CSVR, temperature, taut * FS),
        "molecular": partial(MolecularCSVR, temperature, taut * FS),
        "langevin": partial(Langevin, temperature, friction / FS),
        "adaptive": partial(
            AdaptiveLangevin, temperature, friction / FS, response * FS
        ),
    }
    return [makers[name](rng=rng) for name in bath.name.split("+")]


def _values(bath: Bath, horizon_fs: float) -> tuple[float, float, float]:
    """Return friction (1/fs), time constant of CSVR and response (fs)."""
    from trajcast_ase.thermostats.recommended import HORIZONS  # noqa: PLC0415

    alone = bath.name is ThermostatName.LANGEVIN
    friction = LANGEVIN_FRICTION if alone else WEAK_FRICTION
    if bath.friction is not None:
        friction = bath.friction
    taut = HORIZONS * horizon_fs if bath.taut is None else bath.taut
    response = RESPONSE if bath.response is None else bath.response
    return friction, taut, response


def _check_belongs(bath: Bath, option: str) -> None:
    """Raise for an option of another thermostat, which would do nothing."""
    value = getattr(bath, option)
    if value is not None and bath.name not in OWNERS[option]:
        raise ValueError(
            f"--{option} {value:g} is of --thermostat {' or '.join(OWNERS[option])}, "
            f"but the thermostat is {bath.name}; leave it out or choose such a "
            "thermostat"
        )
