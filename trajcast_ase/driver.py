"""The ASE dynamics driver: each step is one forecast, no calculator is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory
from ase.md.md import MolecularDynamics

from trajcast_ase.arguments import (
    check_keywords,
    checked_noise,
    checked_thermostats,
    checked_timestep,
    describe_model,
    prepared_model,
)
from trajcast_ase.constraints import Constraints
from trajcast_ase.kinetics import degrees_of_freedom, temperature, thermal_motion
from trajcast_ase.md_logger import ForceFreeLogger
from trajcast_ase.mirror import Mirror
from trajcast_ase.noise import ForecastNoise, NoisyModel
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.thermostats import ChecksStart, Thermostat, thermalize

# Replacing one of these, in a subclass or on an object, asks for a call at each step.
PER_STEP_METHODS = ("step", "irun", "log", "call_observers", "_refresh_properties")


class NotFiniteError(ArithmeticError):
    """What a step made is not finite.

    Parameters
    ----------
    source : str
        "forecast" or "thermostat".
    atom : int
        The first one, counted over all systems of the batch.
    """

    def __init__(self, source: str, atom: int) -> None:
        super().__init__(f"the {source} is not finite for atom {atom}")
        self.source, self.atom = source, atom


class TrajCast(MolecularDynamics):
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
    append_trajectory : bool
        Append to an existing trajectory instead of overwriting it.
    device : str or torch.device, optional
        Default: where the model is. Elsewhere a copy of the model is used.
    **kwargs
        ``comm`` and ``master`` of the ASE base class.

    Raises
    ------
    TypeError
        `atoms` is a Filter, or a keyword is unknown.
    ValueError
        An element that the model does not know, values that are not finite, no atoms,
        atoms closer than 0.1 Å, a `timestep` other than the horizon, zero velocities
        with a thermostat that rescales them, an empty sequence of thermostats, one
        object twice in it, or different temperatures.
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
        *,
        timestep: float | None = None,
        thermostat: Thermostat | Sequence[Thermostat] | None = None,
        noise: ForecastNoise | None = None,
        trajectory: Any = None,
        logfile: Any = None,
        loginterval: int = 1,
        append_trajectory: bool = False,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs)
        self.model = prepared_model(model, device)
        self.thermostats = checked_thermostats(thermostat)
        self._place = 0  # among the systems on which the thermostats act
        self.noise = checked_noise(noise)
        self._model_description = describe_model(self.model)
        dt = checked_timestep(timestep, self.model.horizon_fs)
        self._mirror = Mirror(atoms, self.model.device, self._accept)
        # Opened last, after all checks: mode "w" empties an existing file. As an open
        # object, because ASE >= 3.27 reopens a trajectory given by name per frame.
        if isinstance(trajectory, str | os.PathLike):
            mode = "a" if append_trajectory else "w"
            writer = Trajectory(os.fspath(trajectory), mode=mode, **kwargs)
            trajectory = self.closelater(writer)  # type: ignore[no-untyped-call]  # ASE
        super().__init__(atoms, dt, trajectory, None, loginterval, **kwargs)
        if logfile:
            logger = ForceFreeLogger(self, atoms, logfile, comm=self.comm)
            self.closelater(logger)  # type: ignore[no-untyped-call]  # ASE
            self.attach(logger, loginterval)  # type: ignore[no-untyped-call]  # ASE

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the header of trajectories.

        Under "thermostat" stand the settings of one, or a list of those of several.
        """
        settings = {
            "type": "molecular-dynamics",
            "md-type": type(self).__name__,
            "timestep": self.dt,
            "horizon_fs": self.model.horizon_fs,
            "model": self._model_description,
        }
        if self.thermostats:
            members = [one.todict() for one in self.thermostats]
            settings["thermostat"] = members[0] if len(members) == 1 else members
        if self.noise is not None:
            settings["noise"] = self.noise.todict()
        return settings

    @property
    def n_dof(self) -> int:
        """Number of degrees of freedom that have a temperature.

        3 N, minus constraints, minus what the model conserves: 3, or 6 for an isolated
        molecule whose angular momentum is conserved (5 if linear).
        """
        return degrees_of_freedom(self.atoms, self.model.conservation)

    def get_temperature(self) -> float:
        """Return the temperature (K) of the `n_dof` thermal degrees of freedom.

        The log has it, too. ``atoms.get_temperature()`` divides by 3 N: for a molecule
        of 20 atoms with 54 thermal degrees of freedom it reads 270 K at 300 K.
        """
        return temperature(self.atoms, self.model.conservation)

    @property
    def transferred_energy(self) -> float:
        """Kinetic energy that all thermostats together have given so far, eV."""
        given = (one.transferred_energy[self._place] for one in self.thermostats)
        return float(sum(given))

    @property
    def _forecaster(self) -> ForecastModel:
        return self.model if self.noise is None else NoisyModel(self.model, self.noise)

    def step(self) -> None:
        """Advance the Atoms by one forecast; ``nsteps`` is the caller's."""
        self._mirror.pull(self.atoms)
        try:
            self._advance()
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
        self._begin(steps)
        yield self.nsteps == self.max_steps
        while self.nsteps < self.max_steps:
            self.step()
            self.nsteps += 1
            self._look()
            yield self.nsteps == self.max_steps

    def run(self, steps: int = 50) -> bool:
        """Run; return True when finished.

        Parameters
        ----------
        steps : int

        Raises
        ------
        RuntimeError
            A forecast is not finite; the Atoms hold the step before.
        ValueError, TypeError, NotImplementedError
            The Atoms were changed to something that cannot be forecast.
        """
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
        if self.nsteps == 0:
            self._look()

    def _look(self) -> None:
        """Let everyone see the Atoms, in ASE's order."""
        self._refresh_properties()
        self.log()  # type: ignore[no-untyped-call]  # ASE
        self.call_observers()  # type: ignore[no-untyped-call]  # ASE

    def _leap(self, steps: int) -> None:
        """Make `steps` forecasts on the device between two transfers."""
        self._mirror.pull(self.atoms)
        try:
            for _ in range(steps):
                self._advance()
                self.nsteps += 1
        finally:
            self._mirror.push(self.atoms)

    def _advance(self) -> None:
        """Replace the state on the device by the one a forecast later."""
        try:
            after = self._stepped(
                self._mirror.state, self._mirror.constraints, self._forecaster
            )
        except NotFiniteError as error:
            raise self._explained(error.source, error.atom) from error
        self._mirror.advance(after)

    def _stepped(
        self, state: State, constraints: Constraints, forecaster: ForecastModel
    ) -> State:
        """Return a state, of one system or a batch, one forecast later.

        Raises
        ------
        NotFiniteError
            A forecast, or what the thermostats make of it, is not finite.
        """
        before = constraints.hold_velocities(state)
        with torch.no_grad():
            after = constraints.hold(before, stride(forecaster, before))
            _check_finite(after, "forecast")
            if self.thermostats:
                after = thermalize(
                    self.thermostats,
                    after,
                    self.model.conservation,
                    time=(self.nsteps + 1) * self.dt,
                    timestep=self.dt,
                    constraints=constraints,
                )
                _check_finite(after, "thermostat")
        return self._shared(after) if self.comm.size > 1 else after

    def _shared(self, state: State) -> State:
        """Return the state of the first rank, since each draws its own numbers."""
        values = torch.cat([state.positions, state.velocities], dim=1)
        shared = values.cpu().numpy().copy()
        self.comm.broadcast(shared, 0)
        values = torch.from_numpy(shared).to(state.device)
        return state.moved(values[:, :3], values[:, 3:])

    def _explained(self, source: str, atom: int) -> RuntimeError:
        """Return the error of a step that is not finite for one of the atoms."""
        return RuntimeError(
            f"the {source} of step {self.nsteps + 1} is not finite for atom "
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

    def _refresh_properties(self) -> None:
        """Evaluate the energy, so that frames carry it, if somebody will look."""
        if isinstance(self.atoms.calc, SinglePointCalculator):
            # What a file stores belongs to its frame; asked of another one, it raises.
            self.atoms.calc = None
        if self.atoms.calc is not None and self._is_due():
            self.atoms.get_potential_energy()

    def _is_due(self) -> bool:
        return any(
            self.nsteps % interval == 0 if interval > 0 else self.nsteps == -interval
            for _, interval, _, _ in self.observers
        )

    def _steps_until_due(self) -> int:
        """Return the steps to the next due observer, or to the end of the run."""
        waits = [self.max_steps - self.nsteps]
        for _, interval, _, _ in self.observers:
            if interval > 0:
                waits.append(interval - self.nsteps % interval)
            elif self.nsteps < -interval:
                waits.append(-interval - self.nsteps)
        return min(waits)

    def _has_per_step_methods(self) -> bool:
        return any(
            name in vars(self) or getattr(type(self), name) is not _OWN[name]
            for name in PER_STEP_METHODS
        )


def _check_finite(state: State, source: str) -> None:
    """Raise NotFiniteError for a value that is not finite."""
    values = torch.cat([state.positions, state.velocities], dim=1)
    finite = torch.isfinite(values).all(dim=1)
    if not bool(finite.all()):
        raise NotFiniteError(source, int((~finite).nonzero()[0]))


_OWN = {name: getattr(TrajCast, name) for name in PER_STEP_METHODS}
