r"""Kinetic energy, degrees of freedom and temperature of the thermal motion.

A model conserves total momentum, and the angular momentum of isolated systems. The
velocity that these prescribe (``conserved_motion``) carries no temperature:

.. math:: T = \frac{2 K'}{n_\mathrm{dof} k_B}, \qquad
    K' = \sum_i \tfrac12 m_i |v_i - v_i^\mathrm{conserved}|^2
"""

from __future__ import annotations

import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.conservation import Conservation, RigidBodies
from trajcast_ase.constraints import Constraints, constraints_of
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.units import EV_PER_AMU_A2_FS2, KB

UNCONSTRAINED = Constraints()


def kinetic_energy(state: State) -> float:
    """Return the kinetic energy of all systems of `state` together, eV."""
    twice = (state.masses[:, None] * state.velocities**2).sum()
    return 0.5 * EV_PER_AMU_A2_FS2 * float(twice)


def conserved_motion(
    state: State, rule: Conservation, constraints: Constraints = UNCONSTRAINED
) -> Float[Tensor, "atoms 3"]:
    """Return the part of the velocities that the dynamics never changes, Å/fs.

    Zero where atoms are fixed: they take up any momentum.
    """
    return prescribed_motion(moving_bodies(state, rule, constraints), state.velocities)


def moving_bodies(
    state: State, rule: Conservation, constraints: Constraints
) -> RigidBodies | None:
    """Return what conserved momenta move; None where fixed atoms take up any."""
    return RigidBodies.of(state, rule) if constraints.conserve_momentum else None


def prescribed_motion(
    bodies: RigidBodies | None, velocities: Float[Tensor, "atoms 3"]
) -> Float[Tensor, "atoms 3"]:
    """Return the conserved part of `velocities`, Å/fs."""
    return torch.zeros_like(velocities) if bodies is None else bodies.motion(velocities)


def thermal_motion(
    state: State, rule: Conservation, constraints: Constraints = UNCONSTRAINED
) -> State:
    """Return `state` with the velocities relative to its conserved motion."""
    moving = constraints.hold_velocities(state)
    conserved = conserved_motion(moving, rule, constraints)
    return moving.moved(moving.positions, moving.velocities - conserved)


def degrees_of_freedom(
    system: State | Atoms,
    rule: Conservation,
    constraints: Constraints | None = None,
) -> int:
    """Return the number of degrees of freedom that have a temperature.

    ``3 N``, minus 3 for the conserved momentum, minus 3 for the conserved angular
    momentum of an isolated system (2 if all atoms lie on a line, 0 for one atom).
    Fixed atoms remove 3 each and end both conservations; FixCom removes 3, which are
    the conserved momentum's.

    Parameters
    ----------
    system : State of one system, or Atoms
    rule : Conservation
        Of the model: ``model.conservation``.
    constraints : Constraints, optional
        Default: those of the `Atoms`, none for a `State`.

    Raises
    ------
    ValueError
        `system` holds more than one system.
    """
    if isinstance(system, Atoms):
        constraints = constraints or constraints_of(system)
        system = state_from_atoms([system])
    constraints = constraints or UNCONSTRAINED
    if system.n_systems != 1:
        raise ValueError(
            f"degrees of freedom of {system.n_systems} systems at once; pass one"
        )
    return n_thermal(system, moving_bodies(system, rule, constraints), constraints)


def n_thermal(
    state: State, bodies: RigidBodies | None, constraints: Constraints
) -> int:
    """Return the degrees of freedom of one system that have a temperature."""
    if bodies is not None:
        return 3 * state.n_atoms - int(bodies.n_conserved)
    n_free = state.n_atoms if constraints.free is None else int(constraints.free.sum())
    return 3 * n_free - 3 * constraints.fix_com


def temperature(atoms: Atoms, rule: Conservation) -> float:
    """Return the temperature of the thermal motion of `atoms`, K.

    ``atoms.get_temperature()`` divides by 3 N minus the constraints and so reads low
    by ``n_dof / (3 N)`` for a system without net momenta. The result is 0 for a system
    without any thermal degree of freedom.

    Parameters
    ----------
    atoms : Atoms
    rule : Conservation
        Of the model: ``model.conservation``.
    """
    state, constraints = state_from_atoms([atoms]), constraints_of(atoms)
    n_dof = degrees_of_freedom(state, rule, constraints)
    if n_dof == 0:
        return 0.0
    return 2 * kinetic_energy(thermal_motion(state, rule, constraints)) / (n_dof * KB)
