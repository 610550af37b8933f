"""Writes the Wigner symbols that the package stores, as e3nn gives them.

    python benchmarks/wigner_table.py

They are constants, so that this needs to run only for another largest degree. Loading a
model then needs no e3nn, whose import (with sympy) takes about as long as all else.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import torch
from e3nn import o3

import trajcast_ase
from trajcast_ase.network.wigner import LARGEST_DEGREE, TABLE, key


def main() -> None:
    """Write the table into the package."""
    symbols = {
        key(l1, l2, l3): o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
        for l1, l2, l3 in product(range(LARGEST_DEGREE + 1), repeat=3)
        if abs(l1 - l2) <= l3 <= l1 + l2
    }
    path = Path(trajcast_ase.__file__).parent / "network" / TABLE
    np.savez_compressed(path, **symbols)
    print(f"{path}: {len(symbols)} symbols, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
