r"""Canonical sampling through velocity rescaling: one number for all velocities.

=======================  =========================  ============
symbol                   variable                   unit
=======================  =========================  ============
:math:`K`                ``kinetic``                eV
:math:`N_f`              ``motion.n_dof``           1
:math:`k_B T`            ``thermal``                eV
:math:`c`                ``memory``                 1
:math:`\alpha`           ``alpha``                  1
:math:`\tau`             ``taut``                   ASE time
=======================  =========================  ============
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.kinetics import ThermalMotion
from trajcast_ase.streams import RandomSource, Streams
from trajcast_ase.thermostats.random_thermostat import RandomThermostat, question_time
from trajcast_ase.thermostats.schedules import Temperature

# Below this thermal energy (eV, as in ASE's Bussi) a system counts as resting.
RESTING = 1e-12


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
        Time constant, such as ``70 * units.fs``; 0 draws a new kinetic energy at each
        stride.
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
        question_time("taut", self.taut)

    def check_start(self, motion: ThermalMotion) -> None:
        """Raise ValueError for a system at rest, whose velocities cannot be scaled."""
        self.check_moving(motion.kinetic_energies, math.inf)

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the rescaled motion; see :class:`Thermostat`.

        Raises
        ------
        ValueError
            The kinetic energy of a system is zero, or that of rounding errors.
        """
        thermal = self.thermal_energy(time)
        self.check_moving(motion.kinetic_energies, thermal)
        normal, others = self.draws(motion.n_dof)
        after, given = self.rescaled(motion, thermal, timestep, normal, others)
        self._give(given)
        return after

    def draws(
        self, n_dof: Int[Tensor, " systems"]
    ) -> tuple[Float[Tensor, " systems"], Float[Tensor, " systems"]]:
        r"""Return :math:`R_1` and the sum of the other :math:`R_i^2` of each system."""
        normal = self.streams.normals(len(n_dof))
        others = self.streams.chi_squared((n_dof - 1).tolist())
        return normal.to(n_dof.device), others.to(n_dof.device)

    def rescaled(
        self,
        motion: ThermalMotion,
        thermal: float | Float[Tensor, " systems"],
        timestep: float,
        normal: Float[Tensor, " systems"],
        others: Float[Tensor, " systems"],
    ) -> tuple[ThermalMotion, Float[Tensor, " systems"]]:
        r"""Return the motion scaled by given random numbers, and the energy it got.

        Parameters
        ----------
        motion : ThermalMotion
        thermal : float or (n_systems,), eV
            :math:`k_B T`.
        timestep : float, ASE units
        normal : (n_systems,)
            :math:`R_1`.
        others : (n_systems,)
            Sum of the other :math:`R_i^2`.
        """
        kinetic, state = motion.kinetic_energies, motion.state
        alpha = self.scales(kinetic, thermal, timestep, normal, others)
        # One number for a system keeps what is thermal so: there is nothing to project.
        scaled = alpha[state.system_index, None] * state.velocities
        after = ThermalMotion(state.moved(state.positions, scaled), motion.space)
        return after, (alpha.square() - 1) * kinetic

    def scales(
        self,
        kinetic: Float[Tensor, " systems"],
        thermal: float | Float[Tensor, " systems"],
        timestep: float,
        normal: Float[Tensor, " systems"],
        others: Float[Tensor, " systems"],
    ) -> Float[Tensor, " systems"]:
        r"""Return :math:`\alpha` of kinetic energies (eV); see :meth:`rescaled`."""
        memory = math.exp(-timestep / self.taut) if self.taut > 0 else 0.0
        noise = torch.sqrt((1 - memory) * thermal / (2 * kinetic))
        first = math.sqrt(memory) + noise * normal
        return torch.copysign(torch.hypot(first, noise * others.sqrt()), first)

    @staticmethod
    def check_moving(kinetic: Float[Tensor, " systems"], thermal: float) -> None:
        """Raise ValueError for kinetic energies (eV) that cannot be scaled."""
        # A quench goes far below; to be heated from there is to scale rounding errors.
        least = RESTING if thermal > RESTING else 0.0
        if not bool((kinetic > least).all()):
            raise _resting_error(float(kinetic.min()))

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return super().todict() | {"taut": self.taut}


def _resting_error(kinetic: float) -> ValueError:
    return ValueError(
        f"the kinetic energy is {kinetic:.3g} eV: velocities that are all zero cannot "
        "be rescaled to a temperature; draw some first, for example with "
        "ase.md.velocitydistribution.MaxwellBoltzmannDistribution"
    )
