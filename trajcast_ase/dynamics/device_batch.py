"""Replicas on a device: blocks of strides of a batch, and who is lost in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from trajcast_ase.constraints import Constraints
from trajcast_ase.device.engine import Engine
from trajcast_ase.dynamics.device_leaps import strides_until_look, unrepeatable
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.guards.watch import Watch
from trajcast_ase.state import State


class DeviceBatch(ABC):
    """The part of :class:`.Batch` that advances on a device."""

    drivers: list[TrajCast]
    state: State
    _all: range
    _going: list[int]
    _noted: list[Any]
    _origin: State | None
    _watch: Watch
    constraints: Constraints

    @abstractmethod
    def lose(self, place: int, error: Exception) -> None:
        """Record a failure; the system rests from now on."""

    @abstractmethod
    def advance(self, after: State, strides: int = 1) -> None:
        """Continue from `after`, as each driver alone would after so many strides."""

    @abstractmethod
    def _where(self, those: State, others: State) -> State:
        """Return `those` of the systems that go on, and `others` of the rest."""

    @abstractmethod
    def _checked_forecast(self, after: State) -> State:
        """Return `after`, where guarded systems are answered for."""

    @abstractmethod
    def _checked_thermostat(self, after: State) -> State:
        """Return `after`, where systems that are not finite are lost and stay."""

    def leap_on_device(self, engine: Engine, strides: int) -> None:
        """Make as many strides on a device, with looks at the ends of blocks alone."""
        while strides > 0 and self._going:
            block = min(self._until_look(place, strides) for place in self._going)
            strides -= self._device_block(engine, block)

    @property
    def engine(self) -> Engine | None:
        """What makes strides on a device, or None: the host does."""
        return self.drivers[0]._engine  # noqa: SLF001  a friend of the driver

    def _until_look(self, place: int, most: int) -> int:
        """Return how many strides one system makes before the host looks."""
        driver = self.drivers[place]
        answers = driver._guarding.fallback is not None  # noqa: SLF001  a friend
        return strides_until_look(self._watch, driver.nsteps, most, misses_none=answers)

    def _device_block(self, engine: Engine, block: int) -> int:
        """Make up to `block` strides; return how many. Systems that fail are lost."""
        going = set(self._going)
        origin = self.state if self._origin is None else self._origin
        engine.start(
            self._where(self.state, origin), self._among(going), self.constraints
        )
        steps = [driver.nsteps for driver in self.drivers]
        report = engine.advance(block, steps)
        made = report.strides
        if made > 1:
            self.advance(engine.before(), made - 1)
        try:
            forecast = self._checked_forecast(
                self._where(engine.forecast(), self.state)
            )
            forced = {one.place for one in self._noted if one.by_forces}
            if forced:
                engine.back_to(made - 1)
                self._repeat(engine, forecast, forced)
            self._checked_thermostat(self._where(engine.now(), self.state))
            for place in going.intersection(report.failed, self._going) - forced:
                self.lose(place, unrepeatable(self.drivers[place].nsteps + 1))
            if set(self._going) != going:  # who is lost is where it was before
                engine.back_to(made - 1)
                engine.set_going(self._among(set(self._going)))
                self._repeat(engine, forecast, forced)
            self.advance(engine.now())
        except BaseException:  # an interrupt, too
            self._noted.clear()
            engine.back_to(made - 1)
            raise
        finally:
            engine.hand_over()
        return made

    def _repeat(self, engine: Engine, forecast: State, forced: set[int]) -> None:
        """Make the last stride of a block again, of the `forced` by their forecast."""
        if forced:
            engine.go_on_from(forecast, self._among(forced))
        else:
            engine.go_on()

    def _among(self, places: set[int]) -> list[bool]:
        """Return for each system whether it is one of `places`."""
        return [place in places for place in self._all]
