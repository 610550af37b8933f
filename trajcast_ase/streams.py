"""Random numbers of replicas: a stream for each of them and each purpose."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a replica draws random numbers for."""

    THERMOSTAT = 0
    NOISE = 1
    VELOCITIES = 2


def random_stream(seed: int, replica: int, purpose: Purpose) -> np.random.Generator:
    """Return the random numbers of one replica for one purpose.

    They come from the counter-based generator Philox and do not depend on which other
    replicas there are.

    Parameters
    ----------
    seed : int, not negative
    replica : int, not negative
        Number of the replica.
    purpose : Purpose
    """
    words = np.random.SeedSequence([seed, replica, purpose])
    key = words.generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
