r"""Friction and noise on each velocity, exact over a stride.

=======================  =========================  ============
symbol                   variable                   unit
=======================  =========================  ============
:math:`k_B T`            ``thermal``                eV
:math:`c`                ``memory``                 1
:math:`\gamma`           ``friction``               1 / ASE time
=======================  =========================  ============
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.kinetics import ThermalMotion
from trajcast_ase.streams import RandomSource, Streams
from trajcast_ase.thermostats.random_thermostat import RandomThermostat
from trajcast_ase.thermostats.schedules import Temperature
from trajcast_ase.units import FS


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
        noise = self._noise(motion.state)
        after = self.kicked(motion, self.thermal_energy(time), timestep, noise)
        return self._book(motion, after)

    def kicked(
        self,
        motion: ThermalMotion,
        thermal: float | Float[Tensor, " atoms"],
        timestep: float,
        noise: Float[Tensor, "atoms 3"],
    ) -> ThermalMotion:
        """Return the motion with damping and given noise.

        Parameters
        ----------
        motion : ThermalMotion
        thermal : float or (n_atoms,), eV
        timestep : float, ASE units
        noise : (n_atoms, 3)
            Unit normals.
        """
        state = motion.state
        memory = math.exp(-self.friction * timestep)
        width = FS * torch.sqrt((1 - memory**2) * thermal / state.masses)
        return motion.changed(memory * state.velocities + width[:, None] * noise)

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return super().todict() | {"friction": self.friction}
