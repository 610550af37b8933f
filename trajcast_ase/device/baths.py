"""Thermostats in a stride on a device: as on the host, with random numbers by counter.

What a thermostat changes beside the velocities are its variables, tensors with a row
for each system. Here they come in and go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.conservation import Conservation, RigidBodies
from trajcast_ase.constraints import Constraints
from trajcast_ase.device.draws import Draws, Need
from trajcast_ase.kinetics import ThermalMotion, ThermalSpace
from trajcast_ase.state import State
from trajcast_ase.thermostats.adaptive import AdaptiveLangevin
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.drawing import Drawing
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.thermostats.molecular import MolecularCSVR, Partition
from trajcast_ase.thermostats.random_thermostat import RandomThermostat
from trajcast_ase.thermostats.thermostat import Thermostat

Variables = dict[str, Tensor]
"""Of one thermostat, by name."""


class Action(Protocol):
    """How one kind of thermostat acts."""

    def __call__(
        self, motion: ThermalMotion, stroke: Stroke
    ) -> tuple[ThermalMotion, Variables]:
        """Return the motion after it, and the variables that changed."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """What a thermostat acts with at one stride.

    Attributes
    ----------
    thermostat : RandomThermostat
        Its settings.
    thermal : (n_systems,), eV
        :math:`k_B T`.
    timestep : float, ASE units
    variables : dict of tensors
        Before.
    draws : Draws
    partition : Partition or None
        The molecules, where the thermostat acts on them.
    """

    thermostat: RandomThermostat
    thermal: Float[Tensor, " systems"]
    timestep: float
    variables: Variables
    draws: Draws
    partition: Partition | None


def _csvr(motion: ThermalMotion, stroke: Stroke) -> tuple[ThermalMotion, Variables]:
    bath = stroke.thermostat
    assert isinstance(bath, CSVR)  # noqa: S101  by the table below
    after, given = bath.rescaled(
        motion,
        stroke.thermal,
        stroke.timestep,
        stroke.draws.system_normals(),
        stroke.draws.chi_squared(motion.n_dof - 1),
    )
    return after, _booked(stroke, given)


def _molecular(
    motion: ThermalMotion, stroke: Stroke
) -> tuple[ThermalMotion, Variables]:
    bath, known = stroke.thermostat, stroke.partition
    assert isinstance(bath, MolecularCSVR)  # noqa: S101  by the table below
    assert known is not None  # noqa: S101  by `partitions_of`
    parts = known.parts(motion)
    numbers = [
        (draws.system_normals(), draws.chi_squared(part.n_dof - 1))
        for part, draws in zip(parts, stroke.draws.both(), strict=True)
    ]
    after = bath.rescaled_parts(motion, parts, stroke.thermal, stroke.timestep, numbers)
    return after, _booked(stroke, after.kinetic_energies - motion.kinetic_energies)


def _langevin(motion: ThermalMotion, stroke: Stroke) -> tuple[ThermalMotion, Variables]:
    bath = stroke.thermostat
    assert isinstance(bath, Langevin)  # noqa: S101  by the table below
    thermal = stroke.thermal[motion.state.system_index]
    noise = stroke.draws.atom_normals()
    after = bath.kicked(motion, thermal, stroke.timestep, noise)
    return after, _booked(stroke, after.kinetic_energies - motion.kinetic_energies)


def _adaptive(motion: ThermalMotion, stroke: Stroke) -> tuple[ThermalMotion, Variables]:
    bath = stroke.thermostat
    assert isinstance(bath, AdaptiveLangevin)  # noqa: S101  by the table below
    after, frictions = bath.adapted(
        motion,
        stroke.variables["frictions"],
        stroke.thermal,
        stroke.timestep,
        stroke.draws.atom_normals(),
    )
    gained = after.kinetic_energies - motion.kinetic_energies
    return after, _booked(stroke, gained) | {"frictions": frictions}


def _booked(stroke: Stroke, given: Float[Tensor, " systems"]) -> Variables:
    return {"transferred_energy": stroke.variables["transferred_energy"] + given}


ACTIONS: dict[type, Action] = {
    CSVR: _csvr,
    MolecularCSVR: _molecular,
    Langevin: _langevin,
    AdaptiveLangevin: _adaptive,
}
"""By the exact type: a subclass may act in a way of its own."""
NEEDS: dict[type, Need] = {
    CSVR: Need.FOR_SYSTEMS,
    MolecularCSVR: Need.FOR_SYSTEMS_TWICE,
    Langevin: Need.FOR_ATOMS,
    AdaptiveLangevin: Need.FOR_ATOMS,
}


def checked_baths(thermostats: Sequence[Thermostat]) -> tuple[RandomThermostat, ...]:
    """Return thermostats that act on a device.

    Raises
    ------
    ValueError
        One of them acts on the host alone.
    """
    baths = []
    for one in thermostats:
        if type(one) not in ACTIONS:
            known = ", ".join(kind.__name__ for kind in ACTIONS)
            raise ValueError(
                f"a {type(one).__name__} acts on the host and cannot be combined with "
                f"engine='device', which knows {known}; leave the engine out"
            )
        assert isinstance(one, RandomThermostat)  # noqa: S101  all of the table are
        baths.append(one)
    return tuple(baths)


def partitions_of(
    baths: Sequence[RandomThermostat], motion: ThermalMotion
) -> tuple[Partition | None, ...]:
    """Return the molecules that each thermostat acts on, as the host finds them.

    Raises
    ------
    ValueError
        A thermostat acts on molecules, and there are none.
    """
    return tuple(
        bath.partition(motion) if isinstance(bath, MolecularCSVR) else None
        for bath in baths
    )


def thermalized(
    strokes: Sequence[Stroke],
    state: State,
    rule: Conservation,
    *,
    constraints: Constraints,
    bodies: RigidBodies | None,
) -> tuple[State, tuple[Variables, ...]]:
    """Return what :func:`.thermostat.thermalize` does, and the variables after it."""
    if not strokes:
        return state, ()
    space = ThermalSpace.of(state, rule, constraints, bodies)
    held = constraints.allowed(state.velocities, state)
    conserved = space.conserved(held)
    motion = ThermalMotion(state.moved(state.positions, held - conserved), space)
    changed = []
    for stroke in strokes:
        motion, new = ACTIONS[type(stroke.thermostat)](motion, stroke)
        changed.append(counted(stroke.variables | new))
    velocities = motion.state.velocities + conserved
    return state.moved(state.positions, velocities), tuple(changed)


def counted(variables: Variables) -> Variables:
    """Return variables of which one more stride has drawn."""
    return variables | {"strides": variables["strides"] + 1}


def constants_of(baths: Sequence[RandomThermostat]) -> list[tuple[object, ...]]:
    """Return the settings that a captured stride holds as numbers."""
    names = ("friction", "taut", "per_element")
    return [tuple(getattr(bath, name, None) for name in names) for bath in baths]


def variables_of(owner: Drawing, device: torch.device) -> Variables:
    """Return copies of the variables of a thermostat or noise on `device`."""
    return {
        name: getattr(owner, name).to(device=device, copy=True)
        for name in owner.variables
    }


def set_variables(owner: Drawing, variables: Variables) -> None:
    """Let the owner go on from `variables`; its keys stay where the host reads."""
    for name, value in variables.items():
        if name != "keys":
            setattr(owner, name, value.clone())
