"""The compiled sums over all points within a cutoff, without gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.images import boxed_points
from trajcast_ase.neighbors import Box, boxes_of_systems
from trajcast_ase.network.kernels.build import load
from trajcast_ase.network.kernels.generate_product import template, vectors_code
from trajcast_ase.network.kernels.product import REAL
from trajcast_ase.network.tables import Table
from trajcast_ase.state import State

HIGHEST_LMAX = 2
"""Harmonics beyond are not written out in the program."""
MIN_ATOMS_PER_THREAD = 64


class _PointsStruct(ctypes.Structure):
    """``struct Points`` of the C++ program."""

    _fields_ = (
        ("n_points", ctypes.c_int64),
        ("n_atoms", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "positions",
                "atoms",
                "homes",
                "starts",
                "boxes",
                "shape",
                "reach",
            )
        ),
    )


class _TableStruct(ctypes.Structure):
    """``struct Table`` of the C++ program."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("start", ctypes.c_double),
        ("step", ctypes.c_double),
        ("end", ctypes.c_double),
        ("n_intervals", ctypes.c_int64),
    )


@cache
def _program(lmax: int, n_channels: int, dtype: torch.dtype) -> Callable[..., None]:
    """Return the entry point, compiled on first use."""
    source = "\n".join(
        (vectors_code(n_channels, REAL[dtype]), template("far.cpp", lmax=lmax))
    )
    function = load(source).far_sums
    pointer = ctypes.c_void_p
    function.argtypes = [
        ctypes.POINTER(_PointsStruct),
        ctypes.POINTER(_TableStruct),
        pointer,
        pointer,
        ctypes.c_int64,
    ]
    function.restype = None
    return function


@dataclass(frozen=True, slots=True)
class FarSums:
    """Sums of weights times harmonics over all atoms within a cutoff.

    Attributes
    ----------
    table : Table
        Weights by length, ``(lmax + 1) n_channels`` in a row, one group for each
        species of the other atom; it ends at the cutoff.
    lmax, n_channels : int
    """

    table: Table
    lmax: int
    n_channels: int

    def __call__(
        self, state: State, species: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms harmonics channels"]:
        """Return the sums around every atom of every system.

        Raises
        ------
        ValueError
            A periodic system has a cell without volume, or one that is too wide to
            search.
        """
        grid, values = self.table.grid, self.table.values
        cutoff = grid.start + grid.step * grid.n_intervals
        out = values.new_empty(state.n_atoms, (self.lmax + 1) ** 2, self.n_channels)
        table = _TableStruct(
            values.data_ptr(), grid.start, grid.step, cutoff, grid.n_intervals
        )
        positions = state.positions.detach().numpy()
        first = 0
        for size, box in zip(
            state.sizes(), boxes_of_systems(state, cutoff), strict=True
        ):
            mine = slice(first, first + size)
            self._sum(table, positions[mine], box, cutoff, species[mine], out[mine])
            first += size
        return out

    def _sum(  # noqa: PLR0917  all of one system
        self,
        table: _TableStruct,
        positions: Float[np.ndarray, "atoms 3"],
        box: Box,
        cutoff: float,
        species: Int[Tensor, " atoms"],
        out: Float[Tensor, "atoms harmonics channels"],
    ) -> None:
        """Write the sums of one system to `out`."""
        points = boxed_points(positions, box, cutoff)
        arrays = (
            points.positions,
            points.atoms,
            points.homes,
            points.starts,
            points.boxes,
            points.shape,
            points.reach,
        )
        struct = _PointsStruct(
            len(points.atoms),
            len(positions),
            *(array.ctypes.data for array in arrays),
        )
        n_threads = max(
            1, min(torch.get_num_threads(), len(positions) // MIN_ATOMS_PER_THREAD)
        )
        program = _program(self.lmax, self.n_channels, out.dtype)
        program(struct, table, species.data_ptr(), out.data_ptr(), n_threads)
