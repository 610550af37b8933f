"""From edges and velocities to the raw forecast."""

from trajcast_ase.network.forecaster import Forecaster, ForecasterConfig

__all__ = ["Forecaster", "ForecasterConfig"]
