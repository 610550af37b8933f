"""The driver's arguments, checked and completed."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from numbers import Real
from typing import Any, cast

import torch
from torch import nn

from trajcast_ase.device.engine import check_one_device
from trajcast_ase.strict import shortened
from trajcast_ase.stride import ForecastModel, check_model
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.schedules import describe_temperature
from trajcast_ase.thermostats.thermostat import Thermostat
from trajcast_ase.units import FS

BASE_KEYWORDS = ("comm", "master")
OF_THERMOSTATS = ("temperature_K", "temperature", "friction", "taut", "rng", "tdamp")
OF_TIME = ("dt", "time_step")
OF_PRESSURE = ("pressure_au", "pressure", "taup", "compressibility_au", "pfactor")
TIMESTEP_TOLERANCE = 1e-6


def check_keywords(kwargs: dict[str, Any]) -> None:
    """Raise TypeError for a keyword that ASE's base class does not know."""
    for name in kwargs:
        if name not in BASE_KEYWORDS:
            raise TypeError(
                f"TrajCast got an unexpected keyword argument {name!r}; {_hint(name)}"
            )


def _hint(name: str) -> str:
    """Return where a keyword of one of ASE's dynamics belongs."""
    if name in OF_THERMOSTATS:
        return (
            "it belongs to a thermostat, such as thermostat=model."
            "recommended_thermostat(300, rng) or thermostat=CSVR(300, taut=70 * "
            "units.fs), temperatures in K"
        )
    if name in OF_TIME:
        return "the time of a stride is the model's horizon: leave it out"
    if name in OF_PRESSURE:
        return "there is no barostat, since a forecast knows no stress"
    return f"beside its own, it passes {' and '.join(BASE_KEYWORDS)} to ASE"


def prepared_model(
    model: ForecastModel | str | os.PathLike[str], device: torch.device | str | None
) -> ForecastModel:
    """Return a loaded model on `device`; the caller's model stays where it is.

    Raises
    ------
    ValueError
        There is no such device, or the model is on several.
    TypeError
        `model` is none, such as the time step of ASE's dynamics.
    """
    if isinstance(model, str | os.PathLike):
        # A driver of a model at hand needs no model files.
        from trajcast_ase.models.model_file import load_model  # noqa: PLC0415

        return load_model(os.fspath(model), device=device)
    check_model(
        model,
        "the second argument of TrajCast",
        " or the path of a .trajcast file, and its horizon is the time step",
    )
    check_one_device(model)
    if device is None:
        return model
    from trajcast_ase.models.model_file import checked_device  # noqa: PLC0415

    where = checked_device(device)
    if where == model.device:
        return model
    moved = copy.deepcopy(cast("nn.Module", model)).to(where)
    return cast("ForecastModel", moved)


def checked_thermostats(
    thermostat: Thermostat | Sequence[Thermostat] | None,
) -> tuple[Thermostat, ...]:
    """Return thermostats in their order, each once and all at one temperature.

    Raises
    ------
    TypeError
        One of them does not fulfil the protocol.
    ValueError
        An empty sequence, one object twice, or temperatures that differ.
    """
    if thermostat is None:
        return ()
    members = tuple(thermostat) if isinstance(thermostat, Sequence) else (thermostat,)
    if not members:
        raise ValueError(
            f"thermostat = {thermostat!r} is an empty sequence; give at least one, or "
            "None for a run without"
        )
    for place, member in enumerate(members):
        if not isinstance(member, Thermostat):
            raise TypeError(
                f"thermostat = {member!r} lacks the methods apply and todict or the "
                "attribute transferred_energy; use CSVR, Langevin, AdaptiveLangevin or "
                "an object that fulfils trajcast_ase.Thermostat"
            )
        if any(member is other for other in members[:place]):
            raise ValueError(
                f"the same {type(member).__name__} object stands twice in the sequence "
                "of thermostats; make a second one, with the same generator if you like"
            )
    _check_one_temperature(members)
    return members


def _check_one_temperature(members: Sequence[Thermostat]) -> None:
    targets = [
        (type(member).__name__, member.temperature_K)
        for member in members
        if hasattr(member, "temperature_K")
    ]
    for name, target in targets[1:]:
        first, expected = targets[0]
        if target != expected:
            raise ValueError(
                f"{name} has the temperature {describe_temperature(target)}, but "
                f"{first} before it {describe_temperature(expected)}; give all "
                "thermostats of a sequence the same number or schedule"
            )


def whole_number(name: str, value: float, least: float = -math.inf) -> int:
    """Return a number of strides; a float will do, as everywhere in ASE.

    Raises
    ------
    TypeError
        It is no number.
    ValueError
        It is no whole one, or smaller than `least`.
    """
    limit = "" if least == -math.inf else f" of at least {least:g}"
    must = f"{name} = {shortened(value)} must be a whole number{limit}"
    if not isinstance(value, Real):
        raise TypeError(f"{must}, in strides; give an int")
    if not (math.isfinite(value) and value == int(value) and value >= least):
        raise ValueError(f"{must}, in strides; round what a division gives")
    return int(value)


def checked_noise(noise: ForecastNoise | None) -> ForecastNoise | None:
    """Return noise, or None; raise TypeError for anything else."""
    if noise is not None and not isinstance(noise, ForecastNoise):
        raise TypeError(
            f"noise = {noise!r} is no ForecastNoise; use ForecastNoise.of_model(model, "
            "rng), or leave it out"
        )
    return noise


def checked_timestep(timestep: float | None, horizon_fs: float) -> float:
    """Return the horizon in ASE units if `timestep` agrees with it."""
    dt = horizon_fs * FS
    if timestep is not None and not isinstance(timestep, Real):
        raise TypeError(
            f"timestep = {timestep!r} is no number; a thermostat is given by its name, "
            "as thermostat=..., and the time step can be left out"
        )
    if timestep is not None and not math.isclose(
        timestep, dt, rel_tol=TIMESTEP_TOLERANCE
    ):
        raise ValueError(
            f"timestep = {timestep:.6g} in ASE units is {timestep / FS:.6g} fs, but "
            f"one forecast of this model covers {horizon_fs:.6g} fs; pass timestep="
            f"{horizon_fs:.6g} * units.fs or leave it out"
        )
    return dt


def describe_model(model: ForecastModel) -> dict[str, Any]:
    """Return the name of a model and, where it has weights, their hash."""
    description = {"name": getattr(model, "name", type(model).__name__)}
    if hasattr(model, "content_hash"):
        description["hash"] = model.content_hash
    return description
