"""What a dynamics tells of itself: settings, temperature, accounts."""

from __future__ import annotations

from typing import Any

from ase.md.md import MolecularDynamics

from trajcast_ase.device.engine import Engine
from trajcast_ase.guards.guarding import Guarding
from trajcast_ase.guards.tally import Tally
from trajcast_ase.kinetics import degrees_of_freedom, temperature
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat


class Readings(MolecularDynamics):
    """The part of :class:`TrajCast` that tells of a run and changes nothing."""

    model: ForecastModel
    thermostats: tuple[Thermostat, ...]
    noise: ForecastNoise | None
    _guarding: Guarding
    _place: int
    _engine: Engine | None
    _model_description: dict[str, Any]

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the header of trajectories.

        Under "thermostat" stand the settings of one, or a list of those of several.
        """
        settings = {
            "type": "molecular-dynamics",
            "md-type": type(self).__name__,
            "timestep": self.dt,
            "horizon_fs": self.model.horizon_fs,
            "model": self._model_description,
        }
        if self.thermostats:
            members = [one.todict() for one in self.thermostats]
            settings["thermostat"] = members[0] if len(members) == 1 else members
        if self.noise is not None:
            settings["noise"] = self.noise.todict()
        if self._engine is not None:
            settings["engine"] = "device"  # whose random numbers are others
        return settings

    @property
    def n_dof(self) -> int:
        """Number of degrees of freedom that have a temperature.

        3 N, minus constraints, minus what the model conserves: 3, or 6 for an isolated
        molecule whose angular momentum is conserved (5 if linear).
        """
        return degrees_of_freedom(self.atoms, self.model.conservation)

    def get_temperature(self) -> float:
        """Return the temperature (K) of the `n_dof` thermal degrees of freedom.

        The log has it, too. ``atoms.get_temperature()`` divides by 3 N: for a molecule
        of 20 atoms with 54 thermal degrees of freedom it reads 270 K at 300 K.
        """
        return temperature(self.atoms, self.model.conservation)

    def __repr__(self) -> str:
        """Return system, model, thermostats and step on one line."""
        parts = [f"{self.atoms.symbols}", self._model_description["name"]]
        parts += map(repr, self.thermostats)
        return f"{type(self).__name__}({', '.join(parts)}, step {self.nsteps})"

    @property
    def transferred_energy(self) -> float:
        """Kinetic energy that all thermostats together have given so far, eV."""
        given = (one.transferred_energy[self._place] for one in self.thermostats)
        return float(sum(given))

    @property
    def tally(self) -> Tally:
        """What guards found so far in strides that were made, and those by forces.

        ``dynamics.tally.by_forces / dynamics.nsteps`` is the share of the latter.
        """
        return self._guarding.tally
