r"""Thermostats that act on the velocities after each forecast.

=======================  =========================  ============
symbol                   variable                   unit
=======================  =========================  ============
:math:`K`                ``kinetic``                eV
:math:`N_f`              ``motion.n_dof``           1
:math:`k_B T`            ``thermal``                eV
:math:`c`                ``memory``                 1
:math:`\alpha`           ``alpha``                  1
:math:`\tau`             ``taut``                   ASE time
:math:`\gamma`           ``friction``               1 / ASE time
=======================  =========================  ============

A thermostat sees the thermal motion only: velocities relative to the conserved motion
of the system (its drift, and the rotation of an isolated system), which stays as it is
(:func:`thermalize`). It acts on a batch of systems at once, of which each draws random
numbers of its own. Several thermostats act one after the other; a third one is
:class:`trajcast_ase.adaptive.AdaptiveLangevin`. There is no barostat: a forecast knows
no stress and the cell is fixed; for another density set the cell between strides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.conservation import Conservation, RigidBodies
from trajcast_ase.constraints import Constraints
from trajcast_ase.kinetics import UNCONSTRAINED, ThermalMotion, ThermalSpace
from trajcast_ase.schedules import (
    ExponentialQuench,
    LinearRamp,
    Temperature,
    checked_temperature,
    describe_temperature,
    temperature_at,
)
from trajcast_ase.state import State
from trajcast_ase.streams import (
    RandomSource,
    Streams,
    generator_state,
    set_generator_state,
)
from trajcast_ase.units import FS, KB

__all__ = [
    "CSVR",
    "ChecksStart",
    "ExponentialQuench",
    "Langevin",
    "LinearRamp",
    "RandomThermostat",
    "Thermostat",
    "thermalize",
]

# Below this thermal energy (eV, as in ASE's Bussi) a system counts as resting.
RESTING = 1e-12


@runtime_checkable
class Thermostat(Protocol):
    """What a driver needs of a thermostat; write your own with these three.

    A step that fails is undone. For that, a thermostat with random numbers keeps them
    in an attribute ``streams`` (:class:`trajcast_ase.streams.Streams`), and one with
    further tensors that have a row for each system names all of them in ``variables``.

    Attributes
    ----------
    transferred_energy : (n_systems,) float64 tensor, eV
        Kinetic energy given to each system so far.
    """

    transferred_energy: Float[Tensor, " systems"]

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the motion with other velocities: ``motion.changed(velocities)``.

        Parameters
        ----------
        motion : ThermalMotion
            Of all systems of a batch after a stride, velocities in Å/fs.
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

    def check_start(self, motion: ThermalMotion) -> None:
        """Raise ValueError if `motion` is no possible start."""


class RandomThermostat:
    """Temperature, random numbers and energy account of a thermostat.

    Parameters
    ----------
    temperature_K : float, or callable of the time in ASE units, K
        :class:`LinearRamp` and :class:`ExponentialQuench` are such callables.
    rng : numpy Generator, RandomState or Streams, optional
        Of one system, or of each system of a batch. Default: a fresh
        ``np.random.default_rng()`` for one system.

    Attributes
    ----------
    transferred_energy : (n_systems,) float64 tensor, eV
        Kinetic energy given to each system so far.
    variables : tuple of str
        Names of the tensors that have a row for each system.
    """

    variables: tuple[str, ...] = ("transferred_energy",)

    def __init__(
        self, temperature_K: Temperature, rng: RandomSource | Streams | None
    ) -> None:
        self.temperature_K = checked_temperature(temperature_K)
        self.streams = Streams.of(rng)
        self.transferred_energy = torch.zeros(len(self.streams), dtype=torch.float64)

    def todict(self) -> dict[str, Any]:
        """Return name and temperature as plain values."""
        return {
            "name": type(self).__name__,
            "temperature_K": describe_temperature(self.temperature_K),
        }

    def get_state(self, system: int) -> dict[str, Any]:
        """Return variables and random numbers of a system as plain values."""
        variables = {name: getattr(self, name)[system] for name in self.variables}
        rng = generator_state(self.streams.generators[system])
        return {name: row.tolist() for name, row in variables.items()} | {"rng": rng}

    def set_state(self, system: int, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`get_state` returned.

        Raises
        ------
        ValueError
            The random numbers were those of another kind of generator.
        """
        set_generator_state(self.streams.generators[system], state["rng"])
        for name in self.variables:
            variable = getattr(self, name)
            variable[system] = variable.new_tensor(state[name])

    def _thermal(self, time: float) -> float:
        """Return kT at `time` (ASE units), eV."""
        return KB * temperature_at(self.temperature_K, time)

    def _noise(self, state: State) -> Float[Tensor, "atoms 3"]:
        """Return unit normals for each atom."""
        noise = self.streams.normal_vectors(state.sizes())
        return noise.to(state.device)

    def _book(self, before: ThermalMotion, after: ThermalMotion) -> ThermalMotion:
        """Add what `after` has gained to the account, and return it."""
        self._give(after.kinetic_energies - before.kinetic_energies)
        return after

    def _give(self, energy: Float[Tensor, " systems"]) -> None:
        """Add `energy` (eV) to the account of each system."""
        self.transferred_energy = self.transferred_energy.to(energy.device) + energy


