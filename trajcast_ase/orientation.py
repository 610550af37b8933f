"""Cells in the orientation of formats that keep lengths and angles only.

Readers of such files put the first cell vector along x and the second into the xy
plane. Positions belong to that cell only if they are turned with it.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from jaxtyping import Float

TOLERANCE = 1e-6
"""Of the elements of a rotation; such formats keep float32."""


def standard_rotation(atoms: Atoms) -> Float[np.ndarray, "3 3"]:
    """Return R so that ``positions @ R.T`` are in the cell as readers build it.

    It is a proper rotation, so that no molecule is mirrored, and the unit matrix of a
    system without periodic axes. Of a left-handed cell readers find the three vectors
    with the other sign: they make the same lattice, and a right-handed cell.

    Parameters
    ----------
    atoms : Atoms
    """
    if not atoms.pbc.any():
        return np.eye(3)
    return np.asarray(atoms.cell.complete().standard_form()[1])


def is_turned(rotation: Float[np.ndarray, "3 3"]) -> bool:
    """Return whether a rotation changes anything that float32 holds."""
    return not np.allclose(rotation, np.eye(3), rtol=0.0, atol=TOLERANCE)
