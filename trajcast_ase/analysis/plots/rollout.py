"""One page about a rollout: temperature, its distribution, spectra."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from trajcast_ase.analysis.plots.style import (
    INK,
    REFERENCE,
    RUN,
    finish,
    legend_style,
)
from trajcast_ase.analysis.temperature import canonical_density
from trajcast_ase.analysis.vdos import Spectrum, nyquist_cm, overlap

PER_MILLE = 1e3
# Widest share of the temperature axis, in standard deviations of the distribution.
AXIS_SIGMAS = 4.5


def rollout_figure(
    time_ps: Float[np.ndarray, " frames"],
    temperatures: Float[np.ndarray, " frames"],
    run: Spectrum,
    reference: Spectrum,
    reference_scatter: Float[np.ndarray, " bins"],
    *,
    temperature_K: float,
    n_dof: int,
    title: str,
) -> Figure:
    """Return temperature and its distribution above, the spectra below.

    Parameters
    ----------
    time_ps : (n_frames,), ps
    temperatures : (n_frames,), K
        With `n_dof` degrees of freedom.
    run, reference : Spectrum
        Of equal strides and windows.
    reference_scatter : (n,), cm
        Standard deviation of reference runs as long as this one.
    temperature_K : float, K
        Of the thermostat.
    n_dof : int
    title : str
    """
    figure = Figure(figsize=(9.0, 6.4), dpi=160, layout="constrained")
    grid = figure.add_gridspec(
        2, 2, width_ratios=(3.4, 1.0), height_ratios=(1.0, 1.15), wspace=0.02
    )
    series = figure.add_subplot(grid[0, 0])
    histogram = figure.add_subplot(grid[0, 1], sharey=series)
    spectra = figure.add_subplot(grid[1, :])
    _draw_series(series, time_ps, temperatures, temperature_K, n_dof)
    _draw_histogram(histogram, temperatures, temperature_K, n_dof)
    _draw_spectra(spectra, run, reference, reference_scatter)
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, color=INK, weight="bold")
    return figure


def _draw_series(
    axes: Axes,
    time_ps: Float[np.ndarray, " frames"],
    temperatures: Float[np.ndarray, " frames"],
    temperature_K: float,
    n_dof: int,
) -> None:
    axes.plot(time_ps, temperatures, color=RUN, lw=0.5, alpha=0.55, rasterized=True)
    axes.plot(
        time_ps,
        np.cumsum(temperatures) / np.arange(1, len(temperatures) + 1),
        color=INK,
        lw=1.6,
        label="running mean",
    )
    axes.axhline(
        temperature_K,
        color=REFERENCE,
        lw=1.2,
        ls=(0, (5, 3)),
        label=f"thermostat, {temperature_K:g} K",
    )
    spread = AXIS_SIGMAS * temperature_K * np.sqrt(2.0 / n_dof)
    top = max(temperature_K + spread, float(temperatures.max()) * 1.02)
    axes.set(
        xlim=(time_ps[0], time_ps[-1]),
        ylim=(max(0.0, temperature_K - spread), top),
        xlabel="time (ps)",
        ylabel="temperature (K)",
    )
    finish(axes)
    axes.legend(loc="upper right", ncols=2, **legend_style())


def _draw_histogram(
    axes: Axes,
    temperatures: Float[np.ndarray, " frames"],
    temperature_K: float,
    n_dof: int,
) -> None:
    axes.hist(
        temperatures,
        bins=40,
        density=True,
        orientation="horizontal",
        color=RUN,
        alpha=0.45,
        label="run",
    )
    grid = np.linspace(*axes.get_ylim(), 300)
    expected = canonical_density(grid, temperature_K, n_dof)
    axes.plot(
        expected, grid, color=REFERENCE, lw=1.8, label=f"canonical,\n{n_dof} d.o.f."
    )
    axes.tick_params(labelleft=False)
    axes.set_xlabel("probability density")
    axes.set_xlim(left=0.0)
    finish(axes)
    axes.set_xticks([])
    axes.legend(loc="upper right", **legend_style())


def _draw_spectra(
    axes: Axes,
    run: Spectrum,
    reference: Spectrum,
    scatter: Float[np.ndarray, " bins"],
) -> None:
    frequency, expected = reference.frequency_cm, PER_MILLE * reference.total
    axes.fill_between(
        frequency,
        np.maximum(expected - PER_MILLE * scatter, 0.0),
        expected + PER_MILLE * scatter,
        color=REFERENCE,
        alpha=0.28,
        lw=0,
        label="scatter of reference runs of this length (1 s.d.)",
    )
    axes.plot(
        frequency, expected, color=REFERENCE, lw=1.3, label="reference MD with forces"
    )
    axes.plot(
        run.frequency_cm,
        PER_MILLE * run.total,
        color=RUN,
        lw=1.7,
        label=f"this run (overlap {overlap(run, reference):.2f})",
    )
    limit = nyquist_cm(run.stride_fs)
    highest = max((reference.total + scatter).max(), run.total.max())
    axes.set(
        xlim=(0.0, limit),
        ylim=(0.0, 1.2 * PER_MILLE * float(highest)),
        xlabel=(
            f"wavenumber (cm⁻¹); frames every {run.stride_fs:g} fs, bands above "
            f"{limit:.0f} cm⁻¹ are folded back"
        ),
        ylabel="share of kinetic energy per cm⁻¹ (‰)",
    )
    axes.xaxis.set_major_locator(MultipleLocator(250))
    finish(axes)
    axes.legend(loc="upper center", ncols=3, **legend_style())
