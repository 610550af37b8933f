"""Checks of trajectories at the door of every observable."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

AXES = 3


def trajectory_array(
    values: Float[np.ndarray, "frames atoms 3"] | None, name: str, *, least: int = 2
) -> Float[np.ndarray, "frames atoms 3"]:
    """Return `values` as float64 after checking that an observable can use them.

    Parameters
    ----------
    values : (n_frames, n_atoms, 3)
    name : str
        What they are, for the error: "positions" or "velocities".
    least : int
        Frames that the observable needs.

    Raises
    ------
    ValueError
        None were given, another shape, too few frames, or values that are not finite.
    """
    if values is None:
        raise ValueError(f"the trajectory has no {name}; write them during the MD")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != AXES or array.shape[2] != AXES or array.shape[1] == 0:
        raise ValueError(
            f"{name} of shape {array.shape} are no trajectory; give an array of shape "
            "(n_frames, n_atoms, 3)"
        )
    if len(array) < least:
        raise ValueError(
            f"{name} of {len(array)} frame(s) are too few, at least {least} are "
            "needed; give a longer run or ask for fewer blocks"
        )
    finite = np.isfinite(array).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(
            f"{name} of frame {int(np.argmin(finite))} are not finite; cut the "
            "trajectory before it"
        )
    return array


def check_per_atom(values: np.ndarray, n_atoms: int, name: str) -> None:
    """Refuse `values` (masses, atomic numbers) that are not one per atom.

    Raises
    ------
    ValueError
    """
    if np.shape(values) != (n_atoms,):
        raise ValueError(
            f"{name} of shape {np.shape(values)} do not fit {n_atoms} atoms; give one "
            "for each"
        )


def check_stride(stride_fs: float) -> None:
    """Refuse a time between frames that is not positive and finite.

    Raises
    ------
    ValueError
    """
    if not (np.isfinite(stride_fs) and stride_fs > 0):
        raise ValueError(
            f"a stride of {stride_fs:g} fs is no time between frames; give a positive "
            "number"
        )
