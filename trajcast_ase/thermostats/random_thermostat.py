"""What thermostats with random numbers share: temperature, streams, energy account."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.kinetics import ThermalMotion
from trajcast_ase.state import State
from trajcast_ase.streams import RandomSource, Streams
from trajcast_ase.thermostats.drawing import Drawing
from trajcast_ase.thermostats.schedules import (
    Temperature,
    checked_temperature,
    describe_temperature,
    temperature_at,
)
from trajcast_ase.units import FS, KB

FEWEST_WHOLE = 5.0
"""ASE units; smaller whole numbers are as likely meant as they are."""
LARGEST_WHOLE = 1e6
"""ASE units; larger ones are meant to switch something off."""


class UnitsWarning(UserWarning):
    """A number that was probably meant in another unit."""


def question_time(name: str, value: float) -> None:
    """Warn of a time in ASE units that looks like one in fs."""
    # n * units.fs is no whole number for any sensible n.
    if FEWEST_WHOLE <= value <= LARGEST_WHOLE and value.is_integer():
        warnings.warn(
            f"{name} = {value:g} is {value / FS:.4g} fs, since times are in ASE units; "
            f"if {value:g} fs were meant, write {name}={value:g} * units.fs",
            UnitsWarning,
            stacklevel=4,
        )


class RandomThermostat(Drawing):
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
    """

    variables: tuple[str, ...] = ("transferred_energy", *Drawing.variables)

    def __init__(
        self, temperature_K: Temperature, rng: RandomSource | Streams | None
    ) -> None:
        self.temperature_K = checked_temperature(temperature_K)
        super().__init__(rng)
        self.transferred_energy = torch.zeros(len(self.streams), dtype=torch.float64)

    def set_temperature(self, temperature_K: Temperature) -> None:
        """Set the temperature from the next stride on.

        Of several thermostats of one run: :meth:`.TrajCast.set_temperature`.

        Parameters
        ----------
        temperature_K : float, or callable of the time in ASE units, K

        Raises
        ------
        ValueError
            It is negative or not finite.
        """
        self.temperature_K = checked_temperature(temperature_K)

    def thermal_energy(self, time: float) -> float:
        """Return kT at `time` (ASE units), eV.

        Raises
        ------
        ValueError
            It is negative or not finite.
        """
        return KB * temperature_at(self.temperature_K, time)

    def __repr__(self) -> str:
        """Return the settings in K and fs on one line."""
        target = self.temperature_K
        parts = [f"{target!r}" if callable(target) else f"{target:g} K"]
        if hasattr(self, "friction"):
            parts.append(f"friction={self.friction * FS:.4g}/fs")
        if hasattr(self, "taut"):
            parts.append(f"taut={self.taut / FS:.4g} fs")
        return f"{type(self).__name__}({', '.join(parts)})"

    def todict(self) -> dict[str, Any]:
        """Return name and temperature as plain values."""
        return {
            "name": type(self).__name__,
            "temperature_K": describe_temperature(self.temperature_K),
        }

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
