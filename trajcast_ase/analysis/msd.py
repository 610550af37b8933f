r"""Mean square displacement and diffusion.

.. math::
    \mathrm{MSD}(t) = \langle |r_i(s + t) - r_i(s)|^2 \rangle_{i,s}, \qquad
    D = \frac{1}{6} \frac{d\,\mathrm{MSD}}{dt}

averaged over all starts s by Fourier transforms (Calandrini et al., Collection SFN 12,
201 (2011)). A cubic periodic box of length L slows diffusion; the coefficient of the
infinite system is larger by :math:`\xi k_B T / (6 \pi \eta L)` with the shear viscosity
:math:`\eta` and :math:`\xi = 2.837297` (Yeh and Hummer, J. Phys. Chem. B 108, 15873
(2004)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int
from scipy import constants, fft

from trajcast_ase.analysis.blocks import (
    Estimate,
    cut_blocks,
    profile_average,
    replica_average,
)
from trajcast_ase.analysis.inputs import (
    check_per_atom,
    check_stride,
    trajectory_array,
)
from trajcast_ase.box import Box
from trajcast_ase.units import DIFFUSION_PER_A2_FS

CUBIC_LATTICE_CONSTANT = 2.837297
CUBIC_TOLERANCE = 1e-3
FEWEST_POINTS = 3


@dataclass(frozen=True, slots=True)
class MeanSquareDisplacement:
    """Mean square displacement of each element.

    Attributes
    ----------
    lag_fs : (n,), fs
        From 0.
    by_element : dict of str to (n,), Å²
    error : dict of str to (n,), Å²
        Standard error from blocks.
    blocks : dict of str to (n_blocks, n), Å²
    stride_fs : float, fs
    """

    lag_fs: Float[np.ndarray, " lags"]
    by_element: dict[str, Float[np.ndarray, " lags"]]
    error: dict[str, Float[np.ndarray, " lags"]]
    blocks: dict[str, Float[np.ndarray, "blocks lags"]]
    stride_fs: float


@dataclass(frozen=True, slots=True)
class Diffusion:
    """A self-diffusion coefficient and where it was fitted.

    Attributes
    ----------
    coefficient : Estimate, 1e-9 m²/s
        In the box that was simulated, without :func:`yeh_hummer`.
    fit_window_fs : (first, last), fs
    exponent : Estimate
        Slope of log MSD against log t in the window: 1 for diffusion, 2 for free
        flight, 0 for a cage. D means something only near 1.
    """

    coefficient: Estimate
    fit_window_fs: tuple[float, float]
    exponent: Estimate


def msd(
    positions: Float[np.ndarray, "frames atoms 3"],
    stride_fs: float,
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    cell: Float[np.ndarray, "*frames 3 3"] | None = None,
    pbc: Bool[np.ndarray, 3] | None = None,
    masses: Float[np.ndarray, " atoms"] | None = None,
    max_lag_fs: float | None = None,
    n_blocks: int = 5,
) -> MeanSquareDisplacement:
    """Return the mean square displacement of each element.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
        Not wrapped; if `cell` and `pbc` are given, wrapped or not.
    stride_fs : float, fs
    atomic_numbers : (n_atoms,)
    cell : (3, 3), Å, and pbc : (3,) bool
    masses : (n_atoms,), amu, optional
        Given: displacements are relative to the center of mass.
    max_lag_fs : float, fs, optional
        Default and limit: half a block, and a whole one.
    n_blocks : int
        Consecutive pieces of the run, whose scatter gives the errors.

    Raises
    ------
    ValueError
        The run is too short for the lags, the cell changes, or atoms move too far
        between frames to unwrap.
    """
    positions = trajectory_array(positions, "positions", least=2 * n_blocks)
    check_per_atom(atomic_numbers, positions.shape[1], "atomic numbers")
    check_stride(stride_fs)
    positions = Box.of(cell, pbc).unwrap(positions)
    if masses is not None:
        check_per_atom(masses, positions.shape[1], "masses")
        center = np.average(positions, axis=1, weights=masses)
        positions = positions - center[:, None]
    pieces = cut_blocks(positions, n_blocks)
    n_lags = _n_lags(pieces.shape[1], stride_fs, max_lag_fs)
    per_atom = np.stack([_windowed(piece, n_lags) for piece in pieces])
    blocks = {
        chemical_symbols[number]: per_atom[..., atomic_numbers == number].mean(axis=2)
        for number in np.unique(atomic_numbers)
    }
    profiles = {name: profile_average(values) for name, values in blocks.items()}
    return MeanSquareDisplacement(
        lag_fs=stride_fs * np.arange(n_lags),
        by_element={name: mean for name, (mean, _) in profiles.items()},
        error={name: error for name, (_, error) in profiles.items()},
        blocks=blocks,
        stride_fs=stride_fs,
    )


def diffusion(
    result: MeanSquareDisplacement, element: str, fit_window_fs: tuple[float, float]
) -> Diffusion:
    """Return the self-diffusion coefficient of an element from a straight line.

    Parameters
    ----------
    result : MeanSquareDisplacement
    element : str
    fit_window_fs : (first, last), fs
        Beyond the ballistic and caged times, below about half of the longest lag.

    Raises
    ------
    ValueError
        The element does not occur, the window holds fewer than three lags, or
        nothing moves.
    """
    if element not in result.blocks:
        raise ValueError(f"there is no {element}; choose of {list(result.blocks)}")
    first, last = fit_window_fs
    chosen = (result.lag_fs >= max(first, result.stride_fs)) & (result.lag_fs <= last)
    if chosen.sum() < FEWEST_POINTS or last > result.lag_fs[-1] + result.stride_fs:
        raise ValueError(
            f"a fit from {first:g} to {last:g} fs has {chosen.sum()} lags, which end "
            f"at {result.lag_fs[-1]:g} fs; choose a window of at least "
            f"{FEWEST_POINTS} or give a longer run"
        )
    time, curves = result.lag_fs[chosen], result.blocks[element][:, chosen]
    if not np.all(curves > 0):
        raise ValueError(
            f"{element} does not move within {first:g} to {last:g} fs; diffusion needs "
            "moving atoms"
        )
    slopes = np.polynomial.polynomial.polyfit(time, curves.T, 1)[1]
    logs = np.polynomial.polynomial.polyfit(np.log(time), np.log(curves.T), 1)[1]
    return Diffusion(
        coefficient=replica_average(slopes / 6.0 * DIFFUSION_PER_A2_FS),
        fit_window_fs=(float(time[0]), float(time[-1])),
        exponent=replica_average(logs),
    )


def yeh_hummer(
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, 3],
    temperature_K: float,
    viscosity_mPa_s: float,
) -> float:
    """Return what a cubic periodic box takes from a diffusion coefficient, 1e-9 m²/s.

    Add it to :attr:`Diffusion.coefficient` for that of the infinite system.

    Parameters
    ----------
    cell : (3, 3), Å, and pbc : (3,) bool
    temperature_K : float, K
    viscosity_mPa_s : float, mPa s
        Shear viscosity of the model liquid; water at 300 K has 0.85 in experiment.

    Raises
    ------
    ValueError
        The box is not cubic and periodic, or a number is not positive.
    """
    box = Box.of(cell, pbc)
    length = box.volume ** (1 / 3)
    gram = box.cell @ box.cell.T / length**2
    if not box.pbc.all() or np.abs(gram - np.eye(3)).max() > CUBIC_TOLERANCE:
        raise ValueError(
            f"the cell {box.cell.tolist()} with pbc {box.pbc.tolist()} is not a cubic "
            "periodic box; run several sizes and extrapolate in 1/L"
        )
    if not (temperature_K > 0 and viscosity_mPa_s > 0):
        raise ValueError(
            f"{temperature_K:g} K and {viscosity_mPa_s:g} mPa s must be positive"
        )
    friction = 6 * np.pi * viscosity_mPa_s * 1e-3 * length * constants.angstrom
    slowed = CUBIC_LATTICE_CONSTANT * constants.k * temperature_K / friction
    return float(slowed / 1e-9)


def _n_lags(n_frames: int, stride_fs: float, max_lag_fs: float | None) -> int:
    """Return the number of lags, zero included, within a piece of `n_frames`."""
    if max_lag_fs is None:
        return n_frames // 2 + 1
    n_lags = round(max_lag_fs / stride_fs) + 1
    if not 1 < n_lags <= n_frames:
        raise ValueError(
            f"a lag of {max_lag_fs:g} fs is not within a block of {n_frames} frames of "
            f"{stride_fs:g} fs; give a longer run, fewer blocks or a shorter max_lag_fs"
        )
    return n_lags


def _windowed(
    positions: Float[np.ndarray, "frames atoms 3"], n_lags: int
) -> Float[np.ndarray, "lags atoms"]:
    """Return the mean over all starts of each atom's square displacement, Å²."""
    n_frames = len(positions)
    # Relative to the mean: the sums below cancel, the more the farther off the origin.
    centered = positions - positions.mean(axis=0)
    squares = np.square(centered).sum(axis=2)
    sums = np.concatenate([np.zeros_like(squares[:1]), np.cumsum(squares, axis=0)])
    lags = np.arange(n_lags)
    both_ends = sums[n_frames - lags] + sums[n_frames] - sums[lags]
    products = np.stack(
        [_autocorrelation(atom, n_lags) for atom in centered.transpose(1, 0, 2)], axis=1
    )
    starts = (n_frames - lags)[:, None]
    result = np.maximum((both_ends - 2 * products) / starts, 0.0)
    result[0] = 0.0
    return np.asarray(result)


def _autocorrelation(
    path: Float[np.ndarray, "frames 3"], n_lags: int
) -> Float[np.ndarray, " lags"]:
    """Return the sum over starts of x(s) · x(s + lag)."""
    size = fft.next_fast_len(2 * len(path), real=True)
    power = np.abs(fft.rfft(path, n=size, axis=0)) ** 2
    return np.asarray(fft.irfft(power.sum(axis=1), n=size)[:n_lags])
