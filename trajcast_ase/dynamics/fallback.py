"""Forces where a forecast is refused: the horizon in small steps, then strides on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.md.verlet import VelocityVerlet

from trajcast_ase.guards.host import host
from trajcast_ase.state import State, ase_momenta, state_from_atoms
from trajcast_ase.units import FS


class SenselessForecastError(RuntimeError):
    """A forecast is not finite, or no motion of the kind that the model learnt."""


@dataclass(frozen=True, slots=True)
class ForceStride:
    """A stride that was made by forces.

    Attributes
    ----------
    step : int
    reason : str
        Why its forecast was refused.
    """

    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class ForceFallback:
    """Velocity Verlet with the Atoms' calculator in place of a refused forecast.

    Attributes
    ----------
    timestep : float, ASE units
        Largest time step; for example ``0.5 * units.fs``.
    report : callable of a ForceStride, optional
        Told of every such stride, for example ``print``.

    Raises
    ------
    ValueError
        A time step that is not positive and finite.

    Notes
    -----
    Thermostats act after the stride as after a forecast, and calibrated noise does not.
    The forces must be those of the potential that the model learnt.
    ``dynamics.tally.by_forces`` counts these strides.
    """

    timestep: float
    report: Callable[[ForceStride], object] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.timestep) and self.timestep > 0):
            raise ValueError(
                f"timestep = {self.timestep} must be positive, in ASE time units: give "
                "0.5 * units.fs"
            )

    def check(self, atoms: Atoms) -> None:
        """Raise ValueError for Atoms without forces."""
        if atoms.calc is None or "forces" not in atoms.calc.implemented_properties:
            raise ValueError(
                "a fallback needs forces, and the Atoms have no calculator that gives "
                "them; set atoms.calc, or leave fallback= out"
            )

    def integrated(self, atoms: Atoms, state: State, duration: float) -> State:
        """Return `state` after `duration` (ASE units) of motion under forces.

        Parameters
        ----------
        atoms : Atoms
            With calculator and constraints. They stay as they are.
        state : State
        duration : float, ASE units

        Raises
        ------
        SenselessForecastError
            Forces do not give finite motion either.
        """
        moving = atoms.copy()
        moving.calc = atoms.calc
        moving.set_positions(host(state.positions), apply_constraint=False)
        moving.set_momenta(host(ase_momenta(state)), apply_constraint=False)
        steps = math.ceil(duration / self.timestep * (1.0 - 1e-9))
        VelocityVerlet(moving, duration / steps).run(steps)
        if not np.isfinite(moving.positions + moving.get_momenta()).all():
            raise SenselessForecastError(
                f"neither the forecast nor {steps} steps of {self.timestep / FS:g} fs "
                "with forces give finite motion; the Atoms hold the step before"
            )
        found = state_from_atoms([moving], state.device)
        return state.moved(found.positions, found.velocities)
