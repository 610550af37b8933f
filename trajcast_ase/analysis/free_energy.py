r"""Free-energy surface over two dihedral angles.

.. math:: F(\phi, \psi) = -k_B T \ln p(\phi, \psi), \qquad \min F = 0

Exchanging the labels of equivalent atoms, or reflecting the molecule, maps pairs of
angles to equally likely ones. Averaging over these maps before taking the logarithm
removes what depends on the labels alone and sharpens the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from trajcast_ase.analysis.blocks import cut_blocks, profile_average
from trajcast_ase.analysis.inputs import trajectory_array
from trajcast_ase.box import Box
from trajcast_ase.units import KB

N_DIHEDRAL = 4
FULL_TURN = 360.0
HALF_TURN = 180.0


@dataclass(frozen=True, slots=True)
class Relabelling:
    """A map of both angles to an equally likely pair: sign times angle plus shift.

    Attributes
    ----------
    sign : 1 or -1
        Of both angles.
    shift_deg : (first, second), degrees
    """

    sign: int = 1
    shift_deg: tuple[float, float] = (0.0, 0.0)


IDENTITY = (Relabelling(),)
PARACETAMOL_DIHEDRALS = ((6, 7, 8, 17), (1, 3, 4, 5))
"""Hydroxyl and ring-N torsion of the bundled paracetamol."""
PARACETAMOL_RELABELLINGS = (
    Relabelling(),
    Relabelling(sign=-1),
    Relabelling(shift_deg=(180.0, 180.0)),
    Relabelling(sign=-1, shift_deg=(180.0, 180.0)),
)
"""The ring's two sides are equivalent, and so is the mirror image."""


@dataclass(frozen=True, slots=True)
class FreeEnergySurface:
    """Free energy on a periodic grid of two angles.

    Attributes
    ----------
    angle_deg : (n,), degrees
        Middles of the bins of both angles, from -180 to 180.
    free_energy_eV : (n, n), eV
        First angle by rows; infinite where no frame is.
    error_eV : (n, n), eV
        Standard error from blocks; infinite where no frame is.
    probability : (n, n)
        Sums to 1.
    temperature_K : float, K
    n_frames : int
    """

    angle_deg: Float[np.ndarray, " bins"]
    free_energy_eV: Float[np.ndarray, "bins bins"]
    error_eV: Float[np.ndarray, "bins bins"]
    probability: Float[np.ndarray, "bins bins"]
    temperature_K: float
    n_frames: int

    def profile(self, axis: int) -> Float[np.ndarray, " bins"]:
        """Return the free energy over the first (0) or second (1) angle alone, eV."""
        marginal = self.probability.sum(axis=1 - axis)
        return _free_energy(marginal, self.temperature_K)


def dihedral(
    positions: Float[np.ndarray, "frames atoms 3"],
    quadruple: tuple[int, int, int, int],
    *,
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
) -> Float[np.ndarray, " frames"]:
    """Return a dihedral angle of each frame in [-180, 180), degrees; 0 is cis.

    Raises
    ------
    ValueError
        Not four different atoms of the trajectory.
    """
    positions = trajectory_array(positions, "positions", least=1)
    n_atoms = positions.shape[1]
    if len(set(quadruple)) != N_DIHEDRAL or not all(
        0 <= a < n_atoms for a in quadruple
    ):
        raise ValueError(
            f"{quadruple} are not four different atoms of {n_atoms}, counted from 0"
        )
    corners = positions[:, list(quadruple)]
    first, axis, last = (
        Box.of(cell, pbc).nearest(np.diff(corners, axis=1)).swapaxes(0, 1)
    )
    normal, other = np.cross(first, axis), np.cross(axis, last)
    along = np.linalg.norm(axis, axis=1) * np.einsum("fc,fc->f", first, other)
    angle = np.degrees(np.arctan2(along, np.einsum("fc,fc->f", normal, other)))
    return _wrapped(angle)


def free_energy_surface(
    first_deg: Float[np.ndarray, " frames"],
    second_deg: Float[np.ndarray, " frames"],
    temperature_K: float,
    *,
    relabellings: Sequence[Relabelling] = IDENTITY,
    n_bins: int = 36,
    n_blocks: int = 10,
) -> FreeEnergySurface:
    """Return the free energy over two angles.

    Parameters
    ----------
    first_deg, second_deg : (n_frames,), degrees
    temperature_K : float, K
    relabellings : sequence of Relabelling
        A group, the identity included.
    n_bins : int
        Of each angle; even, so that half a turn maps bins to bins.
    n_blocks : int
        For the errors; a block must be longer than the transitions take.

    Raises
    ------
    ValueError
        Different lengths, fewer frames than blocks, an odd number of bins, or a
        temperature that is not positive.
    """
    angles = np.stack([np.asarray(first_deg), np.asarray(second_deg)], axis=-1)
    if n_bins < 2 or n_bins % 2 or not temperature_K > 0:  # noqa: PLR2004
        raise ValueError(
            f"{n_bins} bins at {temperature_K:g} K: give an even number of bins and a "
            "positive temperature"
        )
    if not relabellings or not np.isfinite(angles).all():
        raise ValueError("no relabelling, or angles that are not finite; give both")
    edges = np.linspace(-HALF_TURN, HALF_TURN, n_bins + 1)
    blocks = np.stack(
        [
            np.mean([_histogram(block, each, edges) for each in relabellings], axis=0)
            for block in cut_blocks(angles, n_blocks)
        ]
    )
    mean, error = profile_average(blocks.reshape(n_blocks, -1))
    visited = mean > 0
    relative = np.divide(error, mean, out=np.full_like(mean, np.inf), where=visited)
    probability = mean.reshape(n_bins, n_bins)
    return FreeEnergySurface(
        angle_deg=0.5 * (edges[1:] + edges[:-1]),
        free_energy_eV=_free_energy(probability, temperature_K),
        error_eV=KB * temperature_K * relative.reshape(n_bins, n_bins),
        probability=probability,
        temperature_K=temperature_K,
        n_frames=len(angles),
    )


def _histogram(
    angles: Float[np.ndarray, "frames 2"],
    relabelling: Relabelling,
    edges: Float[np.ndarray, " edges"],
) -> Float[np.ndarray, "bins bins"]:
    mapped = _wrapped(relabelling.sign * angles + np.array(relabelling.shift_deg))
    counts, _, _ = np.histogram2d(mapped[:, 0], mapped[:, 1], bins=(edges, edges))
    return np.asarray(counts / len(angles))


def _wrapped(angles: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return angles in [-180, 180), degrees."""
    return np.asarray((angles + HALF_TURN) % FULL_TURN - HALF_TURN)


def _free_energy(
    probability: Float[np.ndarray, "*shape"], temperature_K: float
) -> Float[np.ndarray, "*shape"]:
    logs = np.full_like(probability, -np.inf)
    np.log(probability, out=logs, where=probability > 0)
    return np.asarray(KB * temperature_K * (logs.max() - logs))
