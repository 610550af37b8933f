r"""Agreement of curves on equal bins.

.. math:: 1 - \frac{\int |f_1 - f_2|\,dx}{\int f_1\,dx + \int f_2\,dx}

of Schran et al., PNAS 118, e2110077118 (2021).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def curve_overlap(
    first: Float[np.ndarray, "... bins"], second: Float[np.ndarray, "... bins"]
) -> Float[np.ndarray, ...]:
    """Return the overlap of curves that are nowhere negative, 1 where they are equal.

    For curves of unit area it is the area that they have in common.
    """
    distance = np.abs(first - second).sum(axis=-1)
    areas = first.sum(axis=-1) + second.sum(axis=-1)
    # Curves that are zero throughout are equal.
    return np.asarray(1 - distance / np.where(areas > 0, areas, 1.0))
