"""Thermostats, noise and models for the tests of runs on a device."""

from __future__ import annotations

import numpy as np
import torch
from ase import units

from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.adaptive import AdaptiveLangevin
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.thermostats.noise import ForecastNoise, ResidualCovariance

TAUT = 50.5 * units.fs
KINDS = ("csvr", "langevin", "adaptive", "both")
COVARIANCES = {
    "O": ResidualCovariance(1e-6, 1e-8, 4e-10),
    "H": ResidualCovariance(4e-6, -1e-7, 9e-9),
}


def baths(kind, temperature=300.0, rng=None):
    """Return thermostats of a kind."""
    rng = rng or np.random.default_rng(5)
    if kind == "csvr":
        return CSVR(temperature, TAUT, rng)
    if kind == "langevin":
        return Langevin(temperature, 1 / TAUT, rng)
    if kind == "adaptive":
        return AdaptiveLangevin(temperature, 1 / TAUT, 2 * TAUT, rng)
    return [Langevin(temperature, 0.1 / TAUT, rng), CSVR(temperature, TAUT, rng)]


def kicks(rng=None):
    """Return noise for water."""
    return ForecastNoise(COVARIANCES, rng or np.random.default_rng(6))


class Unsure(Ballistic):
    """Free flight that is wild, a function of the state, in some strides of many.

    Where an atom's x lies in the last tenth of a step of 0.3 Å, it goes far.
    """

    wild = 1e9

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        lost = torch.remainder(state.positions[:, :1], 0.3) > 0.27
        return displacements * torch.where(lost, self.wild, 1.0), velocities


class Lost(Unsure):
    """The same, whose wild strides are not finite."""

    wild = float("nan")
