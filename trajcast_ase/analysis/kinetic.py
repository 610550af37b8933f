r"""Kinetic energy by element, axis and molecular motion against its exact expectation.

With mass-weighted velocities :math:`w = M^{1/2} v`, conserved momenta confine the
thermal motion of a configuration to the complement of the orthonormal vectors Q of
rigid translation and, for isolated systems, rotation:

.. math::
    \langle w w^T \rangle = k_B T\, P, \quad P = 1 - Q Q^T, \qquad
    \langle K_g \rangle = \tfrac12 k_B T \,
    \langle \mathrm{tr}(P B_g) \rangle_\mathrm{configurations}

for any group of motions with projector :math:`B_g`: the atoms of an element, one axis,
the translations, rotations or internal motions of molecules. The trace is the number
of degrees of freedom of the group, so :math:`T_g = 2 K_g / (k_B \, \mathrm{tr})` is the
thermostat's temperature for each group, also where elements seem to differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from trajcast_ase.analysis.blocks import Estimate, block_average
from trajcast_ase.analysis.inputs import check_per_atom, trajectory_array
from trajcast_ase.analysis.molecules import Molecules, find_molecules
from trajcast_ase.box import Box
from trajcast_ase.conservation import SMALLEST_INERTIA, SMALLEST_MOMENT
from trajcast_ase.units import EV_PER_AMU_A2_FS2, KB

Conserved = Literal["nothing", "momentum", "both momenta"]

# A group with fewer degrees of freedom than this has none.
SMALLEST_DOF = 1e-6
FRAMES_AT_ONCE = 2048
RIGID = ("molecular translation", "molecular rotation")


@dataclass(frozen=True, slots=True)
class KineticShare:
    """Kinetic energy of a group of motions, and its degrees of freedom.

    Attributes
    ----------
    name : str
        Symbol of an element, "x", "y", "z", "molecular translation", "molecular
        rotation", "internal", or "all".
    energy : Estimate, eV
        Of the motion relative to the conserved one.
    n_dof : float
        Exact expectation over the configurations, in units of kT/2.
    """

    name: str
    energy: Estimate
    n_dof: float

    @property
    def temperature(self) -> Estimate:
        """Temperature of the group, K; that of the thermostat in equilibrium."""
        factor = 2.0 / (self.n_dof * KB)
        return Estimate(factor * self.energy.mean, factor * self.energy.error)

    def expected_energy(self, temperature_K: float) -> float:
        """Return the expectation at `temperature_K`, eV."""
        return 0.5 * self.n_dof * KB * temperature_K

    def deviation(self, temperature_K: float) -> float:
        """Return how many standard errors the energy is above its expectation."""
        excess = self.energy.mean - self.expected_energy(temperature_K)
        return excess / self.energy.error


def kinetic_shares(
    positions: Float[np.ndarray, "frames atoms 3"],
    velocities: Float[np.ndarray, "frames atoms 3"] | None,
    masses: Float[np.ndarray, " atoms"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
    conserved: Conserved | None = None,
    molecules: bool = True,
    n_blocks: int = 10,
) -> dict[str, KineticShare]:
    """Return the kinetic energy of each group of motions, by name.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
        Wrapped or not.
    velocities : (n_frames, n_atoms, 3), Å/fs
    masses : (n_atoms,), amu
    atomic_numbers : (n_atoms,)
    cell : (3, 3), Å, and pbc : (3,) bool
        Leave out for isolated systems.
    conserved : "nothing", "momentum" or "both momenta", optional
        By dynamics and thermostat; default: momentum, and angular momentum too where
        no axis is periodic; nothing where some atoms are fixed.
    molecules : bool
        Add the motions of molecules; False for crystals, which have none.
    n_blocks : int
        For the errors; a block must be longer than the correlation time.

    Returns
    -------
    dict of str to KineticShare
        Of the atoms that ever move: fixed ones have no degrees of freedom. Groups
        without any, such as the rotation of an isolated molecule at rest, are left out.

    Raises
    ------
    ValueError
        No velocities, fewer frames than blocks, a cell that changes, angular momentum
        in a periodic system, or molecules in a network.
    """
    positions = trajectory_array(positions, "positions", least=n_blocks)
    velocities = trajectory_array(velocities, "velocities", least=n_blocks)
    if positions.shape != velocities.shape:
        raise ValueError(
            f"positions {positions.shape} and velocities {velocities.shape} differ in "
            "shape; give those of the same frames"
        )
    check_per_atom(masses, positions.shape[1], "masses")
    check_per_atom(atomic_numbers, positions.shape[1], "atomic numbers")
    box = Box.of(cell, pbc)
    moving = velocities.any(axis=(0, 2))
    if moving.any() and not moving.all():
        conserved = conserved or "nothing"
        positions, velocities = positions[:, moving], velocities[:, moving]
        masses = np.asarray(masses)[moving]
        atomic_numbers = np.asarray(atomic_numbers)[moving]
    found = None
    if molecules:
        found = find_molecules(positions[0], atomic_numbers, cell=box.cell, pbc=box.pbc)
    system = _System(
        root_masses=np.sqrt(np.asarray(masses, dtype=np.float64)),
        atomic_numbers=np.asarray(atomic_numbers),
        box=box,
        conserved=_rule(conserved, box),
        molecules=found,
    )
    parts = [
        _groups(system, positions[at], velocities[at]) for at in _pieces(len(positions))
    ]
    shares = {}
    for name in parts[0]:
        energy, dof = (
            np.concatenate([part[name][index] for part in parts]) for index in (0, 1)
        )
        if dof.mean() > SMALLEST_DOF:
            shares[name] = KineticShare(
                name, block_average(energy, n_blocks), float(dof.mean())
            )
    return shares


Group = tuple[Float[np.ndarray, " frames"], Float[np.ndarray, " frames"]]
"""Kinetic energy (eV) and trace of the projected block, frame by frame."""


@dataclass(frozen=True, slots=True)
class _System:
    """What stays the same in all frames; masses by their square roots."""

    root_masses: Float[np.ndarray, " atoms"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    box: Box
    conserved: Conserved
    molecules: Molecules | None


def _pieces(n_frames: int) -> list[slice]:
    """Return slices of the frames that bound the memory of the projectors."""
    starts = range(0, n_frames, FRAMES_AT_ONCE)
    return [slice(start, start + FRAMES_AT_ONCE) for start in starts]


def _groups(
    system: _System,
    positions: Float[np.ndarray, "frames atoms 3"],
    velocities: Float[np.ndarray, "frames atoms 3"],
) -> dict[str, Group]:
    """Return all groups of some frames."""
    basis = _rigid_basis(system, positions)
    motion = system.root_masses[:, None] * velocities
    weights = np.einsum("fnaq,fna->fq", basis, motion)
    motion = motion - np.einsum("fnaq,fq->fna", basis, weights)
    groups = dict(_chosen_components(motion, basis, system.atomic_numbers))
    if system.molecules is not None:
        groups |= _molecular_groups(system, positions, motion, basis)
        rigid = [groups[name] for name in RIGID]
        energy, dof = groups["all"]
        groups["internal"] = (
            energy - sum(part[0] for part in rigid),
            dof - sum(part[1] for part in rigid),
        )
    return groups


def _chosen_components(
    motion: Float[np.ndarray, "frames atoms 3"],
    basis: Float[np.ndarray, "configurations atoms 3 vectors"],
    atomic_numbers: Int[np.ndarray, " atoms"],
) -> Iterator[tuple[str, Group]]:
    """Yield the groups that a choice of components makes up."""
    energy = 0.5 * EV_PER_AMU_A2_FS2 * np.square(motion)
    # The diagonal of the projector; constant where only momentum is conserved.
    dof = np.broadcast_to(1.0 - np.square(basis).sum(axis=3), motion.shape)
    yield "all", (energy.sum(axis=(1, 2)), dof.sum(axis=(1, 2)))
    for number in np.unique(atomic_numbers):
        chosen = atomic_numbers == number
        yield (
            chemical_symbols[number],
            (energy[:, chosen].sum(axis=(1, 2)), dof[:, chosen].sum(axis=(1, 2))),
        )
    for axis, name in enumerate("xyz"):
        yield name, (energy[..., axis].sum(axis=1), dof[..., axis].sum(axis=1))


def _molecular_groups(
    system: _System,
    positions: Float[np.ndarray, "frames atoms 3"],
    motion: Float[np.ndarray, "frames atoms 3"],
    basis: Float[np.ndarray, "configurations atoms 3 vectors"],
) -> dict[str, Group]:
    """Return translation and rotation, summed over the molecules."""
    molecules, root = system.molecules, system.root_masses
    if molecules is None:
        return {}
    whole = molecules.whole(positions, system.box)
    energies = np.zeros((len(RIGID), len(positions)))
    traces = np.zeros_like(energies)
    for atoms in molecules.members:
        bodies = (
            _translations(root[atoms])[None],
            _rotations(whole[:, atoms], root[atoms]),
        )
        for index, body in enumerate(bodies):
            weights = np.einsum("fnar,fna->fr", body, motion[:, atoms])
            energies[index] += np.square(weights).sum(axis=1)
            shared = np.einsum("fnar,fnaq->frq", body, basis[:, atoms])
            rank = np.square(body).sum(axis=(1, 2, 3))
            traces[index] += rank - np.square(shared).sum(axis=(1, 2))
    energies *= 0.5 * EV_PER_AMU_A2_FS2
    return {name: (energies[index], traces[index]) for index, name in enumerate(RIGID)}


def _rule(conserved: Conserved | None, box: Box) -> Conserved:
    if conserved == "both momenta" and box.is_periodic:
        raise ValueError(
            f"pbc {box.pbc.tolist()} does not conserve angular momentum; use "
            "conserved='momentum'"
        )
    return conserved or ("momentum" if box.is_periodic else "both momenta")


def _rigid_basis(
    system: _System, positions: Float[np.ndarray, "frames atoms 3"]
) -> Float[np.ndarray, "configurations atoms 3 vectors"]:
    """Return the orthonormal conserved motions of each frame, or one for all."""
    root = system.root_masses
    if system.conserved == "nothing":
        return np.zeros((1, len(root), 3, 1))
    shifts = _translations(root)[None]
    if system.conserved == "momentum":
        return shifts
    turns = _rotations(positions, root)
    repeated = np.broadcast_to(shifts, (len(positions), *shifts.shape[1:]))
    return np.concatenate([repeated, turns], axis=3)


def _translations(
    root: Float[np.ndarray, " atoms"],
) -> Float[np.ndarray, "atoms 3 3"]:
    """Return the orthonormal mass-weighted translations of some atoms."""
    return np.asarray(root[:, None, None] * np.eye(3) / np.linalg.norm(root))


def _rotations(
    positions: Float[np.ndarray, "frames atoms 3"], root: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, "frames atoms 3 3"]:
    """Return the orthonormal mass-weighted rotations, zero where there is none."""
    center = np.average(positions, axis=1, weights=root**2)
    arms = (positions - center[:, None]) * root[:, None]
    # Row a of `turns` is the velocity e_a x r; their Gram matrix is the inertia.
    turns = np.cross(np.eye(3)[None, None], arms[:, :, None])
    inertia = np.einsum("fnac,fnbc->fab", turns, turns)
    moments, axes = np.linalg.eigh(inertia)
    exists = moments > np.maximum(SMALLEST_MOMENT * moments[:, -1:], SMALLEST_INERTIA)
    scale = np.where(exists, 1.0 / np.sqrt(np.where(exists, moments, 1.0)), 0.0)
    turned = np.einsum("fnac,fab->fncb", turns, axes)
    return np.asarray(turned * scale[:, None, None])
