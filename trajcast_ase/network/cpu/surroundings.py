"""The compiled sums over all points within a cutoff, and their gradient for weights."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from trajcast_ase.images import BoxedPoints, boxed_points
from trajcast_ase.neighbors import boxes_of_systems
from trajcast_ase.network.cpu.build import load
from trajcast_ase.network.cpu.generate_product import template, vectors_code
from trajcast_ase.network.cpu.product import REAL
from trajcast_ase.network.cpu.threads import Threads, threads
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.state import State

HIGHEST_LMAX = 2
"""Harmonics beyond are not written out in the program."""
MIN_ATOMS_PER_THREAD = 64


class _PointsStruct(ctypes.Structure):
    """``struct Points`` of the C++ program."""

    _fields_ = (
        ("n_points", ctypes.c_int64),
        ("n_atoms", ctypes.c_int64),
        ("positions", ctypes.c_void_p),
        ("atoms", ctypes.c_void_p),
        ("homes", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("boxes", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("reach", ctypes.c_void_p),
        ("species", ctypes.c_void_p),
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


@dataclass(frozen=True, slots=True)
class _Kernel:
    """Entry points for one choice of harmonics, channels and type."""

    sums: Callable[..., None]
    gradient: Callable[..., None]


@cache
def _kernel(lmax: int, n_channels: int, dtype: torch.dtype) -> _Kernel:
    """Return the kernel, compiled on first use."""
    library = load(
        "\n".join(
            (
                vectors_code(n_channels, REAL[dtype]),
                template("surroundings.cpp", lmax=lmax),
            )
        )
    )
    structs = [ctypes.POINTER(_PointsStruct), ctypes.POINTER(_TableStruct)]
    for name, n_pointers in (("surroundings_sums", 1), ("surroundings_gradient", 2)):
        function = getattr(library, name)
        function.argtypes = [
            *structs,
            *(ctypes.c_void_p,) * n_pointers,
            ctypes.POINTER(Threads),
        ]
        function.restype = None
    return _Kernel(library.surroundings_sums, library.surroundings_gradient)


@dataclass(frozen=True, slots=True)
class _System:
    """One of the systems: its points, and its slice of the atoms of all."""

    points: BoxedPoints
    species: Int[Tensor, " atoms"]
    atoms: slice

    def struct(self) -> _PointsStruct:
        """Return the pointers."""
        points = self.points
        arrays = (
            points.positions,
            points.atoms,
            points.homes,
            points.starts,
            points.boxes,
            points.shape,
            points.reach,
        )
        return _PointsStruct(
            len(points.atoms),
            len(points.homes),
            *(array.ctypes.data for array in arrays),
            self.species.data_ptr(),
        )

    @property
    def threads(self) -> Threads:
        """Those that are worth their start; the result does not depend on it."""
        most = len(self.points.homes) // MIN_ATOMS_PER_THREAD
        return threads(min(torch.get_num_threads(), most))


@dataclass(frozen=True, slots=True)
class _Problem:
    """What stays the same between the sums and their gradient."""

    systems: tuple[_System, ...]
    grid: Grid
    lmax: int
    n_atoms: int

    def table(self, values: Tensor) -> _TableStruct:
        grid = self.grid
        return _TableStruct(
            values.data_ptr(), grid.start, grid.step, grid.end, grid.n_intervals
        )

    def kernel(self, values: Tensor) -> _Kernel:
        return _kernel(self.lmax, values.shape[1] // (self.lmax + 1), values.dtype)

    def sums(self, values: Tensor) -> Tensor:
        n_channels = values.shape[1] // (self.lmax + 1)
        out = values.new_empty(self.n_atoms, (self.lmax + 1) ** 2, n_channels)
        table, program = self.table(values), self.kernel(values).sums
        for system in self.systems:
            mine = out[system.atoms].data_ptr()
            program(system.struct(), table, mine, system.threads)
        return out

    def gradient(self, values: Tensor, grad_out: Tensor) -> Tensor:
        found = torch.zeros_like(values)
        table, program = self.table(values), self.kernel(values).gradient
        for system in self.systems:
            mine = grad_out[system.atoms].data_ptr()
            program(system.struct(), table, mine, found.data_ptr(), system.threads)
        return found


class _Function(torch.autograd.Function):
    """Differentiable once, with respect to the values of the table."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, problem: _Problem) -> Tensor:
        ctx.save_for_backward(values)
        ctx.problem = problem
        return problem.sums(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        return ctx.problem.gradient(values, grad_out.contiguous()), None


def surroundings_sums(
    state: State,
    species: Int[Tensor, " atoms"],
    values: Float[Tensor, "rows weights"],
    grid: Grid,
    lmax: int,
) -> Float[Tensor, "atoms harmonics channels"]:
    """Return sums of weights times harmonics over all atoms up to the grid's end.

    Parameters
    ----------
    state : State
        On the CPU.
    species : (n_atoms,)
    values : (n_species * grid.n_points, (lmax + 1) * n_channels)
        Weights by length, one table for each species of the other atom.
    grid : Grid
        Å; it ends at the cutoff.
    lmax : int
        At most 2.

    Raises
    ------
    ValueError
        A periodic system has a cell without volume or one that is too wide to search,
        or arrays do not fit together.
    """
    n_species = int(species.max()) + 1
    if values.shape[0] < n_species * grid.n_points or values.shape[1] % (lmax + 1):
        raise ValueError(
            f"a table of shape {tuple(values.shape)} is too small for {n_species} "
            f"species at {grid.n_points} points and lmax = {lmax}"
        )
    positions, systems, first = state.positions.detach().numpy(), [], 0
    species = species.contiguous()
    for size, box in zip(state.sizes(), boxes_of_systems(state, grid.end), strict=True):
        mine = slice(first, first + size)
        points = boxed_points(positions[mine], box, grid.end)
        systems.append(_System(points, species[mine], mine))
        first += size
    problem = _Problem(tuple(systems), grid, lmax, state.n_atoms)
    values = values.contiguous()
    if torch.is_grad_enabled() and values.requires_grad:
        sums: Tensor = _Function.apply(values, problem)  # type: ignore[no-untyped-call]
        return sums
    return problem.sums(values)
