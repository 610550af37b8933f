r"""Thermostats that act on the velocities after each forecast.

=======================  =========================  ============
symbol                   variable                   unit
=======================  =========================  ============
:math:`K`                ``kinetic``                eV
:math:`\bar K`           ``n_dof * thermal / 2``    eV
:math:`N_f`              ``n_dof``                  1
:math:`c`                ``memory``                 1
:math:`\alpha`           ``alpha``                  1
:math:`\tau`             ``taut``                   ASE time
:math:`\gamma`           ``friction``               1 / ASE time
=======================  =========================  ============

A thermostat sees the thermal motion only: velocities relative to the conserved motion
of the system (its drift, and the rotation of an isolated system), which stays as it is
(:func:`thermalize`). There is no barostat: a forecast knows no stress and the cell is
fixed; for another density set the cell between strides.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from trajcast_ase.conservation import Conservation
from trajcast_ase.constraints import Constraints
from trajcast_ase.kinetics import (
    UNCONSTRAINED,
    kinetic_energy,
    moving_bodies,
    n_thermal,
    prescribed_motion,
)
from trajcast_ase.schedules import (
    ExponentialQuench,
    LinearRamp,
    Temperature,
    checked_temperature,
    describe_temperature,
    temperature_at,
)
from trajcast_ase.state import State
from trajcast_ase.units import FS, KB

__all__ = [
    "CSVR",
    "ChecksStart",
    "ExponentialQuench",
    "Langevin",
    "LinearRamp",
    "Thermostat",
    "thermalize",
]

RandomSource = np.random.Generator | np.random.RandomState

# Below this thermal energy (eV, as in ASE's Bussi) a system counts as resting.
RESTING = 1e-12


@runtime_checkable
class Thermostat(Protocol):
    """What a driver needs of a thermostat; write your own with these two methods."""

    def apply(self, state: State, n_dof: int, time: float, timestep: float) -> State:
        """Return `state` with new velocities.

        Parameters
        ----------
        state : State
            One system after a stride, with velocities (Å/fs) relative to its conserved
            motion. Only the velocities of the result are used; net momentum, and what
            constraints forbid, is removed from them.
        n_dof : int
            Number of thermal degrees of freedom.
        time : float, ASE units
            Time of the driver at the end of the stride.
        timestep : float, ASE units
            Length of the stride.
        """

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the header of trajectories."""


@runtime_checkable
class ChecksStart(Protocol):
    """A thermostat that cannot start from every state; drivers ask it first."""

    def check_start(self, state: State) -> None:
        """Raise ValueError if the thermal motion of `state` is no possible start."""


class CSVR:
    r"""Canonical sampling through velocity rescaling, also known as v-rescale.

    .. math::

        \alpha^2 = \left(\sqrt c + R_1 \sqrt{f}\right)^2 + f \sum_{i=2}^{N_f} R_i^2,
        \qquad c = e^{-\Delta t/\tau}, \quad f = (1-c) \frac{\bar K}{N_f K}

    with unit normal :math:`R_i`; :math:`\alpha` has the sign of
    :math:`\sqrt c + R_1 \sqrt f`. All thermal velocities are scaled by one number.

    Parameters
    ----------
    temperature_K : float, or callable of the time in ASE units, K
        :class:`LinearRamp` and :class:`ExponentialQuench` are such callables.
    taut : float, ASE units
        Time constant; 0 draws a new kinetic energy at each stride.
    rng : numpy Generator or RandomState, optional
        Default: a fresh ``np.random.default_rng()``.

    Attributes
    ----------
    transferred_energy : float, eV
        Kinetic energy given to the system so far.

    Raises
    ------
    ValueError
        A temperature or time constant that is negative or not finite.

    Notes
    -----
    Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), equations A7 and A8.
    """

    def __init__(
        self, temperature_K: Temperature, taut: float, rng: RandomSource | None = None
    ) -> None:
        if not (math.isfinite(taut) and taut >= 0):
            raise ValueError(
                f"taut = {taut} must be zero or positive, in ASE time units"
            )
        self.temperature_K = checked_temperature(temperature_K)
        self.taut = float(taut)
        self.rng = _checked_rng(rng)
        self.transferred_energy = 0.0

    def check_start(self, state: State) -> None:
        """Raise ValueError for a system at rest, whose velocities cannot be scaled."""
        kinetic = kinetic_energy(state)
        if kinetic < RESTING:
            raise _resting_error(kinetic)

    def apply(self, state: State, n_dof: int, time: float, timestep: float) -> State:
        """Return `state` with rescaled velocities; see :class:`Thermostat`.

        Raises
        ------
        ValueError
            The kinetic energy is zero.
        """
        kinetic = kinetic_energy(state)
        if not kinetic > 0:
            raise _resting_error(kinetic)
        thermal = KB * temperature_at(self.temperature_K, time)
        alpha = self._draw_alpha(kinetic, thermal, n_dof, timestep)
        self.transferred_energy += (alpha**2 - 1) * kinetic
        return state.moved(state.positions, alpha * state.velocities)

    def _draw_alpha(
        self, kinetic: float, thermal: float, n_dof: int, timestep: float
    ) -> float:
        """Return the factor of equations A7 and A8; `kinetic` and `thermal` in eV."""
        memory = math.exp(-timestep / self.taut) if self.taut > 0 else 0.0
        noise = math.sqrt((1 - memory) * thermal / (2 * kinetic))
        first = math.sqrt(memory) + noise * self.rng.standard_normal()
        # Twice a gamma variate of shape n/2 is chi-squared with n degrees of freedom.
        others = 2 * self.rng.standard_gamma(0.5 * (n_dof - 1))
        return math.copysign(math.hypot(first, noise * math.sqrt(others)), first)

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {
            "name": type(self).__name__,
            "temperature_K": describe_temperature(self.temperature_K),
            "taut": self.taut,
        }


