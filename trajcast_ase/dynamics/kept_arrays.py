"""The arrays of Atoms as tensors of a checkpoint, and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

NUMBERS, TEXTS = "arrays/", "texts/"
"""Begin the names of tensors; texts are kept by their code points."""
WIDEST = 8
"""Bytes of a number; a wider float is kept as float64."""


def kept_arrays(atoms: Atoms) -> dict[str, Tensor]:
    """Return the arrays of Atoms that are real numbers, bools or texts.

    Of any other one a warning says that it is left out.
    """
    found = {}
    for name, values in atoms.arrays.items():
        kind = values.dtype.kind
        if kind in "fiub":
            wide = values.dtype.itemsize > WIDEST
            own = np.dtype(np.float64) if wide else values.dtype.newbyteorder("=")
            found[f"{NUMBERS}{name}"] = torch.tensor(values.astype(own))
        elif kind == "U":
            text = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
            points = text.view(np.int32).reshape(*values.shape, -1)
            found[f"{TEXTS}{name}"] = torch.tensor(points)
        else:
            warnings.warn(
                f"the checkpoint leaves out the array {name!r} of the Atoms, whose "
                f"type {values.dtype} is none of real numbers, bools and texts; set it "
                "again after a restart",
                UserWarning,
                stacklevel=4,
            )
    return found


def arrays_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays that :func:`kept_arrays` gave, of names with a prefix.

    Raises
    ------
    ValueError
        A text is none.
    """
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix + NUMBERS):
            found[name.removeprefix(prefix + NUMBERS)] = tensor.numpy()
        elif name.startswith(prefix + TEXTS):
            points = np.ascontiguousarray(tensor.numpy(), np.int32)
            text = points.view(f"U{points.shape[-1]}")[..., 0]
            own = np.array(text.tolist(), text.dtype)  # raises for what is no text
            found[name.removeprefix(prefix + TEXTS)] = own
    return found
