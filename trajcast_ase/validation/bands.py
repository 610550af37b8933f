r"""Temperature by band of frequency.

The vibrational density of states is the kinetic energy by frequency (Wiener and
Khinchin), so its integral over a band is the kinetic energy of the motions there,

.. math:: T_b = T^\mathrm{ref} \,
    \frac{\int_b g(\nu)\, d\nu}{\int_b g^\mathrm{ref}(\nu)\, d\nu},

with :math:`g` in units of energy. In equilibrium every band has the temperature of the
reference, for all atoms and for each element. Motions faster than the frames resolve
count where they fold back to.

Bands are cut from the reference's spectrum: the band with most energy is halved at its
lowest point again and again, until none holds much.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from trajcast_ase.validation.quantities import Scalar

if TYPE_CHECKING:
    from trajcast_ase.validation.observables import Observables

MOST_BANDS = 6
LARGE = 0.25
"""Share of the kinetic energy above which a band is halved."""
SMALL = 0.08
"""Share that a band keeps at least."""
SMALL_OF_ELEMENT = 0.05
"""Share of an element's kinetic energy below which its band is left out."""
VALLEY = 0.05
"""Of the mean density: as low as the lowest point."""


def band_edges(
    frequency_cm: Float[np.ndarray, " bins"], density: Float[np.ndarray, " bins"]
) -> tuple[float, ...]:
    """Return the edges of the bands of a spectrum, cm⁻¹, from 0 to its end.

    Parameters
    ----------
    frequency_cm : (n_bins,), cm⁻¹
        Equally spaced from zero.
    density : (n_bins,)
        Mean spectrum of the reference.
    """
    share = density / density.sum()
    bands = [range(len(share))]
    while len(bands) < MOST_BANDS:
        energy = [share[band.start : band.stop].sum() for band in bands]
        widest = int(np.argmax(energy))
        cut = _lowest_point(share, bands[widest])
        if energy[widest] < LARGE or cut is None:
            break
        old = bands.pop(widest)
        bands += [range(old.start, cut), range(cut, old.stop)]
        bands.sort(key=lambda band: band.start)
    inner = [frequency_cm[band.start] - 0.5 * frequency_cm[1] for band in bands[1:]]
    return (
        0.0,
        *(float(round(edge, 1)) for edge in inner),
        float(round(frequency_cm[-1], 1)),
    )


def _lowest_point(share: Float[np.ndarray, " bins"], band: range) -> int | None:
    """Return where to cut a band: the middle of its lowest valley."""
    inside = share[band.start : band.stop]
    below = np.cumsum(inside)
    # A cut at k puts the bin k into the upper band.
    cuts = np.flatnonzero((below[:-1] >= SMALL) & (below[-1] - below[:-1] >= SMALL)) + 1
    if len(cuts) == 0:
        return None
    lowest = cuts[np.argmin(inside[cuts])]
    low = inside <= inside[lowest] + VALLEY * share.mean()
    first = last = int(lowest)
    while first - 1 >= cuts[0] and low[first - 1]:
        first -= 1
    while last + 1 <= cuts[-1] and low[last + 1]:
        last += 1
    return band.start + (first + last) // 2


def band_temperatures(
    run: Observables, reference: Observables
) -> dict[str, tuple[Scalar, Scalar]]:
    """Return temperatures by band of a run and of its reference, K, by their name.

    Both are in units of the reference's band: its own mean is its temperature.
    """
    result = {}
    edges = reference.bands_cm
    level = float(reference.scalars["temperature"].pieces.mean())
    for name in reference.curves:
        if not name.startswith("spectrum") or name not in run.curves:
            continue
        whole = _energy(reference, name, edges[0], edges[-1]).mean()
        for low, high in pairwise(edges):
            energy = _energy(reference, name, low, high)
            if energy.mean() <= SMALL_OF_ELEMENT * whole:
                continue
            unit = level / energy.mean()
            of = name.replace("spectrum", "temperature")
            result[f"{of} at {low:.0f}-{high:.0f} cm⁻¹"] = (
                Scalar("K", _energy(run, name, low, high) * unit),
                Scalar("K", energy * unit),
            )
    return result


def _energy(
    observables: Observables, name: str, low: float, high: float
) -> Float[np.ndarray, " pieces"]:
    """Return the kinetic energy of a band in each piece; all bands share a unit."""
    curve = observables.curves[name]
    inside = (curve.x >= low) & (curve.x < high)
    if high == observables.bands_cm[-1]:
        inside |= curve.x >= low
    kelvin = observables.scalars["temperature"].pieces
    return np.asarray(kelvin * curve.pieces[:, inside].sum(axis=1))
