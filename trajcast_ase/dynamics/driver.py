"""The ASE dynamics driver: each step is one forecast, no calculator is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.parallel import world

from trajcast_ase.conservation import RigidBodies
from trajcast_ase.constraints import Constraints
from trajcast_ase.dynamics.arguments import (
    check_keywords,
    checked_noise,
    checked_thermostats,
    checked_timestep,
    describe_model,
    prepared_model,
    whole_number,
)
from trajcast_ase.dynamics.continuation import Continuation
from trajcast_ase.dynamics.device_leaps import (
    DeviceLeaps,
    EngineChoice,
    made_engine,
)
from trajcast_ase.dynamics.domain import warn_outside_training
from trajcast_ase.dynamics.fallback import ForceFallback
from trajcast_ase.dynamics.looks import Looks
from trajcast_ase.dynamics.mirror import Mirror, same_structure
from trajcast_ase.dynamics.rollback import Snapshot
from trajcast_ase.dynamics.stepper import Stepper, finite_atoms
from trajcast_ase.guards.answer import OnFinding
from trajcast_ase.guards.default import GuardMaker
from trajcast_ase.guards.guarding import Guarding, Recent
from trajcast_ase.guards.protocol import Guard, Objection
from trajcast_ase.guards.watch import Watch
from trajcast_ase.kinetics import thermal_motion
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.noise import ForecastNoise, NoisyModel
from trajcast_ase.thermostats.schedules import Temperature
from trajcast_ase.thermostats.thermostat import ChecksStart, Thermostat

# Replacing one of these, in a subclass or on an object, asks for a call at each step.
PER_STEP_METHODS = ("step", "irun", "log", "call_observers", "_refresh_properties")


class TrajCast(Continuation, DeviceLeaps, Looks):
    """Molecular dynamics by forecasts, in place of ``ase.md.verlet.VelocityVerlet``.

    Observers, log, trajectory and edits of the Atoms work as for every ASE dynamics.
    A calculator is optional: it never enters the dynamics and is asked for the energy
    only when an observer is due. Positions are never wrapped.

    Parameters
    ----------
    atoms : Atoms
        Only FixAtoms and FixCom are honoured; other constraints are refused.
    model : Forecaster, name of a bundled model, or path to a ``.trajcast`` file
        Any object that fulfils :class:`trajcast_ase.stride.ForecastModel` will do.
    timestep : float, ASE units, optional
        Default and only possible value: the model's horizon.
    thermostat : Thermostat or sequence of them, optional
        Act after each forecast, in order; default: none, the energy is the model's
        business. ``model.recommended_thermostat(temperature_K, rng)`` gives what the
        model was validated with.
    noise : ForecastNoise, optional
        Calibrated noise on each forecast; default: none.
    trajectory : str, path or writer, optional
    logfile : str, path or stream, optional
        "-" is the standard output. Energies are ``nan`` without a calculator; results
        that were stored with a frame are dropped, since they hold for it alone.
    loginterval : int
        Steps between rows of the log and frames of the trajectory.
    logfile_interval : int, optional
        Steps between rows of the log, where these are others.
    append_trajectory : bool
        Append to an existing trajectory, given by name, instead of overwriting it. Its
        last frame is not repeated where it is that of `atoms`; from others the run
        begins with a frame of its own, and readers will take that for the next one.
    guards : sequence of Guard, or GuardMaker, optional
        What is looked at in each forecast beside finite values, which always are: the
        guards, or a function of Atoms, model and thermostats that makes them. Default:
        :func:`trajcast_ase.guards.default_guards`; ``()`` for none.
    on_finding : "stop" or "warn"
        What is done where a guard objects: the run ends before that stride, or a
        warning is given once for each guard. Values that are not finite end it always.
    fallback : ForceFallback, optional
        Integrates the horizon with the forces of ``atoms.calc`` where a guard objects,
        instead of either. Default: none.
    evidence : path, optional
        Where the last good frames and the refused one are written, with what was
        objected to, when the run ends so. Default: beside a `trajectory` that is given
        by name, as ``NAME.evidence.extxyz``; without one, nowhere.
    device : str or torch.device, optional
        Default: where the model is. Elsewhere a copy of the model is used.
    engine : "host" or "device"
        "device": all of a stride on the model's device, which the host asks at the end
        of at most 50 strides only (on CUDA: one graph). Thermostats and noise then
        draw other random numbers, of their own keys; guards see the strides at which
        the host asks, and with a `fallback` it asks wherever a guard is due.
    **kwargs
        ``comm`` and ``master`` of the ASE base class.

    Raises
    ------
    TypeError
        `atoms` is a Filter, `model` is none, or a keyword is unknown.
    ValueError
        An element that the model does not know, values that are not finite, no atoms,
        atoms closer than 0.1 Å, a `timestep` other than the horizon, zero velocities
        with a thermostat that rescales them, an empty sequence of thermostats, one
        object twice in it, different temperatures, or a `trajectory` to append to that
        is of other elements or states another time step or interval.
    NotImplementedError
        A constraint that a forecast cannot honour.

    Notes
    -----
    ``run(n)`` leaves the state on the device between due observers; ``run(n)``, n times
    ``run(1)`` and ``irun(n)`` give bit-identical trajectories, and so does a new driver
    that continues from the Atoms with the same thermostat objects, that is with the
    state of their generators and the frictions of an ``AdaptiveLangevin``. A
    temperature that depends on time is no exception within one driver; a new one counts
    the time from zero.
    """

    def __init__(
        self,
        atoms: Atoms,
        model: ForecastModel | str | os.PathLike[str],
        timestep: float | None = None,
        *,
        thermostat: Thermostat | Sequence[Thermostat] | None = None,
        noise: ForecastNoise | None = None,
        trajectory: Any = None,
        logfile: Any = None,
        loginterval: int = 1,
        logfile_interval: int | None = None,
        append_trajectory: bool = False,
        guards: Sequence[Guard] | GuardMaker | None = None,
        on_finding: OnFinding = "stop",
        fallback: ForceFallback | None = None,
        evidence: str | os.PathLike[str] | None = None,
        device: torch.device | str | None = None,
        engine: EngineChoice = "host",
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs)
        self.model = prepared_model(model, device)
        self.thermostats = checked_thermostats(thermostat)
        self._place = 0  # among the systems on which the thermostats act
        self.noise = checked_noise(noise)
        self._guarding = Guarding(
            guards,
            on_finding=on_finding,
            fallback=fallback,
            evidence=evidence,
        )
        self._recent = Recent()
        if fallback is not None:
            fallback.check(atoms)
        self._model_description = describe_model(self.model)
        dt = checked_timestep(timestep, self.model.horizon_fs)
        self._engine = made_engine(
            engine,
            self.model,
            self.thermostats,
            dt,
            noise=self.noise,
            n_processes=kwargs["comm"].size if kwargs.get("comm") else world.size,
        )
        self._mirror = Mirror(atoms, self.model.device, self._accept)
        self._watch(atoms)
        header = getattr(self.model, "header", None)
        warn_outside_training(atoms, header, self.thermostats)
        self._files: dict[str, Path] = {}  # that checkpoints keep the length of
        self._intervals: dict[str, int] = {}
        self._writing = kwargs
        self._resumed = False
        # Opened last, after all checks: mode "w" empties an existing file.
        given_open = not isinstance(trajectory, str | os.PathLike)
        writer = trajectory if given_open else None
        super().__init__(atoms, dt, writer, None, loginterval, **kwargs)
        if trajectory is not None and not given_open:
            past = self._earlier(trajectory, loginterval) if append_trajectory else None
            self._open_trajectory(trajectory, loginterval, before=past)
        if logfile:
            self._open_log(logfile, logfile_interval or loginterval)

    def set_temperature(self, temperature_K: Temperature) -> None:
        """Set the temperature of all thermostats from the next stride on.

        A ``TemperatureWindow`` of their present temperature follows them.

        Parameters
        ----------
        temperature_K : float, or callable of the time in ASE units, K

        Raises
        ------
        ValueError
            There is no thermostat that has a temperature, or the value is negative.
        """
        members = [one for one in self.thermostats if hasattr(one, "set_temperature")]
        if not members:
            raise ValueError(
                "there is no thermostat whose temperature could be set; give one as "
                "TrajCast(thermostat=...)"
            )
        for member in members:
            member.set_temperature(temperature_K)

    @property
    def _forecaster(self) -> ForecastModel:
        return self.model if self.noise is None else NoisyModel(self.model, self.noise)

    @property
    def _stepper(self) -> Stepper:
        return Stepper(self._forecaster, self.thermostats, self.dt)

    def step(self) -> None:
        """Advance the Atoms by one forecast; ``nsteps`` is the caller's."""
        self._mirror.pull(self.atoms)
        try:
            if self._engine is None:
                self._advance()
            else:
                self._device_block(self._engine, self._watch(self.atoms), 1)
        finally:
            self._mirror.push(self.atoms)

    def irun(self, steps: int = 50) -> Iterator[bool]:
        """Run step by step; yield whether the last step is reached.

        The Atoms are current at each yield, and the first one precedes any motion.

        Parameters
        ----------
        steps : int
        """
        # Own loop: the base class of each ASE release asks for forces in its own way.
        self._begin(whole_number("steps", steps, least=0))
        yield self.nsteps == self.max_steps
        while self.nsteps < self.max_steps:
            self.step()
            self.nsteps += 1
            self._look()
            yield self.nsteps == self.max_steps

    def run(self, steps: int = 50, *, progress: bool = False) -> bool:
        """Run; return True when finished.

        An observer ends the run with ``max_steps = 0``, as in every ASE dynamics. A
        step that fails is undone in everything, random numbers and accounts of the
        thermostats included: running on is the run without the failure.

        Parameters
        ----------
        steps : int
        progress : bool
            Show time, temperature, speed and time left: a bar on a terminal, a line
            every ten seconds elsewhere, as in notebooks.

        Raises
        ------
        SenselessForecastError
            A forecast is not finite, or a guard objects to it, and there is no
            `fallback`; the Atoms hold the step before. A kind of RuntimeError.
        ValueError, TypeError, NotImplementedError
            The Atoms were changed to something that cannot be forecast, or `steps` is
            no whole number of at least 0.
        """
        steps = whole_number("steps", steps, least=0)
        if progress:
            from trajcast_ase.progress import followed  # noqa: PLC0415  needs rich

            with followed(self, [self], self.observers, steps):
                return self.run(steps)
        if self._has_per_step_methods():
            for _ in self.irun(steps):
                pass
            return True
        self._begin(steps)
        while self.nsteps < self.max_steps:
            self._leap(self._steps_until_due())
            self._look()
        return True

    def _begin(self, steps: int) -> None:
        self.max_steps = self.nsteps + steps
        if self.nsteps == 0 and not self._resumed:
            self._look()

    def _leap(self, steps: int) -> None:
        """Make `steps` forecasts on the device between two transfers."""
        self._mirror.pull(self.atoms)
        try:
            if self._engine is not None:
                self._device_leap(self._engine, steps)
                return
            for _ in range(steps):
                self._advance()
                self.nsteps += 1
        finally:
            self._mirror.push(self.atoms)

    def _advance(self) -> None:
        """Replace the state on the device by the one a forecast later, or undo it."""
        stepper, constraints = self._stepper, self._mirror.constraints
        snapshot = stepper.snapshot()
        self._recent.add((self.nsteps,), self._mirror.state)
        try:
            after, bodies, noted = self._forecast(stepper, snapshot)
            after = stepper.thermalized(after, constraints, self.nsteps + 1, bodies)
            self._check_finite(after)
            after = self._shared(after)
        except BaseException:  # an interrupt, too
            snapshot.restore()
            raise
        self._mirror.advance(after)
        if noted:
            by_forces = not self._guarding.takes(noted)
            self._guarding.note(self.nsteps + 1, noted, by_forces=by_forces)

    def _forecast(
        self, stepper: Stepper, drawn: Snapshot
    ) -> tuple[State, RigidBodies | None, list[Objection]]:
        """Return the state a horizon later, by forces where the forecast is refused.

        And the objections to the forecast.
        """
        before, constraints = self._mirror.state, self._mirror.constraints
        after, bodies = stepper.forecast(before, constraints)
        held = constraints.hold_velocities(before)  # as the forecast begins
        watch, step = self._watch(self.atoms), self.nsteps + 1
        found = watch.look(self.model, held, after, (step,))
        if not found or self._guarding.takes(found):
            return after, bodies, found
        if self._guarding.fallback is None:
            good = [(nsteps[0], state) for nsteps, state in self._recent]
            raise self._guarding.refuse(
                self.atoms, good, after, found, writes=self.comm.rank == 0
            )
        drawn.restore()
        return self._by_forces(self._guarding.fallback, before), None, found

    def _by_forces(self, fallback: ForceFallback, before: State) -> State:
        return fallback.integrated(self.atoms, before, self.dt)

    def _watch(self, atoms: Atoms) -> Watch:
        """Return the guards, made for `atoms` where none were given."""
        return self._guarding.watch(atoms, self.model, self.thermostats)

    def _check_finite(self, state: State) -> None:
        finite = finite_atoms(state)
        if not bool(finite.all()):
            raise self._not_finite(int((~finite).nonzero()[0]))

    def _shared(self, state: State) -> State:
        """Return the state of the first rank, since each draws its own numbers."""
        if self.comm.size == 1:
            return state
        values = torch.cat([state.positions, state.velocities], dim=1)
        shared = values.cpu().numpy().copy()
        self.comm.broadcast(shared, 0)
        values = torch.from_numpy(shared).to(state.device)
        return state.moved(values[:, :3], values[:, 3:])

    def _not_finite(self, atom: int) -> RuntimeError:
        """Return the error of thermostats that leave an atom without finite values."""
        return RuntimeError(
            f"the thermostat of step {self.nsteps + 1} is not finite for atom "
            f"{atom} ({self.atoms.symbols[atom]}); the Atoms hold step "
            f"{self.nsteps}: look for atoms that are "
            "too close, too hot or unlike the model's training data"
        )

    def _accept(self, state: State, constraints: Constraints) -> None:
        """Raise for a state that the model or the thermostat cannot start from."""
        self._forecaster.check_elements(state.atomic_numbers)
        checks = [one for one in self.thermostats if isinstance(one, ChecksStart)]
        if checks:
            motion = thermal_motion(state, self.model.conservation, constraints)
            for thermostat in checks:
                thermostat.check_start(motion)
        mirror: Mirror | None = getattr(self, "_mirror", None)  # it accepts its first
        if mirror is not None and not same_structure(state, mirror.state):
            self._guarding.renew()
            self._recent.clear()

    def _has_per_step_methods(self) -> bool:
        return any(
            name in vars(self) or getattr(type(self), name) is not _OWN[name]
            for name in PER_STEP_METHODS
        )


_OWN = {name: getattr(TrajCast, name) for name in PER_STEP_METHODS}
