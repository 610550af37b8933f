"""Horizons and networks to try, the likeliest first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.findings import has_bonds, nearest_distances
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.request import Fixed
from trajcast_ase.trajectory import Frames

PERIODS = (0.25, 0.5, 0.125, 0.75)
"""Horizons to try, in periods of the fastest motion, the likeliest first."""
NETWORKS = ((16, 3, 1.0, 0.0), (16, 2, 1.0, 0.0), (32, 3, 1.0, 1.6), (16, 3, 1.3, 0.0))
"""Channels, layers, cutoff in units of the shorter, surroundings in units of it."""
LONG_PERIODS = (0.5, 0.25, 0.75, 1.0)
SMALL_NETWORKS = (
    (16, 2, 1.0, 0.0),
    (8, 2, 1.0, 0.0),
    (16, 3, 1.0, 0.0),
    (16, 2, 1.0, 1.6),
)
"""The same beside a calculator that is fast itself."""
GOAL = 10.0
"""Speed of a model over that of the calculator that makes it worth having."""
FAST_NS_PER_DAY = 300.0
"""Goals beyond are not reached by what is likeliest otherwise."""
MOLECULAR_CUTOFF_A = 4.0
SHELLS = 1.6
"""Cutoff of a system without bonds to speak of, in distances of neighbors."""
CUTOFFS_A = (3.5, 7.0)
AHEAD = 2
"""Longest horizons over which errors grow before they are compared."""


def goal_of(facts: Facts) -> float:
    """Return the speed that a model should have, ns/day; 0 without a calculator."""
    return GOAL * (facts.calculator_ns_per_day or 0.0)


def candidates(facts: Facts, frames: Frames, fixed: Fixed) -> list[Candidate]:
    """Return what may be tried, the likeliest first.

    Parameters
    ----------
    facts : Facts
    frames : Frames
        Of a run.
    fixed : Fixed
        What the user has decided.
    """
    small = goal_of(facts) > FAST_NS_PER_DAY
    lags = _lags(facts, frames, fixed, LONG_PERIODS if small else PERIODS)
    base = short_cutoff(frames) if fixed.cutoff_A is None else fixed.cutoff_A
    nets = []
    for channels, layers, factor, wide in SMALL_NETWORKS if small else NETWORKS:
        cutoff = base if fixed.cutoff_A is not None else round(base * factor, 2)
        one = Candidate(
            lag=1,
            cutoff_A=cutoff,
            surroundings_A=round(wide * cutoff, 2) if wide else None,
            n_channels=fixed.n_channels or channels,
            n_layers=fixed.n_layers or layers,
        )
        if one not in nets:
            nets.append(one)
    # Along the diagonals: a likely network at each horizon, and each network at a
    # likely horizon, come before what is unlikely in both.
    places = [(i + j, i, j) for i in range(len(nets)) for j in range(len(lags))]
    return [replace(nets[i], lag=lags[j]) for _, i, j in sorted(places)]


def _lags(
    facts: Facts, frames: Frames, fixed: Fixed, periods: tuple[float, ...]
) -> list[int]:
    if fixed.horizon_fs is not None:
        lag = max(1, round(fixed.horizon_fs / facts.stride_fs))
        found = [lag]
    else:
        wanted = (part * facts.fastest_period_fs / facts.stride_fs for part in periods)
        found = list(dict.fromkeys(max(1, round(lag)) for lag in wanted))
    longest = max(1, (frames.n_frames - 2) // (2 * AHEAD))
    if fixed.horizon_fs is not None and found[0] > longest:
        raise ValueError(
            f"--horizon {fixed.horizon_fs:g} fs is too long for held-out runs of "
            f"{frames.n_frames * facts.stride_fs:g} fs; at most "
            f"{longest * facts.stride_fs:g} fs can be judged on them"
        )
    return list(dict.fromkeys(min(lag, longest) for lag in found))


def short_cutoff(frames: Frames) -> float:
    """Return the shorter cutoff to try, Å, by bonds or distances of neighbors."""
    near = float(np.median(nearest_distances(frames)))
    # Bonds of molecules, not the contacts of a metal.
    if near < 2.0 and _has_bonds(frames):  # noqa: PLR2004
        return MOLECULAR_CUTOFF_A
    return round(float(np.clip(SHELLS * near, *CUTOFFS_A)), 2)


def _has_bonds(frames: Frames) -> bool:
    try:
        return has_bonds(frames)
    except ValueError:  # a cell too small for bonds to be unique
        return False
