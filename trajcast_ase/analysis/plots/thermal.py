"""Figures of equilibrium: kinetic shares and free-energy surfaces."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from trajcast_ase.analysis.free_energy import FreeEnergySurface
from trajcast_ase.analysis.kinetic import KineticShare
from trajcast_ase.analysis.plots.style import REFERENCE, RUN, finish, legend_style


def draw_kinetic(
    axes: Axes, shares: dict[str, KineticShare], temperature_K: float
) -> None:
    """Draw the temperature of each group of motions beside that of the thermostat."""
    names = list(shares)
    values = [shares[name].temperature for name in names]
    axes.axhline(
        temperature_K,
        color=REFERENCE,
        lw=1.2,
        ls=(0, (5, 3)),
        label=f"thermostat, {temperature_K:g} K",
    )
    axes.errorbar(
        np.arange(len(names)),
        [value.mean for value in values],
        yerr=[value.error for value in values],
        fmt="o",
        ms=4,
        capsize=3,
        color=RUN,
        label="run, 1 s.e.",
    )
    axes.set_xticks(np.arange(len(names)), names, rotation=35, ha="right")
    axes.set_ylabel("temperature by exact d.o.f. (K)")
    finish(axes)
    axes.legend(**legend_style())


def draw_free_energy(
    axes: Axes,
    surface: FreeEnergySurface,
    names: tuple[str, str] = ("first dihedral", "second dihedral"),
) -> None:
    """Draw a free-energy surface as a map with a color bar.

    Parameters
    ----------
    axes : Axes
    surface : FreeEnergySurface
        White where no frame is.
    names : (first, second)
        Of the angles.
    """
    visited = np.ma.masked_invalid(surface.free_energy_eV.T)
    mesh = axes.pcolormesh(
        surface.angle_deg,
        surface.angle_deg,
        visited,
        cmap="viridis_r",
        shading="nearest",
        rasterized=True,
    )
    axes.set(
        xlabel=f"{names[0]} (°)",
        ylabel=f"{names[1]} (°)",
        xticks=np.arange(-180, 181, 90),
        yticks=np.arange(-180, 181, 90),
        aspect="equal",
    )
    finish(axes)
    axes.grid(visible=False)
    bar = axes.figure.colorbar(mesh, ax=axes)
    bar.set_label("free energy (eV)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
