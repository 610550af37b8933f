"""Figures of motion: mean square displacement and spectra by element."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from trajcast_ase.analysis.msd import Diffusion, MeanSquareDisplacement
from trajcast_ase.analysis.plots.style import (
    BAND,
    INK,
    REFERENCE,
    element_colors,
    finish,
    legend_style,
)
from trajcast_ase.analysis.vdos import Spectrum, nyquist_cm

PS_PER_FS = 1e-3
PER_MILLE = 1e3


def draw_msd(
    axes: Axes,
    result: MeanSquareDisplacement,
    fits: dict[str, Diffusion] | None = None,
) -> None:
    """Draw the mean square displacement of each element and where it was fitted.

    Parameters
    ----------
    axes : Axes
    result : MeanSquareDisplacement
    fits : dict of element to Diffusion, optional
        Their coefficients stand in the legend and their windows are shaded.
    """
    time_ps = PS_PER_FS * result.lag_fs
    colors = element_colors(list(result.by_element))
    for name, curve in result.by_element.items():
        label, error = name, result.error[name]
        if fits and name in fits:
            fit = fits[name]
            value = fit.coefficient
            label += f", D = ({value.mean:.3g} ± {value.error:.1g}) 10⁻⁹ m²/s"
            window = PS_PER_FS * np.array(fit.fit_window_fs)
            axes.axvspan(*window, color=colors[name], alpha=0.08, lw=0)
        axes.fill_between(
            time_ps, curve - error, curve + error, color=colors[name], alpha=BAND, lw=0
        )
        axes.plot(time_ps, curve, color=colors[name], lw=1.5, label=label)
    axes.set(
        xlabel="time (ps)",
        ylabel="mean square displacement (Å²)",
        xlim=(0.0, time_ps[-1]),
    )
    axes.set_ylim(bottom=0.0)
    finish(axes)
    axes.legend(loc="upper left", **legend_style())


def draw_spectrum(
    axes: Axes, result: Spectrum, reference: Spectrum | None = None
) -> None:
    """Draw the vibrational density of states, in total and by element."""
    frequency = result.frequency_cm
    if reference is not None:
        axes.plot(
            reference.frequency_cm,
            PER_MILLE * reference.total,
            color=REFERENCE,
            lw=2.2,
            alpha=0.6,
            label="reference, all",
        )
    colors = element_colors(list(result.by_element))
    for name, density in result.by_element.items():
        axes.plot(
            frequency, PER_MILLE * density, color=colors[name], lw=0.9, label=name
        )
    axes.plot(frequency, PER_MILLE * result.total, color=INK, lw=1.3, label="all")
    limit = nyquist_cm(result.stride_fs)
    axes.set(
        xlim=(0.0, limit),
        xlabel=(
            f"wavenumber (cm⁻¹); frames every {result.stride_fs:g} fs, window "
            f"{result.window_fs:g} fs"
        ),
        ylabel="share of kinetic energy per cm⁻¹ (‰)",
    )
    axes.set_ylim(bottom=0.0)
    finish(axes)
    axes.legend(**legend_style())