class Langevin:
    r"""Langevin thermostat: the exact Ornstein-Uhlenbeck step over one stride.

    .. math:: v_i' = c\, v_i + \sqrt{(1-c^2) k_B T / m_i}\, \xi_i, \qquad
        c = e^{-\gamma \Delta t}

    The noise neither moves the centre of mass nor, where the model conserves angular
    momentum, rotates the system: these components are projected out, which keeps the
    canonical distribution of the others.

    Parameters
    ----------
    temperature_K : float, or callable of the time in ASE units, K
    friction : float, 1 / ASE time
        For example ``0.01 / units.fs``.
    rng : numpy Generator or RandomState, optional
        Default: a fresh ``np.random.default_rng()``.

    Raises
    ------
    ValueError
        A temperature or friction that is negative or not finite.
    """

    def __init__(
        self,
        temperature_K: Temperature,
        friction: float,
        rng: RandomSource | None = None,
    ) -> None:
        if not (math.isfinite(friction) and friction >= 0):
            raise ValueError(
                f"friction = {friction} must be zero or positive, in 1 / ASE time"
            )
        self.temperature_K = checked_temperature(temperature_K)
        self.friction = float(friction)
        self.rng = _checked_rng(rng)

    def apply(self, state: State, n_dof: int, time: float, timestep: float) -> State:  # noqa: ARG002  the noise is projected by the caller
        """Return `state` with damped velocities and noise; see :class:`Thermostat`."""
        memory = math.exp(-self.friction * timestep)
        thermal = KB * temperature_at(self.temperature_K, time)
        noise = torch.from_numpy(self.rng.standard_normal((state.n_atoms, 3)))
        width = FS * torch.sqrt((1 - memory**2) * thermal / state.masses)
        kicks = width[:, None] * noise.to(state.device)
        return state.moved(state.positions, memory * state.velocities + kicks)

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {
            "name": type(self).__name__,
            "temperature_K": describe_temperature(self.temperature_K),
            "friction": self.friction,
        }


def thermalize(
    thermostat: Thermostat,
    state: State,
    rule: Conservation,
    *,
    time: float,
    timestep: float,
    constraints: Constraints = UNCONSTRAINED,
) -> State:
    """Return `state` after one action of a thermostat on its thermal motion.

    Positions, total momentum, conserved angular momentum and constraints are kept.

    Parameters
    ----------
    thermostat : Thermostat
    state : State of one system
    rule : Conservation
        Of the model: ``model.conservation``.
    time, timestep : float, ASE units
    constraints : Constraints, optional

    Raises
    ------
    ValueError
        The system has no thermal degree of freedom.
    """
    held = constraints.hold_velocities(state)
    bodies = moving_bodies(held, rule, constraints)
    n_dof = n_thermal(held, bodies, constraints)
    if n_dof < 1:
        raise ValueError(
            f"{state.n_atoms} atom(s) under these constraints have {n_dof} degrees of "
            "freedom with a temperature; run without a thermostat"
        )
    conserved = prescribed_motion(bodies, held.velocities)
    thermal = held.moved(held.positions, held.velocities - conserved)
    changed = thermostat.apply(thermal, n_dof, time, timestep)
    again = constraints.hold_velocities(held.moved(held.positions, changed.velocities))
    stray = prescribed_motion(bodies, again.velocities)
    return held.moved(held.positions, again.velocities - stray + conserved)


def _checked_rng(rng: RandomSource | None) -> RandomSource:
    if rng is None:
        return np.random.default_rng()
    if not hasattr(rng, "standard_gamma"):
        raise TypeError(
            f"rng = {rng!r} is no random number generator; pass "
            "np.random.default_rng(seed)"
        )
    return rng


def _resting_error(kinetic: float) -> ValueError:
    return ValueError(
        f"the kinetic energy is {kinetic:.3g} eV: velocities that are all zero cannot "
        "be rescaled to a temperature; draw some first, for example with "
        "ase.md.velocitydistribution.MaxwellBoltzmannDistribution"
    )
