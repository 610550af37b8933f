r"""Vibrational density of states from velocities.

.. math::
    g(\nu) \propto \sum_i m_i \int \langle v_i(0) \cdot v_i(t) \rangle
    e^{-2\pi i c \nu t}\, dt

estimated as the mass-weighted power spectrum of the velocities, averaged over
overlapping Hann windows (Welch). Frames a time `stride_fs` apart resolve frequencies up
to 16678/`stride_fs` cm⁻¹; whatever vibrates faster folds back below that limit, so
compare spectra of equal strides only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from scipy.constants import speed_of_light
from scipy.signal import welch

from trajcast_ase.analysis.blocks import cut_blocks, profile_average
from trajcast_ase.analysis.inputs import (
    check_per_atom,
    check_stride,
    trajectory_array,
)
from trajcast_ase.analysis.overlap import curve_overlap

CM_PER_FS: float = speed_of_light * 1e2 * 1e-15
"""Way of light in one femtosecond, cm: wavenumber = frequency / CM_PER_FS."""
FASTEST_CM = 2400.0
"""Of vibrations without hydrogen, such as triple bonds and CO2, cm⁻¹."""
FASTEST_HYDROGEN_CM = 4000.0
"""Of stretches of bonds to hydrogen but H2 (4401) and HF (4138), cm⁻¹."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Share of the kinetic energy per wavenumber.

    Attributes
    ----------
    frequency_cm : (n,), cm⁻¹
        Equally spaced from 0 to the Nyquist limit of the stride.
    total : (n,), cm
        Sum over the elements; integrates to 1.
    by_element : dict of str to (n,), cm
        Each integrates to the element's share of the kinetic energy.
    stride_fs : float, fs
        Time between frames.
    window_fs : float, fs
        Length of the Hann window; the resolution is about 1.5 / (c window).
    n_windows : int
        Half-overlapping windows that were averaged.
    """

    frequency_cm: Float[np.ndarray, " bins"]
    total: Float[np.ndarray, " bins"]
    by_element: dict[str, Float[np.ndarray, " bins"]]
    stride_fs: float
    window_fs: float
    n_windows: int

    @property
    def spacing_cm(self) -> float:
        """Distance between neighboring frequencies, cm⁻¹."""
        return float(self.frequency_cm[1])

    @property
    def aliasing(self) -> str | None:
        """What the stride may fold back, in words; None where it resolves all.

        Judged by the elements alone: 4000 cm⁻¹ with hydrogen (H2 and HF themselves are
        faster), 2400 cm⁻¹ without.
        """
        limit = nyquist_cm(self.stride_fs)
        fastest = FASTEST_HYDROGEN_CM if "H" in self.by_element else FASTEST_CM
        if limit >= fastest:
            return None
        return (
            f"frames every {self.stride_fs:g} fs resolve up to {limit:.0f} cm⁻¹, these "
            f"elements may vibrate at up to {fastest:.0f} cm⁻¹: a band at w above the "
            f"limit appears at {2 * limit:.0f} - w; compare with spectra of the same "
            "stride only"
        )


def nyquist_cm(stride_fs: float) -> float:
    """Return the highest wavenumber that frames `stride_fs` apart resolve, cm⁻¹."""
    return 0.5 / (stride_fs * CM_PER_FS)


def vdos(
    velocities: Float[np.ndarray, "frames atoms 3"] | None,
    stride_fs: float,
    masses: Float[np.ndarray, " atoms"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    window_fs: float = 1400.0,
) -> Spectrum:
    """Return the vibrational density of states, total and by element.

    Parameters
    ----------
    velocities : (n_frames, n_atoms, 3), Å/fs
        Equally spaced in time.
    stride_fs : float, fs
        Time between frames.
    masses : (n_atoms,), amu
    atomic_numbers : (n_atoms,)
    window_fs : float, fs
        Rounded to a whole number of frames.

    Raises
    ------
    ValueError
        No velocities, fewer frames than one window, or velocities that are all zero.
    """
    velocities = trajectory_array(velocities, "velocities")
    check_stride(stride_fs)
    check_per_atom(masses, velocities.shape[1], "masses")
    check_per_atom(atomic_numbers, velocities.shape[1], "atomic numbers")
    n_frames = len(velocities)
    n_window = round(window_fs / stride_fs)
    if not 1 < n_window <= n_frames:
        raise ValueError(
            f"a window of {window_fs:g} fs is {n_window} frames of {stride_fs:g} fs, "
            f"but the run has {n_frames}; give a longer run, or choose a window "
            "between two frames and the whole run"
        )
    frequency, density = welch(
        velocities * np.sqrt(masses)[None, :, None],
        fs=1.0 / stride_fs,
        window="hann",
        nperseg=n_window,
        detrend=False,
        axis=0,
    )
    frequency_cm = frequency / CM_PER_FS
    per_atom = density.sum(axis=2)
    area = float(per_atom.sum() * frequency_cm[1])
    if area == 0.0:
        raise ValueError("all velocities are zero; a spectrum needs moving atoms")
    by_element = {
        chemical_symbols[number]: per_atom[:, atomic_numbers == number].sum(1) / area
        for number in np.unique(atomic_numbers)
    }
    return Spectrum(
        frequency_cm=frequency_cm,
        total=per_atom.sum(1) / area,
        by_element=by_element,
        stride_fs=stride_fs,
        window_fs=n_window * stride_fs,
        n_windows=1 + (n_frames - n_window) // (n_window - n_window // 2),
    )


def vdos_error(
    velocities: Float[np.ndarray, "frames atoms 3"] | None,
    stride_fs: float,
    masses: Float[np.ndarray, " atoms"],
    atomic_numbers: Int[np.ndarray, " atoms"],
    *,
    window_fs: float = 1400.0,
    n_blocks: int = 5,
) -> Float[np.ndarray, " bins"]:
    """Return the standard error of the total of :func:`vdos` from blocks, cm.

    Parameters
    ----------
    velocities, stride_fs, masses, atomic_numbers, window_fs
        As for :func:`vdos`.
    n_blocks : int
        Pieces of the run, each longer than a window.

    Raises
    ------
    ValueError
        As :func:`vdos` for each block.
    """
    blocks = cut_blocks(trajectory_array(velocities, "velocities"), n_blocks)
    totals = [
        vdos(block, stride_fs, masses, atomic_numbers, window_fs=window_fs).total
        for block in blocks
    ]
    return profile_average(np.stack(totals))[1]


def overlap(first: Spectrum, second: Spectrum) -> float:
    """Return the overlap of two spectra, 1 where they are equal.

    See :func:`trajcast_ase.analysis.overlap.curve_overlap`.

    Raises
    ------
    ValueError
        The spectra have different strides or windows.
    """
    if not (
        np.isclose(first.stride_fs, second.stride_fs)
        and np.isclose(first.window_fs, second.window_fs)
    ):
        raise ValueError(
            f"spectra of strides {first.stride_fs:g} and {second.stride_fs:g} fs and "
            f"windows {first.window_fs:g} and {second.window_fs:g} fs cannot be "
            "compared; compute both with equal ones"
        )
    return float(curve_overlap(first.total, second.total))
