"""A rollout beside reference MD: temperature, elements, spectrum, bonds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Float

from trajcast_ase.analysis.blocks import Estimate, block_average
from trajcast_ase.analysis.bonds import bonded_pairs, longest_bonds
from trajcast_ase.analysis.temperature import element_temperatures, temperature
from trajcast_ase.analysis.vdos import Spectrum, overlap, vdos
from trajcast_ase.data import Reference

EQUILIBRATION = 0.1
"""Share of a run, from its start, that the averages leave out."""
BREAKING = 1.3
"""A bond is broken where it exceeds this multiple of the reference's longest."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Frames of a run, one per stride, the start included.

    Attributes
    ----------
    positions : (n_frames, n_atoms, 3), Å
        Not wrapped.
    velocities : (n_frames, n_atoms, 3), Å/fs
    stride_fs : float, fs
    """

    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    stride_fs: float

    @property
    def n_settled(self) -> int:
        """Number of the first frame after equilibration."""
        return round(EQUILIBRATION * (len(self.velocities) - 1))

    @property
    def settled_ps(self) -> float:
        """Length of the run after equilibration, ps."""
        return (len(self.velocities) - 1 - self.n_settled) * self.stride_fs * 1e-3

    @property
    def time_ps(self) -> Float[np.ndarray, " frames"]:
        """Time of each frame, ps."""
        return np.arange(len(self.velocities)) * self.stride_fs * 1e-3


@dataclass(frozen=True, slots=True)
class Comparison:
    """Numbers of a rollout, after equilibration, to hold against a reference.

    Attributes
    ----------
    temperature : Estimate, K
        By the reference's degrees of freedom.
    element_temperatures : dict of str to Estimate, K
    longest_bonds : dict of str to float, Å
        Over the whole run, equilibration included.
    bond_limits : dict of str to float, Å
    spectrum : Spectrum
    spectrum_overlap : float
    """

    temperature: Estimate
    element_temperatures: dict[str, Estimate]
    longest_bonds: dict[str, float]
    bond_limits: dict[str, float]
    spectrum: Spectrum
    spectrum_overlap: float

    @property
    def intact(self) -> bool:
        """Whether every bond stayed within its limit."""
        return all(
            self.longest_bonds[kind] <= limit
            for kind, limit in self.bond_limits.items()
        )


def compare(
    rollout: Rollout, atoms: Atoms, reference: Reference, *, n_blocks: int = 10
) -> Comparison:
    """Return the numbers of `rollout` that `reference` has too.

    Parameters
    ----------
    rollout : Rollout
        At the stride of the reference.
    atoms : Atoms
        Masses, elements, and a structure that shows the bonds.
    reference : Reference
    n_blocks : int
        Of the error bars; a block must be longer than the correlation time.

    Raises
    ------
    ValueError
        The run is too short, or its stride is not the reference's.
    """
    masses, numbers, n_dof = atoms.get_masses(), atoms.numbers, reference.n_dof
    settled = rollout.velocities[rollout.n_settled :]
    window = reference.spectrum.window_fs
    spectrum = vdos(settled, rollout.stride_fs, masses, numbers, window_fs=window)
    series = element_temperatures(settled, masses, numbers, n_dof)
    return Comparison(
        temperature=block_average(temperature(settled, masses, n_dof), n_blocks),
        element_temperatures={
            name: block_average(kelvin, n_blocks) for name, kelvin in series.items()
        },
        longest_bonds=longest_bonds(
            rollout.positions,
            bonded_pairs(atoms),
            numbers,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
        ),
        bond_limits={
            kind: BREAKING * length for kind, length in reference.longest_bonds.items()
        },
        spectrum=spectrum,
        spectrum_overlap=overlap(spectrum, reference.spectrum),
    )
