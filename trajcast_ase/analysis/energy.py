"""Potential energies of frames through any ASE calculator, and their distribution."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from ase import Atoms
from jaxtyping import Float

from trajcast_ase.analysis.distribution import Distribution, distribution
from trajcast_ase.analysis.inputs import trajectory_array


class EnergyCalculator(Protocol):
    """What is asked of a calculator: any of ASE's has it."""

    def get_potential_energy(self, atoms: Atoms | None = None) -> float:
        """Return the potential energy, eV."""


def potential_energies(
    positions: Float[np.ndarray, "frames atoms 3"],
    atoms: Atoms,
    calculator: EnergyCalculator,
) -> Float[np.ndarray, " frames"]:
    """Return the potential energy of each frame, eV.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
    atoms : Atoms
        Elements, masses and cell; not changed.
    calculator : ASE calculator

    Raises
    ------
    ValueError
        The frames hold another number of atoms.
    """
    positions = trajectory_array(positions, "positions", least=1)
    if positions.shape[1] != len(atoms):
        raise ValueError(
            f"frames of {positions.shape[1]} atoms do not fit a structure of "
            f"{len(atoms)}; give the structure that was simulated"
        )
    frame = atoms.copy()
    energies = np.empty(len(positions))
    for index, coordinates in enumerate(positions):
        frame.positions = coordinates
        energies[index] = calculator.get_potential_energy(frame)
    return energies


def energy_distribution(
    energies_eV: Float[np.ndarray, " frames"],
    n_atoms: int,
    *,
    n_bins: int = 60,
    limits: tuple[float, float] | None = None,
    n_blocks: int = 10,
) -> Distribution:
    """Return the distribution of the potential energy per atom, eV.

    Parameters
    ----------
    energies_eV : (n_frames,), eV
        Of the whole system.
    n_atoms : int
    n_bins, limits, n_blocks
        As for :func:`trajcast_ase.analysis.distribution.distribution`, eV/atom.
    """
    if n_atoms < 1:
        raise ValueError(f"energies of {n_atoms} atoms have no share for each")
    return distribution(
        np.asarray(energies_eV) / n_atoms,
        name="potential energy",
        unit="eV/atom",
        n_bins=n_bins,
        limits=limits,
        n_blocks=n_blocks,
    )
