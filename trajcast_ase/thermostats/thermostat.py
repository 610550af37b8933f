"""What a thermostat is, and how thermostats act after each forecast.

A thermostat sees the thermal motion only: velocities relative to the conserved motion
of the system (its drift, and the rotation of an isolated system), which stays as it is
(:func:`thermalize`). It acts on a batch of systems at once, of which each draws random
numbers of its own. Several thermostats act one after the other. There is no barostat: a
forecast knows no stress and the cell is fixed; for another density set the cell between
strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from trajcast_ase.conservation import Conservation, RigidBodies
from trajcast_ase.constraints import Constraints
from trajcast_ase.kinetics import UNCONSTRAINED, ThermalMotion, ThermalSpace
from trajcast_ase.state import State


@runtime_checkable
class Thermostat(Protocol):
    """What a driver needs of a thermostat; write your own with these three.

    A step that fails is undone. For that, a thermostat with random numbers keeps them
    in an attribute ``streams`` (:class:`trajcast_ase.streams.Streams`), and one with
    further tensors that have a row for each system names all of them in ``variables``.

    Attributes
    ----------
    transferred_energy : (n_systems,) float64 tensor, eV
        Kinetic energy given to each system so far.
    """

    transferred_energy: Float[Tensor, " systems"]

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the motion with other velocities: ``motion.changed(velocities)``.

        Parameters
        ----------
        motion : ThermalMotion
            Of all systems of a batch after a stride, velocities in Å/fs.
        time : float, ASE units
            Time of the driver at the end of the stride.
        timestep : float, ASE units
            Length of the stride.
        """

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the header of trajectories."""


@runtime_checkable
class ChecksStart(Protocol):
    """A thermostat that cannot start from every state; drivers ask it first."""

    def check_start(self, motion: ThermalMotion) -> None:
        """Raise ValueError if `motion` is no possible start."""


def thermalize(
    thermostats: Sequence[Thermostat],
    state: State,
    rule: Conservation,
    *,
    time: float,
    timestep: float,
    constraints: Constraints = UNCONSTRAINED,
    bodies: RigidBodies | None = None,
) -> State:
    """Return `state` after thermostats have acted on its thermal motion, in order.

    Positions, total momentum, conserved angular momentum and constraints are kept.

    Parameters
    ----------
    thermostats : sequence of Thermostat
    state : State
        Of any number of systems.
    rule : Conservation
        Of the model: ``model.conservation``.
    time, timestep : float, ASE units
    constraints : Constraints, optional
    bodies : RigidBodies, optional
        The systems of `state` at its positions, if they are known already.

    Raises
    ------
    ValueError
        A system has no thermal degree of freedom.
    """
    space = ThermalSpace.of(state, rule, constraints, bodies)
    check_thermal(space)
    held = constraints.allowed(state.velocities, state)
    conserved = space.conserved(held)
    motion = ThermalMotion(state.moved(state.positions, held - conserved), space)
    for thermostat in thermostats:
        motion = thermostat.apply(motion, time, timestep)
    return state.moved(state.positions, motion.state.velocities + conserved)


def check_thermal(space: ThermalSpace) -> None:
    """Raise ValueError for a system without a thermal degree of freedom."""
    if int(space.n_dof.min()) < 1:
        system = int(space.n_dof.argmin())
        raise ValueError(
            f"{space.state.sizes()[system]} atom(s) under these constraints have "
            f"{int(space.n_dof[system])} degrees of freedom with a temperature; run "
            "without a thermostat"
        )
