"""How near atoms come in training data, and how many neighbors they have.

A model file states it, so that the guards of a run know what the model has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trajcast_ase.guards.distances import least_distances
from trajcast_ase.guards.host import host
from trajcast_ase.neighbors import find_edges
from trajcast_ase.state import state_from_atoms
from trajcast_ase.training.pairs import Pairs

SAMPLED_FRAMES = 50
"""Of each run, at most."""
DIGITS = 3


def extent(parts: Sequence[Pairs], cutoff_A: float) -> dict[str, Any]:
    """Return what a model file states of its data, as plain values.

    Parameters
    ----------
    parts : sequence of Pairs
    cutoff_A : float, Å
        Of the network, within which neighbors are counted.

    Returns
    -------
    dict
        ``least_distances_A`` by pair of elements, such as "H-O", within the cutoff;
        ``neighbors``, the least and the greatest number of any atom.
    """
    least: dict[str, float] = {}
    counts: list[int] = []
    for part in parts:
        frames = part.frames
        for index in range(0, frames.n_frames, -(-frames.n_frames // SAMPLED_FRAMES)):
            state = state_from_atoms(frames.atoms(index))
            for pair, length in least_distances(state, cutoff_A).items():
                least[pair] = min(length, least.get(pair, np.inf))
            receivers = host(find_edges(state, cutoff_A).receivers)
            own = np.bincount(receivers, minlength=state.n_atoms)
            counts += [int(own.min()), int(own.max())]
    return {
        "least_distances_A": {
            pair: round(length, DIGITS) for pair, length in sorted(least.items())
        },
        "neighbors": [min(counts), max(counts)],
    }
