"""From edges and velocities to the raw forecast."""

from trajcast_ase.network.config import ForecasterConfig
from trajcast_ase.network.forecaster import Forecaster

__all__ = ["Forecaster", "ForecasterConfig"]
