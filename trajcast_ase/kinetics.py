r"""Kinetic energy, degrees of freedom and temperature of the thermal motion.

A model conserves total momentum, and the angular momentum of isolated systems. The
velocity that these prescribe (``conserved_motion``) carries no temperature:

.. math:: T = \frac{2 K'}{n_\mathrm{dof} k_B}, \qquad
    K' = \sum_i \tfrac12 m_i |v_i - v_i^\mathrm{conserved}|^2
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajcast_ase.conservation import Conservation, RigidBodies
from trajcast_ase.constraints import Constraints, constraints_of
from trajcast_ase.state import State, state_from_atoms, sum_systems
from trajcast_ase.trajectory import Frames
from trajcast_ase.units import EV_PER_AMU_A2_FS2, KB

UNCONSTRAINED = Constraints()
ATOMS_AT_ONCE = 10_000
"""Of the frames of a run that are looked at together."""


def kinetic_energies(state: State) -> Float[Tensor, " systems"]:
    """Return the kinetic energy of each system, eV."""
    return 0.5 * EV_PER_AMU_A2_FS2 * sum_systems(state, twice_kinetic(state))


def twice_kinetic(state: State) -> Float[Tensor, " atoms"]:
    """Return twice the kinetic energy of each atom, amu Å²/fs²."""
    return state.masses * state.velocities.square().sum(dim=1)


def atom_energies(
    velocities: Float[np.ndarray, "*frames atoms 3"],
    masses: Float[np.ndarray, " atoms"],
) -> Float[np.ndarray, "*frames atoms"]:
    """Return the kinetic energy of each atom in each frame, eV (Å/fs, amu)."""
    squares = np.sum(np.square(velocities), axis=-1)
    return np.asarray(0.5 * EV_PER_AMU_A2_FS2 * masses * squares)


@dataclass(frozen=True, slots=True)
class ThermalSpace:
    """The velocities of a batch that have a temperature.

    They are neither conserved nor held. In the mass-weighted inner product this space
    is orthogonal to what is conserved.

    Attributes
    ----------
    state : State
        Its positions count, not its velocities.
    constraints : Constraints
    conserves : (n_systems,) bool
        Where momenta are conserved: systems without fixed atoms.
    bodies : RigidBodies
        What the conserved momenta move, where they are conserved.
    n_dof : (n_systems,)
        Number of degrees of freedom.
    """

    state: State
    constraints: Constraints
    conserves: Bool[Tensor, " systems"]
    bodies: RigidBodies
    n_dof: Int[Tensor, " systems"]

    @classmethod
    def of(
        cls,
        state: State,
        rule: Conservation,
        constraints: Constraints = UNCONSTRAINED,
        known: RigidBodies | None = None,
    ) -> ThermalSpace:
        """Return the thermal velocities of `state` at its positions.

        `known` are its systems as bodies at these positions, if somebody has them.
        """
        conserves = constraints.conserve_momentum(state)
        bodies = known or RigidBodies.of(state, rule)
        n_dof = _count(state, constraints, conserves, bodies)
        return cls(state, constraints, conserves, bodies, n_dof)

    def conserved(
        self, velocities: Float[Tensor, "atoms 3"]
    ) -> Float[Tensor, "atoms 3"]:
        """Return the conserved part of `velocities`, Å/fs."""
        motion = self.bodies.motion(velocities)
        if self.constraints.free is None:
            return motion
        return torch.where(self.conserves[self.state.system_index, None], motion, 0.0)

    def projected(
        self, velocities: Float[Tensor, "atoms 3"]
    ) -> Float[Tensor, "atoms 3"]:
        """Return `velocities` without what is conserved or held, Å/fs."""
        allowed = self.constraints.allowed(velocities, self.state)
        return allowed - self.conserved(allowed)

    def atom_dof(self) -> Float[Tensor, " atoms"]:
        r"""Return the degrees of freedom of each atom, which sum to `n_dof`.

        The trace of the projector on the thermal velocities over the atom's axes: in
        equilibrium its kinetic energy at these positions is half of it times kT.

        .. math:: n_i = 3 - 3 \frac{m_i}{M}
            - m_i\, \mathrm{tr}\, I^{+} (r_i'^2 - r_i' r_i'^T)

        with the last term where angular momentum is conserved.
        """
        state, index = self.state, self.state.system_index
        masses = self.constraints.free_masses(state)
        holds = self.conserves
        if self.constraints.resting is not None:
            holds = holds | self.constraints.resting
        total = sum_systems(state, masses)[index]
        drift = torch.where(holds[index], masses / total, 0.0)
        share = 3.0 * (masses > 0) - 3.0 * drift
        if self.bodies.rotations is None:
            return share
        weights = self.bodies.rotations.weights(index)
        return share - self.conserves[index] * masses * weights


def _count(
    state: State,
    constraints: Constraints,
    conserves: Bool[Tensor, " systems"],
    bodies: RigidBodies,
) -> Int[Tensor, " systems"]:
    """Return the number of degrees of freedom that have a temperature."""
    free = torch.ones_like(state.system_index)
    if constraints.free is not None:
        free = free * constraints.free
    count = 3 * sum_systems(state, free)
    count = count - conserves * bodies.n_conserved
    if constraints.resting is not None:
        count = count - 3 * (constraints.resting & ~conserves)
    return count


@dataclass(frozen=True)
class ThermalMotion:
    """What a thermostat acts on: the thermal motion of a batch of systems.

    Attributes
    ----------
    state : State
        With the thermal part of the velocities only.
    space : ThermalSpace
        In which they are.
    """

    state: State
    space: ThermalSpace

    @property
    def n_dof(self) -> Int[Tensor, " systems"]:
        """Number of thermal degrees of freedom of each system."""
        return self.space.n_dof

    @cached_property
    def kinetic_energies(self) -> Float[Tensor, " systems"]:
        """Kinetic energy of each system, eV."""
        return kinetic_energies(self.state)

    def changed(self, velocities: Float[Tensor, "atoms 3"]) -> ThermalMotion:
        """Return the motion with the thermal part of `velocities` (Å/fs)."""
        thermal = self.space.projected(velocities)
        return ThermalMotion(
            self.state.moved(self.state.positions, thermal), self.space
        )


def conserved_motion(
    state: State, rule: Conservation, constraints: Constraints = UNCONSTRAINED
) -> Float[Tensor, "atoms 3"]:
    """Return the part of the velocities that the dynamics never changes, Å/fs.

    Zero where atoms are fixed: they take up any momentum.
    """
    return ThermalSpace.of(state, rule, constraints).conserved(state.velocities)


def thermal_motion(
    state: State, rule: Conservation, constraints: Constraints = UNCONSTRAINED
) -> ThermalMotion:
    """Return the motion of `state` relative to what is conserved or held."""
    space = ThermalSpace.of(state, rule, constraints)
    return ThermalMotion(state, space).changed(state.velocities)


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
    return int(ThermalSpace.of(system, rule, constraints).n_dof)


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
    motion = thermal_motion(state_from_atoms([atoms]), rule, constraints_of(atoms))
    n_dof = int(motion.n_dof)
    if n_dof == 0:
        return 0.0
    return 2 * float(motion.kinetic_energies) / (n_dof * KB)


def run_dof(frames: Frames) -> int:
    """Return the degrees of freedom of a run that have a temperature.

    By its last frame, without atoms that rest in all of them, and with the momenta
    conserved that physics conserves.
    """
    return degrees_of_freedom(frames.atoms(-1), Conservation())


def thermal_velocities(frames: Frames) -> Float[np.ndarray, "frames atoms 3"]:
    """Return the velocities of a run without what its forces conserve, Å/fs.

    The motion of which `run_dof` counts the degrees of freedom. Langevin baths let a
    run drift and turn, and other programs may not stop it at the start.
    """
    if frames.fixed.any():  # they take up any momentum
        return frames.velocities
    length = max(1, ATOMS_AT_ONCE // len(frames.masses))
    thermal = np.empty_like(frames.velocities)
    for start in range(0, frames.n_frames, length):
        part = slice(start, start + length)
        motion = thermal_motion(_state_of(frames, part), Conservation())
        thermal[part] = motion.state.velocities.reshape(-1, len(frames.masses), 3)
    return thermal


def _state_of(frames: Frames, part: slice) -> State:
    """Return some frames of a run as systems of one batch."""
    positions, velocities = frames.positions[part], frames.velocities[part]
    n_frames, n_atoms = positions.shape[:2]
    return State(
        torch.from_numpy(positions.reshape(-1, 3)),
        torch.from_numpy(velocities.reshape(-1, 3)),
        torch.from_numpy(frames.masses).repeat(n_frames),
        torch.from_numpy(frames.atomic_numbers).repeat(n_frames),
        torch.from_numpy(frames.cell).expand(n_frames, 3, 3),
        torch.from_numpy(frames.pbc).expand(n_frames, 3),
        torch.arange(n_frames).repeat_interleave(n_atoms),
    )


def run_temperature(frames: Frames) -> float:
    """Return the mean temperature of the thermal motion of a run by `run_dof`, K.

    Zero where there is none, as for a single isolated atom.
    """
    n_dof = run_dof(frames)
    if n_dof == 0:
        return 0.0
    total = atom_energies(thermal_velocities(frames), frames.masses).sum(axis=1)
    return float(2.0 * total.mean() / (n_dof * KB))
