"""Replicas on a device: blocks of strides of a batch, and who is lost in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

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
            block = min(
                strides_until_look(self._watch, self.drivers[place].nsteps, strides)
                for place in self._going
            )
            strides -= self._device_block(engine, block)

    @property
    def engine(self) -> Engine | None:
        """What makes strides on a device, or None: the host does."""
        return self.drivers[0]._engine  # noqa: SLF001  a friend of the driver

    def _device_block(self, engine: Engine, block: int) -> int:
        """Make up to `block` strides; return how many. Systems that fail are lost."""
        going = set(self._going)
        origin = self.state if self._origin is None else self._origin
        engine.start(
            self._where(self.state, origin), [place in going for place in self._all]
        )
        steps = [driver.nsteps for driver in self.drivers]
        report = engine.advance(block, steps)
        made = report.strides
        if made > 1:
            self.advance(engine.before(), made - 1)
        try:
            self._checked_forecast(self._where(engine.forecast(), self.state))
            self._checked_thermostat(self._where(engine.now(), self.state))
            for place in going.intersection(report.failed, self._going):
                self.lose(place, unrepeatable(self.drivers[place].nsteps + 1))
            if set(self._going) != going:  # who is lost is where it was before
                engine.back_to(made - 1)
                engine.set_going([place in self._going for place in self._all])
                engine.go_on()
            self.advance(engine.now())
        except BaseException:  # an interrupt, too
            self._noted.clear()
            engine.back_to(made - 1)
            raise
        finally:
            engine.hand_over()
        return made