class CSVR(RandomThermostat):
    r"""Canonical sampling through velocity rescaling, also known as v-rescale.

    .. math::

        \alpha^2 = \left(\sqrt c + R_1 \sqrt{f}\right)^2 + f \sum_{i=2}^{N_f} R_i^2,
        \qquad c = e^{-\Delta t/\tau}, \quad f = (1-c) \frac{k_B T}{2 K}

    with unit normal :math:`R_i`; :math:`\alpha` has the sign of
    :math:`\sqrt c + R_1 \sqrt f`. All thermal velocities of a system are scaled by one
    number.

    Parameters
    ----------
    temperature_K : float, or callable of the time in ASE units, K
    taut : float, ASE units
        Time constant; 0 draws a new kinetic energy at each stride.
    rng : numpy Generator, RandomState or Streams, optional
        As in :class:`RandomThermostat`.

    Raises
    ------
    ValueError
        A temperature or time constant that is negative or not finite.

    Notes
    -----
    Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), equations A7 and A8.
    """

    def __init__(
        self,
        temperature_K: Temperature,
        taut: float,
        rng: RandomSource | Streams | None = None,
    ) -> None:
        if not (math.isfinite(taut) and taut >= 0):
            raise ValueError(
                f"taut = {taut} must be zero or positive, in ASE time units"
            )
        super().__init__(temperature_K, rng)
        self.taut = float(taut)

    def check_start(self, motion: ThermalMotion) -> None:
        """Raise ValueError for a system at rest, whose velocities cannot be scaled."""
        least = float(motion.kinetic_energies.min())
        if least < RESTING:
            raise _resting_error(least)

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the rescaled motion; see :class:`Thermostat`.

        Raises
        ------
        ValueError
            The kinetic energy of a system is zero, or that of rounding errors.
        """
        kinetic, state = motion.kinetic_energies, motion.state
        thermal = self._thermal(time)
        # A quench goes far below; to be heated from there is to scale rounding errors.
        least = RESTING if thermal > RESTING else 0.0
        if not bool((kinetic > least).all()):
            raise _resting_error(float(kinetic.min()))
        memory = math.exp(-timestep / self.taut) if self.taut > 0 else 0.0
        noise = torch.sqrt((1 - memory) * thermal / (2 * kinetic))
        normal = self.streams.normals(state.n_systems).to(state.device)
        others = self.streams.chi_squared((motion.n_dof - 1).tolist()).to(state.device)
        first = math.sqrt(memory) + noise * normal
        alpha = torch.copysign(torch.hypot(first, noise * others.sqrt()), first)
        # One number for a system keeps what is thermal so: there is nothing to project.
        scaled = alpha[state.system_index, None] * state.velocities
        self._give((alpha.square() - 1) * kinetic)
        return replace(motion, state=state.moved(state.positions, scaled))

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return super().todict() | {"taut": self.taut}


class Langevin(RandomThermostat):
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
        For example ``1 / (2000 * units.fs)``.
    rng : numpy Generator, RandomState or Streams, optional
        As in :class:`RandomThermostat`.

    Raises
    ------
    ValueError
        A temperature or friction that is negative or not finite.
    """

    def __init__(
        self,
        temperature_K: Temperature,
        friction: float,
        rng: RandomSource | Streams | None = None,
    ) -> None:
        if not (math.isfinite(friction) and friction >= 0):
            raise ValueError(
                f"friction = {friction} must be zero or positive, in 1 / ASE time"
            )
        super().__init__(temperature_K, rng)
        self.friction = float(friction)

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the motion with damping and noise; see :class:`Thermostat`."""
        state, thermal = motion.state, self._thermal(time)
        memory = math.exp(-self.friction * timestep)
        width = FS * torch.sqrt((1 - memory**2) * thermal / state.masses)
        kicks = width[:, None] * self._noise(state)
        return self._book(motion, motion.changed(memory * state.velocities + kicks))

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return super().todict() | {"friction": self.friction}


def thermalize(
    thermostats: Sequence[Thermostat],
    state: State,
    rule: Conservation,
    *,
    time: float,
    timestep: float,
    constraints: Constraints = UNCONSTRAINED,
    bodies: RigidBodies | None = None,
) -> State:
    """Return `state` after thermostats have acted on its thermal motion, in order.

    Positions, total momentum, conserved angular momentum and constraints are kept.

    Parameters
    ----------
    thermostats : sequence of Thermostat
    state : State
        Of any number of systems.
    rule : Conservation
        Of the model: ``model.conservation``.
    time, timestep : float, ASE units
    constraints : Constraints, optional
    bodies : RigidBodies, optional
        The systems of `state` at its positions, if they are known already.

    Raises
    ------
    ValueError
        A system has no thermal degree of freedom.
    """
    space = ThermalSpace.of(state, rule, constraints, bodies)
    if int(space.n_dof.min()) < 1:
        system = int(space.n_dof.argmin())
        raise ValueError(
            f"{state.sizes()[system]} atom(s) under these constraints have "
            f"{int(space.n_dof[system])} degrees of freedom with a temperature; run "
            "without a thermostat"
        )
    held = constraints.allowed(state.velocities, state)
    conserved = space.conserved(held)
    motion = ThermalMotion(state.moved(state.positions, held - conserved), space)
    for thermostat in thermostats:
        motion = thermostat.apply(motion, time, timestep)
    return state.moved(state.positions, motion.state.velocities + conserved)


def _resting_error(kinetic: float) -> ValueError:
    return ValueError(
        f"the kinetic energy is {kinetic:.3g} eV: velocities that are all zero cannot "
        "be rescaled to a temperature; draw some first, for example with "
        "ase.md.velocitydistribution.MaxwellBoltzmannDistribution"
    )
