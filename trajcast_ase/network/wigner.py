"""Real Wigner 3j symbols in e3nn's basis, from a small stored table."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

LARGEST_DEGREE = 6
"""Of the stored symbols; as large as a network's features may be."""
TABLE = "wigner.npz"


def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    """Return a real Wigner 3j tensor in e3nn's basis, Frobenius norm 1, float64.

    Shape ``(2 l1 + 1, 2 l2 + 1, 2 l3 + 1)``.
    """
    return torch.tensor(_table()[key(l1, l2, l3)])


def key(l1: int, l2: int, l3: int) -> str:
    """Return the name of a symbol in the table."""
    return f"{l1}-{l2}-{l3}"


@cache
def _table() -> dict[str, np.ndarray]:
    with (
        files(__package__).joinpath(TABLE).open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        return {name: stored[name] for name in stored.files}
