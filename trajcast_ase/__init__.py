"""Molecular dynamics with strides of 5 to 30 fs as an ASE dynamics driver.

Public names are imported on first use: ``import trajcast_ase`` loads neither torch nor
e3nn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trajcast_ase._version import __version__

if TYPE_CHECKING:
    from trajcast_ase.dynamics.driver import TrajCast
    from trajcast_ase.dynamics.fallback import ForceFallback
    from trajcast_ase.dynamics.replicas import Replicas
    from trajcast_ase.models.model_file import load_model, save_model
    from trajcast_ase.models.model_zoo import available_models
    from trajcast_ase.models.published import import_published
    from trajcast_ase.network.config import ForecasterConfig
    from trajcast_ase.network.forecaster import Forecaster
    from trajcast_ase.stride import forecast
    from trajcast_ase.thermostats.adaptive import AdaptiveLangevin
    from trajcast_ase.thermostats.csvr import CSVR
    from trajcast_ase.thermostats.langevin import Langevin
    from trajcast_ase.thermostats.molecular import MolecularCSVR
    from trajcast_ase.thermostats.noise import ForecastNoise
    from trajcast_ase.thermostats.schedules import ExponentialQuench, LinearRamp
    from trajcast_ase.thermostats.thermostat import Thermostat

__all__ = [
    "CSVR",
    "AdaptiveLangevin",
    "ExponentialQuench",
    "ForceFallback",
    "ForecastNoise",
    "Forecaster",
    "ForecasterConfig",
    "Langevin",
    "LinearRamp",
    "MolecularCSVR",
    "Replicas",
    "Thermostat",
    "TrajCast",
    "__version__",
    "available_models",
    "forecast",
    "import_published",
    "load_model",
    "save_model",
]

_MODULES = {
    "AdaptiveLangevin": "thermostats.adaptive",
    "CSVR": "thermostats.csvr",
    "MolecularCSVR": "thermostats.molecular",
    "ExponentialQuench": "thermostats.schedules",
    "ForceFallback": "dynamics.fallback",
    "ForecastNoise": "thermostats.noise",
    "Forecaster": "network.forecaster",
    "ForecasterConfig": "network.config",
    "Langevin": "thermostats.langevin",
    "LinearRamp": "thermostats.schedules",
    "Replicas": "dynamics.replicas",
    "Thermostat": "thermostats.thermostat",
    "TrajCast": "dynamics.driver",
    "available_models": "models.model_zoo",
    "forecast": "stride",
    "import_published": "models.published",
    "load_model": "models.model_file",
    "save_model": "models.model_file",
}


def __getattr__(name: str) -> Any:
    """Return a public name, importing its module on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
