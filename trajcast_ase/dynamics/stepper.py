"""One step of the dynamics: forecast, constraints, thermostats; of one or many systems.

The driver of one system and the batch of many take their steps here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from trajcast_ase.conservation import RigidBodies
from trajcast_ase.constraints import Constraints
from trajcast_ase.device.out_of_memory import explained_memory
from trajcast_ase.dynamics.rollback import Snapshot
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel, stride_with_bodies
from trajcast_ase.thermostats.thermostat import Thermostat, thermalize


@dataclass(frozen=True, slots=True)
class Stepper:
    """What acts in a step.

    Attributes
    ----------
    forecaster : ForecastModel
    thermostats : tuple of Thermostat
        Act after the forecast, in order.
    timestep : float, ASE units
    """

    forecaster: ForecastModel
    thermostats: tuple[Thermostat, ...]
    timestep: float

    def snapshot(self) -> Snapshot:
        """Return what a step changes beside the state, to undo it."""
        return Snapshot.of((self.forecaster, *self.thermostats))

    def forecast(
        self, state: State, constraints: Constraints
    ) -> tuple[State, RigidBodies | None]:
        """Return `state` one forecast later, its constraints honoured.

        And its systems as bodies there, unless constraints have moved them.
        """
        before = constraints.hold_velocities(state)
        memory = explained_memory("a forecast", state.n_atoms, state.device)
        with torch.no_grad(), memory:
            after, bodies = stride_with_bodies(self.forecaster, before)
            held = constraints.hold(before, after)
        return held, bodies if held is after else None

    def thermalized(
        self,
        state: State,
        constraints: Constraints,
        nsteps: int,
        bodies: RigidBodies | None = None,
    ) -> State:
        """Return `state` after the thermostats that end step number `nsteps`."""
        if not self.thermostats:
            return state
        with torch.no_grad():
            return thermalize(
                self.thermostats,
                state,
                self.forecaster.conservation,
                time=nsteps * self.timestep,
                timestep=self.timestep,
                constraints=constraints,
                bodies=bodies,
            )


def finite_atoms(state: State) -> Bool[Tensor, " atoms"]:
    """Return which atoms have finite positions and velocities."""
    values = torch.cat([state.positions, state.velocities], dim=1)
    return torch.isfinite(values).all(dim=1)
