r"""Kinetic temperature and its expected distribution.

The kinetic energy of `n_dof` degrees of freedom at temperature :math:`T_0` is
gamma-distributed, so the instantaneous temperature :math:`T = 2K / (n_{dof} k_B)` has

.. math:: p(T) = \mathrm{Gamma}\!\left(T;\ \tfrac{n_{dof}}{2},\
          \mathrm{scale} = \tfrac{2 T_0}{n_{dof}}\right), \qquad
          \sigma_T = T_0 \sqrt{2 / n_{dof}} .
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from scipy import stats

from trajcast_ase.kinetics import atom_energies
from trajcast_ase.units import KB


def temperature(
    velocities: Float[np.ndarray, "frames atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    n_dof: int,
) -> Float[np.ndarray, " frames"]:
    """Return the kinetic temperature of each frame, K.

    Parameters
    ----------
    velocities : (n_frames, n_atoms, 3), Å/fs
    masses : (n_atoms,), amu
    n_dof : int
        Degrees of freedom that carry kinetic energy: 3N - 6 for an isolated nonlinear
        molecule at rest, 3N - 3 for a periodic system.
    """
    total = atom_energies(velocities, masses).sum(axis=1)
    return np.asarray(2.0 * total / (n_dof * KB))


def element_temperatures(
    velocities: Float[np.ndarray, "frames atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    n_dof: int,
) -> dict[str, Float[np.ndarray, " frames"]]:
    """Return the kinetic temperature of each element, K, frame by frame.

    Each atom that moves is counted with an equal share of `n_dof`; elements whose
    atoms all rest, as under FixAtoms, are left out. The elements of an
    isolated molecule at rest do not share one temperature in equilibrium, since the
    conserved momenta take more from the heavy and the outer atoms: compare with
    reference MD, not with the thermostat's temperature.
    """
    energies = atom_energies(velocities, masses)
    moves = velocities.any(axis=(0, 2))
    series = {}
    for number in np.unique(atomic_numbers[moves]):
        chosen = moves & (atomic_numbers == number)
        share = n_dof * chosen.sum() / moves.sum()
        series[chemical_symbols[number]] = np.asarray(
            2.0 * energies[:, chosen].sum(axis=1) / (share * KB)
        )
    return series


def canonical_density(
    temperatures: Float[np.ndarray, " points"], temperature_K: float, n_dof: int
) -> Float[np.ndarray, " points"]:
    """Return the expected density of the kinetic temperature, 1/K."""
    gamma = stats.gamma(a=n_dof / 2, scale=2.0 * temperature_K / n_dof)
    return np.asarray(gamma.pdf(temperatures))
