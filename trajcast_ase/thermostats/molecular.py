"""CSVR of molecules as wholes, and of the motion within them: without friction.

A weak Langevin bath returns energy to each motion, but it also takes momentum from
neighbors that drift together, so that a liquid diffuses more slowly; in MD with forces,
too. Where the motions that differ are those of molecules and those within them, two
numbers for a system do the same without friction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.analysis.molecules import find_molecules
from trajcast_ase.kinetics import ThermalMotion, kinetic_energies
from trajcast_ase.state import State
from trajcast_ase.thermostats.csvr import CSVR


@dataclass(frozen=True, slots=True)
class Partition:
    """The molecules of a batch of systems.

    Attributes
    ----------
    atomic_numbers, system_index : (n_atoms,) int64
        Of the batch that it was made for.
    atom_masses : (n_atoms,) float64, amu
    molecule : (n_atoms,) int64
        Of each atom, counted through the batch.
    members : (n_atoms,) int64
        Atoms, molecule by molecule.
    sizes : (n_molecules,) int64
        Atoms of each molecule.
    masses : (n_molecules, 1) float64, amu
    n_dof : (n_systems,) int64
        Degrees of freedom of the centres of the molecules.
    """

    atomic_numbers: Int[Tensor, " atoms"]
    system_index: Int[Tensor, " atoms"]
    atom_masses: Float[Tensor, " atoms"]
    molecule: Int[Tensor, " atoms"]
    members: Int[Tensor, " atoms"]
    sizes: Int[Tensor, " molecules"]
    masses: Float[Tensor, "molecules 1"]
    n_dof: Int[Tensor, " systems"]

    @classmethod
    def of(cls, motion: ThermalMotion) -> Partition:
        """Return the molecules of a batch, found by covalent radii.

        Raises
        ------
        ValueError
            A system is a network, has a single molecule or none of several atoms, or
            does not move freely under periodic conditions.
        """
        state = motion.state
        _check_free(motion)
        numbers: list[Tensor] = []
        counts: list[int] = []
        sizes = state.sizes()
        for system, (end, size) in enumerate(
            zip(accumulate(sizes), sizes, strict=True)
        ):
            own, count = _molecules_of(state, system, slice(end - size, end))
            _check_counts(system, size, count)
            numbers.append(own + sum(counts))
            counts.append(count)
        molecule = torch.cat(numbers).to(state.device)
        members, lengths = molecule.argsort(stable=True), molecule.bincount()
        return cls(
            state.atomic_numbers,
            state.system_index,
            state.masses,
            molecule,
            members,
            lengths,
            masses=_sums(state.masses[:, None], members, lengths),
            n_dof=3 * torch.tensor(counts, device=state.device) - 3,
        )

    def fits(self, state: State) -> bool:
        """Return whether its molecules are those of such a batch."""
        return torch.equal(self.atomic_numbers, state.atomic_numbers) and torch.equal(
            self.system_index, state.system_index
        )

    def weighed(self, state: State) -> Partition:
        """Return the same molecules with the masses of `state`, as after an edit."""
        if torch.equal(self.atom_masses, state.masses):
            return self
        masses = _sums(state.masses[:, None], self.members, self.sizes)
        return replace(self, atom_masses=state.masses, masses=masses)

    def centers(self, state: State) -> Float[Tensor, "atoms 3"]:
        """Return the velocity of the centre of each atom's molecule, Å/fs."""
        momenta = state.masses[:, None] * state.velocities
        total = _sums(momenta, self.members, self.sizes)
        return (total / self.masses)[self.molecule]

    def parts(self, motion: ThermalMotion) -> tuple[Part, Part]:
        """Return the motion of the centres, and that within the molecules."""
        centers = self.centers(motion.state)
        return (
            Part.of(motion.state, centers, self.n_dof),
            Part.of(
                motion.state,
                motion.state.velocities - centers,
                motion.n_dof - self.n_dof,
            ),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the motion of a batch of systems.

    Attributes
    ----------
    velocities : (n_atoms, 3), Å/fs
        This part of them only.
    kinetic : (n_systems,), eV
        Its energy.
    n_dof : (n_systems,) int64
        Its degrees of freedom.
    """

    velocities: Float[Tensor, "atoms 3"]
    kinetic: Float[Tensor, " systems"]
    n_dof: Int[Tensor, " systems"]

    @classmethod
    def of(
        cls,
        state: State,
        velocities: Float[Tensor, "atoms 3"],
        n_dof: Int[Tensor, " systems"],
    ) -> Part:
        """Return the part of the motion of `state` that has these velocities."""
        kinetic = kinetic_energies(state.moved(state.positions, velocities))
        return cls(velocities, kinetic, n_dof)


class MolecularCSVR(CSVR):
    """CSVR twice: of the motion of molecules as wholes, and of that within them.

    Each has its kinetic energy rescaled by a number of its own, so that both have the
    temperature, which equipartition asks for and CSVR alone does not see to. Unlike a
    Langevin bath it has no friction: diffusion is that of the forecasts. Bonds are
    found by covalent radii at the first stride, after a restart at the first one from
    there, and molecules stay what they are.

    Parameters
    ----------
    temperature_K, taut, rng
        As of :class:`.CSVR`.

    Raises
    ------
    ValueError
        As :class:`.CSVR`. At the first stride: a system is a network, has a single
        molecule or none of several atoms, is isolated, or has constraints.

    Notes
    -----
    Temperature groups of molecular centres and internal motion: Son, McDaniel, Cui,
    Yethiraj, J. Phys. Chem. Lett. 10, 7523 (2019), there with Nosé-Hoover chains. Each
    group is scaled as in Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007);
    the kinetic energies of both are independent in the canonical ensemble.
    """

    _partition: Partition | None = None

    def check_start(self, motion: ThermalMotion) -> None:
        """Raise ValueError for a system whose motion cannot be split and scaled."""
        for part in self.partition(motion).parts(motion):
            self.check_moving(part.kinetic, math.inf)

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the rescaled motion; see :class:`.Thermostat`.

        Raises
        ------
        ValueError
            The molecules rest, or all that is within them; see the class.
        """
        thermal, parts = self.thermal_energy(time), self.partition(motion).parts(motion)
        for part in parts:
            self.check_moving(part.kinetic, thermal)
        numbers = [self.draws(part.n_dof) for part in parts]
        after = self.rescaled_parts(motion, parts, thermal, timestep, numbers)
        return self._book(motion, after)

    def rescaled_parts(
        self,
        motion: ThermalMotion,
        parts: Sequence[Part],
        thermal: float | Float[Tensor, " systems"],
        timestep: float,
        numbers: Sequence[tuple[Float[Tensor, " systems"], Float[Tensor, " systems"]]],
    ) -> ThermalMotion:
        """Return the motion whose parts are scaled by given random numbers.

        Parameters
        ----------
        motion : ThermalMotion
        parts : sequence of Part
            That add up to it.
        thermal : float or (n_systems,), eV
        timestep : float, ASE units
        numbers : pairs of (n_systems,) and (n_systems,)
            For each part, `normal` and `others` of :meth:`.CSVR.rescaled`.
        """
        index = motion.state.system_index
        velocities = torch.zeros_like(motion.state.velocities)
        for part, drawn in zip(parts, numbers, strict=True):
            scale = self.scales(part.kinetic, thermal, timestep, *drawn)
            velocities = velocities + scale[index, None] * part.velocities
        return motion.changed(velocities)

    def partition(self, motion: ThermalMotion) -> Partition:
        """Return the molecules, found anew only for other atoms, with their masses.

        Raises
        ------
        ValueError
            See the class.
        """
        if self._partition is None or not self._partition.fits(motion.state):
            self._partition = Partition.of(motion)
        self._partition = self._partition.weighed(motion.state)
        return self._partition


