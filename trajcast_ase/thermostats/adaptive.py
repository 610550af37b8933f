r"""A thermostat whose friction adapts to what a forecast takes or gives.

=======================  =========================  ============
symbol                   variable                   unit
=======================  =========================  ============
:math:`\gamma`           ``friction``               1 / ASE time
:math:`\xi_g`            ``frictions``              1 / ASE time
:math:`\tau`             ``taut``                   ASE time
:math:`K_g`              of a group of atoms        eV
:math:`n_g`              its degrees of freedom     1
:math:`N_g`              its free atoms             1
=======================  =========================  ============

.. math::

    \mathrm{d}v_i &= -\xi_g v_i\,\mathrm{d}t
        + \sqrt{2 \gamma k_B T / m_i}\,\mathrm{d}W_i \\
    \dot\xi_g &= \frac{1}{3 N_g \tau^2} \left(\frac{2 K_g}{k_B T} - n_g\right)

Noise is fixed and weak, and the friction takes the value, negative ones included, at
which the kinetic energy is right, whatever damping or noise of unknown strength the
forecasts bring. Jones and Leimkuhler, J. Chem. Phys. 135, 084125 (2011); Ding et al.,
NeurIPS 27 (2014); Leimkuhler and Shang, SIAM J. Sci. Comput. 38, A712 (2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.kinetics import ThermalMotion, twice_kinetic
from trajcast_ase.streams import RandomSource, Streams
from trajcast_ase.thermostats.random_thermostat import RandomThermostat, question_time
from trajcast_ase.thermostats.schedules import Temperature
from trajcast_ase.units import EV_PER_AMU_A2_FS2, FS, KB


class AdaptiveLangevin(RandomThermostat):
    r"""Langevin thermostat whose friction is a variable, one per element or one in all.

    Each stride moves :math:`\xi` by half a stride with the kinetic energy before, makes
    the exact Ornstein-Uhlenbeck step of this friction (:math:`\xi = 0` and negative
    values are no exception), and moves :math:`\xi` by half a stride with the kinetic
    energy after. Where each group settles,

    - the mean of the kinetic energies before and after the thermostat is that of
      equilibrium at any stride, whatever the forecasts do: the mean of
      :math:`\dot\xi` is zero;
    - for exact forecasts the distribution is canonical times a normal one of
      :math:`\xi`, with mean :math:`\gamma` and variance :math:`1 / (3 N_g \tau^2)`, up
      to terms of order :math:`(\Delta t/\tau)^2`.

    Parameters
    ----------
    temperature_K : float, or callable of the time in ASE units, K
        Above zero.
    friction : float, 1 / ASE time
        Strength of the noise, and the friction that balances it in exact dynamics. For
        example ``1 / (2000 * units.fs)``.
    taut : float, ASE units
        Time constant with which the friction follows the kinetic energy. For example
        ``1000 * units.fs``.
    rng : numpy Generator, RandomState or Streams, optional
        As in :class:`trajcast_ase.thermostats.random_thermostat.RandomThermostat`.
    per_element : bool
        One friction for each element of a system, else one for the system.

    Attributes
    ----------
    frictions : (n_systems, 119) or (n_systems, 1) float64 tensor, 1 / ASE time
        Present friction by atomic number, or of the system. A run that goes on in
        another process needs it beside the Atoms and the state of its generator.

    Raises
    ------
    ValueError
        A temperature, friction or time constant that is not positive and finite.
    """

    variables = (*RandomThermostat.variables, "frictions")

    def __init__(
        self,
        temperature_K: Temperature,
        friction: float,
        taut: float,
        rng: RandomSource | Streams | None = None,
        *,
        per_element: bool = True,
    ) -> None:
        super().__init__(temperature_K, rng)
        for name, value, unit in (
            ("friction", friction, "1 / ASE time"),
            ("taut", taut, "ASE time units"),
        ):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value} must be positive, in {unit}")
        if not callable(self.temperature_K):
            _check_warm(self.temperature_K)
        self.friction, self.taut = float(friction), float(taut)
        question_time("taut", self.taut)
        self.per_element = per_element
        self.frictions = torch.full(
            (len(self.streams), len(chemical_symbols) if per_element else 1),
            self.friction,
            dtype=torch.float64,
        )

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the motion with noise and adapted damping; see :class:`Thermostat`.

        Raises
        ------
        ValueError
            The temperature at `time` is zero.
        """
        thermal = self.thermal_energy(time)
        noise = self._noise(motion.state)
        frictions = self.frictions.to(motion.state.device)
        after, self.frictions = self.adapted(
            motion, frictions, thermal, timestep, noise
        )
        return self._book(motion, after)

    def adapted(
        self,
        motion: ThermalMotion,
        frictions: Float[Tensor, "systems width"],
        thermal: float | Float[Tensor, " systems"],
        timestep: float,
        noise: Float[Tensor, "atoms 3"],
    ) -> tuple[ThermalMotion, Float[Tensor, "systems width"]]:
        """Return the motion with given noise, and its frictions.

        Parameters
        ----------
        motion : ThermalMotion
        frictions : (n_systems, width), 1 / ASE time
            Before.
        thermal : float or (n_systems,), eV
        timestep : float, ASE units
        noise : (n_atoms, 3)
            Unit normals.
        """
        state, half = motion.state, 0.5 * timestep
        if isinstance(thermal, Tensor):
            thermal = thermal[state.system_index]
        groups = self._groups(motion)
        xi = frictions + half * groups.rate(motion, thermal)
        decay = timestep * xi.flatten()[groups.index]
        variance = 2 * self.friction * timestep * thermal * _mean_decay(2 * decay)
        kicks = FS * torch.sqrt(variance / state.masses)[:, None] * noise
        after = motion.changed(torch.exp(-decay)[:, None] * state.velocities + kicks)
        return after, xi + half * groups.rate(after, thermal)

    def thermal_energy(self, time: float) -> float:
        """Return kT at `time` (ASE units), eV.

        Raises
        ------
        ValueError
            It is zero, negative or not finite.
        """
        thermal = super().thermal_energy(time)
        _check_warm(thermal / KB)
        return thermal

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return super().todict() | {
            "friction": self.friction,
            "taut": self.taut,
            "per_element": self.per_element,
        }

    def _groups(self, motion: ThermalMotion) -> _Groups:
        """Return the atoms that share a friction, at their positions."""
        state, width = motion.state, self.frictions.shape[1]
        group = state.atomic_numbers if self.per_element else 0 * state.atomic_numbers
        free = (motion.space.constraints.free_masses(state) > 0).double()
        both = torch.stack([motion.space.atom_dof(), 3 * free], dim=1)
        n_dof, coordinates = state.group_sums(both, group, width).unbind(1)
        inertia = coordinates.clamp(min=1.0) * self.taut**2  # no atom, no rate
        return _Groups(group, state.system_index * width + group, n_dof, inertia, width)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Atoms that share a friction, system by system.

    Attributes
    ----------
    own : (n_atoms,)
        Group of each atom among those of its system.
    index : (n_atoms,)
        Group of each atom among all.
    n_dof : (n_groups,)
        Degrees of freedom of each group at these positions.
    inertia : (n_groups,), ASE time squared
        Thermal mass over kT.
    width : int
        Groups of a system.
    """

    own: Int[Tensor, " atoms"]
    index: Int[Tensor, " atoms"]
    n_dof: Float[Tensor, " groups"]
    inertia: Float[Tensor, " groups"]
    width: int

    def rate(
        self, motion: ThermalMotion, thermal: float | Float[Tensor, " atoms"]
    ) -> Float[Tensor, "systems width"]:
        """Return the derivative of the frictions, 1 / ASE time squared."""
        twice = EV_PER_AMU_A2_FS2 / thermal * twice_kinetic(motion.state)
        found = motion.state.group_sums(twice, self.own, self.width)
        return ((found - self.n_dof) / self.inertia).reshape(-1, self.width)


def _mean_decay(x: Float[Tensor, " atoms"]) -> Float[Tensor, " atoms"]:
    r"""Return :math:`(1 - e^{-x})/x`, the mean of the decay over a stride; 1 at 0."""
    safe = torch.where(x == 0, 1.0, x)
    return torch.where(x == 0, 1.0, -torch.expm1(-safe) / safe)


def _check_warm(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(
            f"a temperature of {temperature:g} K has no kinetic energy that a friction "
            "could follow; give one above zero, or take Langevin"
        )
