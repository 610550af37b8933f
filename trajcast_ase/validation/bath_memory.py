"""Whether a run was coupled strongly to a bath, as far as its frames can tell.

Forces between atoms keep the total momentum, and for an isolated system the angular
momentum. A run that forgets either was kicked by something else: Langevin friction, or
the collisions of Andersen. It forgets at the rate of that friction, as all of its
motions do; spectra and diffusion are then those of the bath, and no run at constant
energy has them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from trajcast_ase.trajectory import Frames

STRONG_FS = 1000.0
"""Baths that are forgotten sooner are visible in spectra: 1 ps is 5 cm⁻¹ of width."""
THERMAL_SHARE = 1e-3
"""Of what equipartition gives to a total, below which it is held at zero."""


def bath_memory_fs(frames: Frames) -> float | None:
    """Return how soon a run forgets what its forces conserve, fs.

    The time after which the autocorrelation of the total momentum, or of the angular
    momentum of an isolated system, has fallen to 1/e; under Langevin friction that
    is one over the friction.

    Parameters
    ----------
    frames : Frames

    Returns
    -------
    float or None
        The shorter of both times; None where nothing is forgotten within a quarter of
        the run, where totals are held at zero, which hides a bath, and where fixed
        atoms take them up.
    """
    if frames.fixed.any():
        return None
    masses, velocities = frames.masses, frames.velocities
    squares = np.einsum("a,fax,fax->", masses**2, velocities, velocities)
    thermal = squares / frames.n_frames  # of the total, by equipartition
    totals = [(np.einsum("a,fax->fx", masses, velocities), thermal)]
    if not frames.pbc.any():
        centers = np.einsum("a,fax->fx", masses, frames.positions) / masses.sum()
        arms = frames.positions - centers[:, None]
        spins = np.einsum("a,fax->fx", masses, np.cross(arms, velocities))
        totals.append((spins, thermal * np.square(arms).sum(axis=2).mean()))
    times = [
        found
        for total, expected in totals
        if np.square(total).sum(axis=1).mean() > THERMAL_SHARE * expected
        and (found := _forgotten_after(total, frames.stride_fs)) is not None
    ]
    return min(times, default=None)


def _forgotten_after(
    total: Float[np.ndarray, "frames 3"], stride_fs: float
) -> float | None:
    """Return the time at which the autocorrelation falls below 1/e, fs."""
    n_frames = len(total)
    spectrum = np.fft.rfft(total, n=2 * n_frames, axis=0)
    sums = np.fft.irfft(np.square(np.abs(spectrum)).sum(axis=1))[: n_frames // 4 + 1]
    kept = sums / np.arange(n_frames, n_frames - len(sums), -1)
    kept = kept / kept[0]
    below = np.flatnonzero(kept < np.exp(-1.0))
    if not len(below):
        return None
    last = below[0] - 1  # kept[0] is 1
    part = (kept[last] - np.exp(-1.0)) / (kept[last] - kept[last + 1])
    return float((last + part) * stride_fs)


def remark(side: str, memory_fs: float | None) -> str:
    """Return a sentence on a side that was coupled strongly, else nothing.

    Parameters
    ----------
    side : str
        "the reference" or "the run".
    memory_fs : float or None, fs
        Of :func:`bath_memory_fs`.
    """
    if memory_fs is None or memory_fs >= STRONG_FS:
        return ""
    return (
        f"{side.capitalize()} forgets its total momentum, or its rotation, within "
        f"{memory_fs:.3g} fs, "
        f"as under a friction of {1e3 / memory_fs:.3g}/ps: its spectra and its "
        "diffusion are those of that bath, and no model of the forces has them. Rows "
        "of temperature and structure hold; for the others couple weakly (Langevin of "
        "2 ps or more, CSVR) or run at constant energy."
    )
