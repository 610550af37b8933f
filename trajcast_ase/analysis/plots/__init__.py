"""Figures; the only part that imports matplotlib, and never its global state.

``draw_...`` functions draw one observable on the axes they get; `single_figure` makes a
figure with one pair of axes.
"""

from trajcast_ase.analysis.plots.dynamics import draw_msd, draw_spectrum
from trajcast_ase.analysis.plots.parity import draw_parity
from trajcast_ase.analysis.plots.structure import draw_distribution, draw_rdf
from trajcast_ase.analysis.plots.style import save_figure, single_figure
from trajcast_ase.analysis.plots.thermal import draw_free_energy, draw_kinetic

__all__ = [
    "draw_distribution",
    "draw_free_energy",
    "draw_kinetic",
    "draw_msd",
    "draw_parity",
    "draw_rdf",
    "draw_spectrum",
    "save_figure",
    "single_figure",
]
