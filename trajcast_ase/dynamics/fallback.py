"""Forces where a forecast is refused: the horizon in small steps, then strides on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.md.verlet import VelocityVerlet

from trajcast_ase.state import State, state_from_atoms
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


class ForceFallback:
    """Velocity Verlet with the Atoms' calculator in place of a refused forecast.

    Parameters
    ----------
    timestep : float, ASE units
        Largest time step; for example ``0.5 * units.fs``.
    report : callable of a ForceStride, optional
        Told of every such stride, for example ``print``.

    Attributes
    ----------
    strides : list of ForceStride
        So far; ``len(fallback.strides) / dynamics.nsteps`` is their share.

    Raises
    ------
    ValueError
        A time step that is not positive and finite.

    Notes
    -----
    Thermostats act after the stride as after a forecast, and calibrated noise does not.
    The forces must be those of the potential that the model learnt.
    """

    def __init__(
        self, timestep: float, report: Callable[[ForceStride], object] | None = None
    ) -> None:
        if not (math.isfinite(timestep) and timestep > 0):
            raise ValueError(
                f"timestep = {timestep} must be positive, in ASE time units: give "
                "0.5 * units.fs"
            )
        self.timestep = float(timestep)
        self.report = report
        self.strides: list[ForceStride] = []

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
            At the positions and momenta of `state`, with calculator and constraints.
            They stay as they are.
        state : State
        duration : float, ASE units

        Raises
        ------
        SenselessForecastError
            Forces do not give finite motion either.
        """
        moving = atoms.copy()
        moving.calc = atoms.calc
        steps = math.ceil(duration / self.timestep * (1.0 - 1e-9))
        VelocityVerlet(moving, duration / steps).run(steps)
        if not np.isfinite(moving.positions + moving.get_momenta()).all():
            raise SenselessForecastError(
                f"neither the forecast nor {steps} steps of {self.timestep / FS:g} fs "
                "with forces give finite motion; the Atoms hold the step before"
            )
        found = state_from_atoms([moving], state.device)
        return state.moved(found.positions, found.velocities)

    def note(self, step: int, reason: Exception) -> None:
        """Record and report a stride made by forces."""
        stride = ForceStride(step, str(reason))
        self.strides.append(stride)
        if self.report is not None:
            self.report(stride)
