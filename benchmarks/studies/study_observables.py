"""What the reports of ``trajcast validate`` leave out: diffusion and free energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from study_systems import TEMPERATURE_K

from trajcast_ase.analysis.blocks import cut_blocks
from trajcast_ase.analysis.free_energy import (
    PARACETAMOL_DIHEDRALS,
    PARACETAMOL_RELABELLINGS,
    dihedral,
    free_energy_surface,
)
from trajcast_ase.analysis.msd import (
    Diffusion,
    MeanSquareDisplacement,
    diffusion,
    msd,
)
from trajcast_ase.trajectory import Frames

LAG_PS = 10.0
"""Longest lag of mean square displacements, if the runs allow."""
FIT_SHARE = 0.2
"""Share of the longest lag at which the straight line begins."""
BLOCK_LAGS = 2.0
"""Length of a block, in longest lags."""
FREE_ENERGY_BLOCKS = 10


def pooled_msd(
    runs: Sequence[Frames], lag_ps: float = LAG_PS
) -> MeanSquareDisplacement:
    """Return the mean square displacement of several runs of one ensemble.

    Parameters
    ----------
    runs : sequence of Frames
    lag_ps : float, ps
        Longest lag; shorter where a run does not hold two blocks of twice that.
    """
    shortest = min(run.n_frames * run.stride_fs for run in runs)
    lag_fs = min(1e3 * lag_ps, shortest / (2 * BLOCK_LAGS) - runs[0].stride_fs)
    parts = [_blocks(run, lag_fs) for run in runs]
    blocks = {
        name: np.concatenate([part.blocks[name] for part in parts])
        for name in parts[0].blocks
    }
    return replace(
        parts[0],
        blocks=blocks,
        by_element={name: values.mean(axis=0) for name, values in blocks.items()},
        error={
            name: values.std(axis=0, ddof=1) / np.sqrt(len(values))
            for name, values in blocks.items()
        },
    )


def _blocks(run: Frames, lag_fs: float) -> MeanSquareDisplacement:
    length = run.n_frames * run.stride_fs
    return msd(
        run.positions,
        run.stride_fs,
        run.atomic_numbers,
        masses=run.masses,
        max_lag_fs=lag_fs,
        n_blocks=max(2, int(length / (BLOCK_LAGS * lag_fs))),
    )


def diffusion_of(moved: MeanSquareDisplacement, element: str) -> Diffusion:
    """Return the diffusion coefficient from the last four fifths of the lags."""
    last = float(moved.lag_fs[-1])
    return diffusion(moved, element, (FIT_SHARE * last, last))


@dataclass(frozen=True, slots=True)
class Profile:
    """Free energy over the hydroxyl torsion of paracetamol, symmetrised.

    Attributes
    ----------
    angle_deg : (n,), degrees
    free_energy_kT : (n,)
        Infinite where no frame is.
    error_kT : (n,)
        Standard error from blocks.
    """

    angle_deg: Float[np.ndarray, " bins"]
    free_energy_kT: Float[np.ndarray, " bins"]
    error_kT: Float[np.ndarray, " bins"]

    @property
    def barrier(self) -> float:
        """Highest point that was visited, kT."""
        seen = np.isfinite(self.free_energy_kT)
        return float(self.free_energy_kT[seen].max())


def hydroxyl_profile(runs: Sequence[Frames], n_bins: int = 36) -> Profile:
    """Return the free energy over the hydroxyl torsion, of all runs together."""
    angles = np.concatenate(
        [
            np.stack([dihedral(run.positions, four) for four in PARACETAMOL_DIHEDRALS])
            for run in runs
        ],
        axis=1,
    )
    whole = _marginal(angles, n_bins)
    blocks = cut_blocks(angles.T, FREE_ENERGY_BLOCKS)
    parts = np.stack([_marginal(block.T, n_bins) for block in blocks])
    error = parts.std(axis=0, ddof=1) / np.sqrt(len(parts))
    with np.errstate(divide="ignore", invalid="ignore"):
        free_energy = np.log(whole.max()) - np.log(whole)
        relative = np.where(whole > 0, error / whole, np.inf)
    centers = -180.0 + 360.0 / n_bins * (np.arange(n_bins) + 0.5)
    return Profile(centers, free_energy, relative)


def _marginal(
    angles: Float[np.ndarray, "2 frames"], n_bins: int
) -> Float[np.ndarray, " bins"]:
    """Return the probability of each bin of the first angle, symmetrised."""
    surface = free_energy_surface(
        *angles,
        TEMPERATURE_K,
        relabellings=PARACETAMOL_RELABELLINGS,
        n_bins=n_bins,
        n_blocks=2,
    )
    return np.asarray(surface.probability.sum(axis=1))


def largest_difference(run: Profile, reference: Profile) -> tuple[float, float]:
    """Return the largest difference of two free energies, kT, and the angle it is at.

    Infinite where only one of them was visited. Their zeros are chosen so that the mean
    difference, weighted by the reference's probability, is zero.
    """
    seen = np.isfinite(run.free_energy_kT) & np.isfinite(reference.free_energy_kT)
    only_one = np.isfinite(run.free_energy_kT) != np.isfinite(reference.free_energy_kT)
    if only_one.any():
        return np.inf, float(run.angle_deg[np.argmax(only_one)])
    weights = np.exp(-reference.free_energy_kT[seen])
    apart = run.free_energy_kT[seen] - reference.free_energy_kT[seen]
    apart = apart - np.average(apart, weights=weights)
    worst = int(np.abs(apart).argmax())
    return float(np.abs(apart)[worst]), float(run.angle_deg[seen][worst])
