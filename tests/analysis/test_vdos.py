"""Spectra against signals whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest

from trajcast_ase.analysis.vdos import (
    Spectrum,
    nyquist_cm,
    overlap,
    vdos,
    vdos_error,
)

CM_PER_FS = 2.99792458e-5  # c in cm/fs, written out here on purpose


def oscillator(
    wavenumber_cm: float, *, stride_fs: float, n_frames: int = 4000
) -> np.ndarray:
    """Return the velocities of one atom on a spring along x, Å/fs."""
    time = stride_fs * np.arange(n_frames)
    velocities = np.zeros((n_frames, 1, 3))
    velocities[:, 0, 0] = 0.01 * np.cos(2 * np.pi * wavenumber_cm * CM_PER_FS * time)
    return velocities


def peak(spectrum: Spectrum) -> float:
    return float(spectrum.frequency_cm[np.argmax(spectrum.total)])


@pytest.mark.parametrize("wavenumber_cm", [400.0, 1650.0, 3100.0])
def test_peak_of_a_harmonic_oscillator(wavenumber_cm):
    velocities = oscillator(wavenumber_cm, stride_fs=1.0)
    spectrum = vdos(velocities, 1.0, np.array([12.0]), np.array([6]), window_fs=2000.0)
    assert abs(peak(spectrum) - wavenumber_cm) <= spectrum.spacing_cm
    near = np.abs(spectrum.frequency_cm - wavenumber_cm) < 4 * spectrum.spacing_cm
    assert spectrum.total[near].sum() * spectrum.spacing_cm > 0.99


def test_a_fast_oscillator_folds_back_at_a_long_stride():
    velocities = oscillator(3000.0, stride_fs=7.0)
    spectrum = vdos(velocities, 7.0, np.array([1.0]), np.array([1]))
    folded = 2 * nyquist_cm(7.0) - 3000.0
    assert abs(peak(spectrum) - folded) <= spectrum.spacing_cm


def test_nyquist_limit_is_16678_over_the_stride():
    assert nyquist_cm(7.0) == pytest.approx(16678.2 / 7.0, rel=1e-5)


def test_elements_share_the_kinetic_energy_and_sum_to_one():
    # Equal speeds, masses 1 and 3: a quarter and three quarters of the energy.
    fast, slow = (oscillator(w, stride_fs=2.0) for w in (2000.0, 500.0))
    velocities = np.concatenate([fast, slow], axis=1)
    spectrum = vdos(velocities, 2.0, np.array([1.0, 3.0]), np.array([1, 8]))
    shares = {
        name: density.sum() * spectrum.spacing_cm
        for name, density in spectrum.by_element.items()
    }
    assert shares["H"] == pytest.approx(0.25, abs=1e-3)
    assert shares["O"] == pytest.approx(0.75, abs=1e-3)
    assert spectrum.total.sum() * spectrum.spacing_cm == pytest.approx(1.0, rel=1e-12)


def test_windows_are_counted():
    velocities = np.random.default_rng(3).normal(size=(1000, 2, 3))
    spectrum = vdos(velocities, 7.0, np.ones(2), np.array([1, 1]), window_fs=1400.0)
    assert spectrum.window_fs == 1400.0
    assert spectrum.n_windows == 9  # windows of 200 frames that start 100 apart


def test_overlap_is_one_with_itself_and_zero_with_a_disjoint_spectrum():
    first, second = (
        vdos(oscillator(w, stride_fs=2.0), 2.0, np.ones(1), np.array([1]))
        for w in (500.0, 2500.0)
    )
    assert overlap(first, first) == pytest.approx(1.0, rel=1e-12)
    assert overlap(first, second) < 1e-6


def test_spectra_of_different_strides_are_not_compared():
    first, second = (
        vdos(oscillator(500.0, stride_fs=d), d, np.ones(1), np.array([1]))
        for d in (2.0, 7.0)
    )
    with pytest.raises(ValueError, match="strides 2 and 7 fs"):
        overlap(first, second)


def test_a_run_shorter_than_the_window_is_refused():
    velocities = oscillator(500.0, stride_fs=7.0, n_frames=100)
    with pytest.raises(ValueError, match="200 frames of 7 fs, but the run has 100"):
        vdos(velocities, 7.0, np.ones(1), np.array([1]))


def test_resting_atoms_have_no_spectrum():
    with pytest.raises(ValueError, match="all velocities are zero"):
        vdos(np.zeros((300, 1, 3)), 7.0, np.ones(1), np.array([1]))


def test_a_stride_that_folds_stretches_back_says_so():
    velocities = np.random.default_rng(4).normal(size=(600, 2, 3))
    masses, numbers = np.ones(2), np.array([1, 8])
    note = vdos(velocities, 7.0, masses, numbers).aliasing
    assert "resolve up to 2383 cm⁻¹" in note
    assert "appears at 4765 - w" in note
    assert vdos(velocities, 4.0, masses, numbers).aliasing is None
    assert vdos(velocities, 6.0, masses, np.array([14, 8])).aliasing is None


@pytest.mark.statistical
def test_error_of_a_spectrum_is_the_scatter_of_independent_runs():
    # White noise, 40 runs of 63 windows, blocks of 15: the scatter is known to 11 %
    # in each of 26 bins and their mean to 2.5 %; the limit is four times that.
    rng = np.random.default_rng(5)
    masses, numbers = np.ones(1), np.array([1])
    runs = rng.normal(size=(40, 1600, 1, 3))
    window = {"window_fs": 350.0}
    totals = [vdos(run, 7.0, masses, numbers, **window).total for run in runs]
    claimed = [
        vdos_error(run, 7.0, masses, numbers, n_blocks=4, **window) for run in runs
    ]
    scatter = np.sqrt(np.var(totals, axis=0, ddof=1).mean())
    assert np.sqrt(np.mean(np.square(claimed))) == pytest.approx(scatter, rel=0.1)


@pytest.mark.parametrize(
    ("velocities", "message"),
    [
        (None, "has no velocities"),
        (np.ones((1, 2, 3)), "1 frame"),
        (np.ones((500, 3, 3)), "do not fit 3 atoms"),
    ],
)
def test_bad_input_is_refused_with_the_reason(velocities, message):
    with pytest.raises(ValueError, match=message):
        vdos(velocities, 7.0, np.ones(2), np.array([1, 1]))
