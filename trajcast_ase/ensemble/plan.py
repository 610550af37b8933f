"""What an ensemble is: its settings, and its division into shares for workers.

A share is a batch of replicas of one start at one temperature, which one worker runs.
The division is part of the plan and not of who carries it out, so that the bits of a
run depend neither on the number of workers nor on which of them are lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from trajcast_ase.strict import (
    choice,
    flag,
    integer,
    members,
    number,
    shortened,
    text,
)
from trajcast_ase.thermostats.setting import ThermostatSetting

FORMAT = "trajcast-ensemble-1"
MOST_REPLICAS = 2**32 - 1
MOST_STRIDES = 2**53
HIGHEST_K = 1e6
DTYPES = ("float32", "float64")
ENGINES = ("host", "device")


class EnsembleError(ValueError):
    """An ensemble cannot be begun, gone on with or read."""


@dataclass(frozen=True, slots=True)
class Start:
    """A structure that replicas start from.

    Attributes
    ----------
    name : str
        For people, such as that of its file.
    sha256 : str
        Of atoms, positions, momenta, masses, cell and constraints.
    """

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Share:
    """Replicas that one worker runs together.

    Attributes
    ----------
    number : int
    temperature_K : float, K
    start : int
        Index of the start.
    replicas : range
        Their numbers, which no other share has.
    """

    number: int
    temperature_K: float
    start: int
    replicas: range

    def __str__(self) -> str:
        """Return what an error calls it."""
        first, last = self.replicas[0], self.replicas[-1]
        which = f"replica {first}" if first == last else f"replicas {first} to {last}"
        return f"share {self.number} ({which}, {self.temperature_K:g} K)"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the numbers of an ensemble depend on.

    Attributes
    ----------
    model : str
        Name of the model.
    model_sha256 : str
        Of its file.
    starts : tuple of Start
        All of one system.
    temperatures_K : tuple of float, K
    replicas : int
        For each start and temperature.
    strides : int
    interval : int
        Strides between two frames and log rows.
    thermostat : ThermostatSetting or None
    noise : bool
        With the model's calibrated noise.
    engine : "host" or "device"
        Where strides are made, with random numbers of its own.
    draw_velocities : bool
        Also where a start has them.
    seed : int
        Replica k draws from :func:`trajcast_ase.streams.random_stream` of it and k.
    batch : int
        Replicas in a share, at most.
    threads : int
        Of the CPU, for each share; the last bits may depend on it.
    dtype : str or None
        Of the network; None: as in its file.

    Raises
    ------
    EnsembleError
        A value out of range, or temperatures that files could not be told apart by.
    """

    model: str
    model_sha256: str
    starts: tuple[Start, ...]
    temperatures_K: tuple[float, ...]
    replicas: int
    strides: int
    interval: int
    thermostat: ThermostatSetting | None
    noise: bool
    engine: str
    draw_velocities: bool
    seed: int
    batch: int
    threads: int
    dtype: str | None

    def __post_init__(self) -> None:
        try:
            _check(self)
        except ValueError as error:
            raise EnsembleError(str(error)) from error

    @property
    def cells(self) -> int:
        """Number of combinations of a temperature and a start."""
        return len(self.temperatures_K) * len(self.starts)

    @property
    def shares(self) -> tuple[Share, ...]:
        """The shares, by temperature, then start, then replica."""
        found: list[Share] = []
        first = 0
        for temperature in self.temperatures_K:
            for start in range(len(self.starts)):
                end = first + self.replicas
                for low in range(first, end, self.batch):
                    replicas = range(low, min(low + self.batch, end))
                    found.append(Share(len(found), temperature, start, replicas))
                first = end
        return tuple(found)

    def to_plain(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["starts"] = [
            {"name": one.name, "sha256": one.sha256} for one in self.starts
        ]
        values["temperatures_K"] = list(self.temperatures_K)
        values["thermostat"] = self.thermostat and self.thermostat.to_plain()
        return {"format": FORMAT, **values}

    @classmethod
    def from_plain(cls, values: Any) -> Plan:
        """Return the plan of :meth:`to_plain`.

        Raises
        ------
        EnsembleError
            It is not of this form.
        """
        try:
            return cls(**_arguments(values))
        except ValueError as error:
            raise EnsembleError(str(error)) from error

    def check_continues(self, kept: Plan) -> None:
        """Raise EnsembleError where `kept`, the plan of a folder, is another one.

        More strides than before are allowed: they prolong the ensemble.
        """
        ours, theirs = self.to_plain(), kept.to_plain()
        for name in ours:
            if name != "strides" and ours[name] != theirs[name]:
                raise EnsembleError(
                    f"the folder holds an ensemble with {name} = "
                    f"{shortened(theirs[name])}, but {shortened(ours[name])} was asked "
                    "for; give the same, or another folder"
                )
        if self.strides < kept.strides:
            raise EnsembleError(
                f"the folder holds an ensemble of {kept.strides} strides, more than "
                f"the {self.strides} asked for; ask for as many or more"
            )

    def prolonged(self, strides: int) -> Plan:
        """Return the plan with another number of strides."""
        return replace(self, strides=strides)


def default_batch(n_atoms: int, replicas: int, cells: int, workers: int) -> int:
    """Return how many replicas make a share, where nobody says.

    As many as a forward pass of :class:`trajcast_ase.Replicas` takes by default, but so
    few that each worker has a share.

    Parameters
    ----------
    n_atoms : int
        Of the largest start.
    replicas : int
        For each of `cells` combinations of a temperature and a start.
    cells, workers : int
    """
    from trajcast_ase.dynamics.replicas import BATCH_ATOMS  # noqa: PLC0415  plans need no torch

    fits = max(1, BATCH_ATOMS // n_atoms)
    for_all = max(1, replicas * cells // max(workers, 1))
    return min(fits, for_all, replicas)


def _check(plan: Plan) -> None:
    """Raise ValueError for a plan that cannot be carried out."""
    names = [f"{one:g}" for one in plan.temperatures_K]
    for name, value in (("starts", plan.starts), ("temperatures_K", names)):
        if not value:
            raise ValueError(f"{name} is empty; an ensemble needs at least one")
    for kelvin in plan.temperatures_K:
        if not number(kelvin, "temperature", 0.0, HIGHEST_K) > 0:
            raise ValueError("a temperature of 0 K has no motion; give more")
    if len(set(names)) < len(names):
        raise ValueError(
            f"the temperatures {', '.join(names)} K are not distinct to six digits; "
            "for more runs at one temperature ask for more replicas"
        )
    highs = {
        "replicas": MOST_REPLICAS // plan.cells,
        "strides": MOST_STRIDES,
        "interval": MOST_STRIDES,
        "batch": MOST_REPLICAS,
        "threads": 1024,
    }
    for name, high in highs.items():
        integer(getattr(plan, name), name, 1, high)
    integer(plan.seed, "seed", 0, 2**128 - 1)
    choice(plan.engine, "engine", ENGINES)
    if plan.dtype is not None:
        choice(plan.dtype, "dtype", DTYPES)


def _arguments(values: Any) -> dict[str, Any]:
    """Return the checked arguments of a plan; ValueError for what is none."""
    known = {one.name for one in fields(Plan)}
    given = dict(members(values, "the plan", dict))
    if given.pop("format", None) != FORMAT or given.keys() != known:
        raise ValueError(
            f"this is no {FORMAT} with the keys {', '.join(sorted(known))}"
        )
    setting = given["thermostat"]
    return given | {
        "model": text(given["model"], "model"),
        "model_sha256": text(given["model_sha256"], "model_sha256"),
        "starts": tuple(map(_start, members(given["starts"], "starts"))),
        "temperatures_K": tuple(
            map(
                partial(number, name="temperature"),
                members(given["temperatures_K"], "temperatures_K"),
            )
        ),
        "thermostat": setting and ThermostatSetting.from_plain(setting),
        "noise": flag(given["noise"], "noise"),
        "draw_velocities": flag(given["draw_velocities"], "draw_velocities"),
    }


def _start(value: Any) -> Start:
    given: Mapping[str, Any] = members(value, "a start", dict)
    if given.keys() != {"name", "sha256"}:
        raise ValueError(f"a start has name and sha256, not {shortened(list(given))}")
    return Start(text(given["name"], "name"), text(given["sha256"], "sha256"))


def checked_temperatures(values: float | Sequence[float]) -> tuple[float, ...]:
    """Return one temperature or several as floats, K."""
    several = [values] if isinstance(values, int | float) else list(values)
    return tuple(number(one, "temperature") for one in several)
