"""A run on a device: when the host looks, and what it does then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ase import Atoms
from ase.md.md import MolecularDynamics

from trajcast_ase.device.engine import BLOCK, Engine
from trajcast_ase.dynamics.fallback import ForceFallback
from trajcast_ase.dynamics.mirror import Mirror
from trajcast_ase.dynamics.stepper import finite_atoms
from trajcast_ase.guards.guarding import Guarding, Recent
from trajcast_ase.guards.watch import Watch
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat

EngineChoice = Literal["host", "device"]


def made_engine(
    choice: EngineChoice,
    model: ForecastModel,
    thermostats: Sequence[Thermostat],
    timestep: float,
    *,
    noise: ForecastNoise | None = None,
    n_processes: int = 1,
) -> Engine | None:
    """Return an engine for strides that stay on the device, or None for the host's.

    Raises
    ------
    ValueError
        An unknown choice, or what an engine cannot be combined with.
    """
    if choice not in ("host", "device"):
        raise ValueError(f"engine = {choice!r} is unknown; choose 'host' or 'device'")
    if choice == "host":
        return None
    if n_processes > 1:
        raise ValueError(
            f"a run by {n_processes} processes shares each stride on the host and "
            "cannot be combined with engine='device'; leave the engine out"
        )
    return Engine(model, thermostats, timestep, noise)


def strides_until_look(
    watch: Watch, nsteps: int, most: int, *, misses_none: bool
) -> int:
    """Return how many strides to make before the host looks.

    A guard that looks at every stride gets the last of each block; blocks end where one
    that looks less often is due, and at multiples of :data:`BLOCK`. With `misses_none`
    a block ends wherever any guard is due, so that each sees what it sees on the host.
    """
    often = {one.every for one in watch.guards if one.every > 1 or misses_none}
    return min(most, *(every - nsteps % every for every in {BLOCK, *often}))


def unrepeatable(step: int) -> RuntimeError:
    """Return the error of a stride that comes out otherwise when it is repeated."""
    return RuntimeError(
        f"step {step} was not finite, and finite when it was made again: this model is "
        "no function of the state, so that blocks of strides cannot be repeated; use "
        "engine='host'"
    )


class DeviceLeaps(MolecularDynamics):
    """The part of :class:`TrajCast` that advances on a device."""

    model: ForecastModel
    thermostats: tuple[Thermostat, ...]
    noise: ForecastNoise | None
    _engine: Engine | None
    _mirror: Mirror
    _guarding: Guarding
    _recent: Recent

    def _watch(self, atoms: Atoms) -> Watch:
        """Return the guards."""
        raise NotImplementedError

    def _not_finite(self, atom: int) -> RuntimeError:
        """Return the error of a thermostat that leaves an atom without numbers."""
        raise NotImplementedError

    def _by_forces(self, fallback: ForceFallback, before: State) -> State:
        """Return the state a horizon later, by forces."""
        raise NotImplementedError

    def _device_leap(self, engine: Engine, strides: int) -> None:
        """Make strides on the device; ``nsteps`` counts those that are good."""
        while strides > 0:
            watch = self._watch(self.atoms)
            answers = self._guarding.fallback is not None
            block = strides_until_look(watch, self.nsteps, strides, misses_none=answers)
            made = self._device_block(engine, watch, block)
            self.nsteps += made
            strides -= made

    def _device_block(self, engine: Engine, watch: Watch, block: int) -> int:
        """Make up to a block of strides, and return how many.

        ``nsteps`` is the caller's unless a stride is refused.

        Raises
        ------
        SenselessForecastError
            A guard objects to the last stride of the block, or a stride before it is
            not finite, and there is no fallback, or its forces fail. The state is the
            one before that stride.
        """
        engine.start(self._mirror.state, constraints=self._mirror.constraints)
        made = engine.advance(block, [self.nsteps])
        step = self.nsteps + made.strides
        before, forecast = engine.stored_before(), engine.forecast()
        self._recent.add((step - 1,), before)
        held = self._mirror.constraints.hold_velocities(before)  # as on the host
        found = watch.look(self.model, held, forecast, (step,))
        refused = found and not self._guarding.takes(found)
        fallback = self._guarding.fallback
        if refused and fallback is not None:
            self._force(engine, fallback, before, made.strides - 1)
        elif refused or made.failed:
            wrong = (~finite_atoms(engine.now())).nonzero()
            self._give_up(engine, made.strides - 1)
            if refused:
                good = [(nsteps[0], state) for nsteps, state in self._recent]
                raise self._guarding.refuse(self.atoms, good, forecast, found)
            if len(wrong) == 0:
                raise unrepeatable(step)
            raise self._not_finite(int(wrong[0, 0]))
        self._mirror.advance(engine.now())
        engine.hand_over()
        if found:
            self._guarding.note(step, found, by_forces=bool(refused))
        return made.strides

    def _force(
        self, engine: Engine, fallback: ForceFallback, before: State, good: int
    ) -> None:
        """Go back to after the `good` strides, and make the next one by forces."""
        try:
            forced = self._by_forces(fallback, before)
            engine.back_to(good)
            engine.go_on_from(forced, [True])
            wrong = (~finite_atoms(engine.now())).nonzero()
        except BaseException:  # an interrupt, too
            self._give_up(engine, good)
            raise
        if len(wrong) > 0:
            self._give_up(engine, good)
            raise self._not_finite(int(wrong[0, 0]))

    def _give_up(self, engine: Engine, good: int) -> None:
        """Leave the run after the `good` strides of a block."""
        if good > 0:
            engine.back_to(good)
            self._mirror.advance(engine.now())
            engine.hand_over()
            self.nsteps += good