def _sums(
    values: Float[Tensor, "atoms axes"],
    members: Int[Tensor, " atoms"],
    sizes: Int[Tensor, " molecules"],
) -> Float[Tensor, "molecules axes"]:
    """Return the sum over each molecule, in an order that no device changes."""
    # "unsafe": without it the host would look at the lengths.
    return torch.segment_reduce(
        values[members], "sum", lengths=sizes, axis=0, unsafe=True
    )


def _molecules_of(
    state: State, system: int, rows: slice
) -> tuple[Int[Tensor, " atoms"], int]:
    """Return the molecule of each atom of a system, and how many there are."""
    positions, numbers, cell, pbc = (
        one.cpu().numpy()
        for one in (
            state.positions[rows],
            state.atomic_numbers[rows],
            state.cell[system],
            state.pbc[system],
        )
    )
    try:
        found = find_molecules(positions, numbers, cell=cell, pbc=pbc)
    except ValueError as error:
        raise ValueError(
            f"MolecularCSVR needs molecules, but of system {system} {error}; use CSVR"
        ) from error
    own = torch.zeros(len(numbers), dtype=torch.int64)
    for k, members in enumerate(found.members):
        own[torch.from_numpy(members)] = k
    return own, len(found.members)


def _check_free(motion: ThermalMotion) -> None:
    """Raise ValueError unless all systems have 3 N - 3 degrees of freedom."""
    held = motion.space.constraints.free is not None
    for system, (size, n_dof) in enumerate(
        zip(motion.state.sizes(), motion.n_dof.tolist(), strict=True)
    ):
        if held or n_dof != 3 * size - 3:
            raise ValueError(
                f"system {system} of {size} atoms with {n_dof} thermal degrees of "
                "freedom is isolated, or constraints hold some of it; MolecularCSVR is "
                "for free molecules under periodic conditions, so use CSVR"
            )


def _check_counts(system: int, size: int, count: int) -> None:
    """Raise ValueError where molecules and the motion within them are one."""
    if count in {1, size}:
        what = "one molecule" if count == 1 else "single atoms"
        raise ValueError(
            f"system {system} of {size} atoms is {what}, which MolecularCSVR cannot "
            "split into motion of molecules and within them; use CSVR"
        )
