"""The compiled network: species, velocities and edges in, targets out, no gradients.

For small systems the torch operations around the layers take longer than the layers.
Here all is one call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.network.cpu.build import load
from trajcast_ase.network.cpu.generate_network import network_source
from trajcast_ase.network.cpu.layer import CompiledLayer, layer_program
from trajcast_ase.network.cpu.product import REAL, threads_for
from trajcast_ase.network.cpu.threads import Threads
from trajcast_ase.network.graph import NetworkInputs
from trajcast_ase.network.inference.arrays import check_inputs
from trajcast_ase.network.inference.layers import Layers, ReadyLayer
from trajcast_ase.network.inference.matrices import (
    EndMatrices,
    LayerMatrices,
    folded_ends,
)
from trajcast_ase.network.inference.tables import Table

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster

_POINTER = ctypes.c_void_p


class _TableStruct(ctypes.Structure):
    """``struct Table`` of the C++ program."""

    _fields_ = (
        ("values", _POINTER),
        ("start", ctypes.c_double),
        ("step", ctypes.c_double),
        ("n_intervals", ctypes.c_int64),
    )


class _StageStruct(ctypes.Structure):
    """``struct Stage`` of the C++ program."""

    _fields_ = (
        ("run", _POINTER),
        ("dim_out", ctypes.c_int64),
        ("edge", _TableStruct),
        ("velocity", _TableStruct),
        *((field.name, _POINTER) for field in fields(LayerMatrices)),
    )


class _NetworkStruct(ctypes.Structure):
    """``struct Network`` of the C++ program."""

    _fields_ = (
        ("n_stages", ctypes.c_int64),
        ("stages", ctypes.POINTER(_StageStruct)),
        ("scales", _POINTER),
        ("largest", _POINTER),
        ("saturation", ctypes.c_double),
        ("width", ctypes.c_double),
        ("n_basis", ctypes.c_int64),
        ("centers", _POINTER),
        *((field.name, _POINTER) for field in fields(EndMatrices)),
    )


class _InputStruct(ctypes.Structure):
    """``struct Input`` of the C++ program."""

    _fields_ = (
        ("n_atoms", ctypes.c_int64),
        ("n_edges", ctypes.c_int64),
        ("species", _POINTER),
        ("offsets", _POINTER),
        ("senders", _POINTER),
        ("velocities", _POINTER),
        ("edge_vectors", _POINTER),
        ("around", _POINTER),
    )


@dataclass(frozen=True, slots=True)
class _Program:
    """Entry points for one choice of harmonics, channels and type."""

    n_bytes: Callable[..., int]
    forward: Callable[..., None]


@cache
def _program(lmax: int, n_channels: int, dtype: torch.dtype) -> _Program:
    """Return the program, compiled on first use."""
    library = load(network_source(lmax, n_channels, REAL[dtype]))
    both: list[Any] = [
        ctypes.POINTER(_NetworkStruct),
        ctypes.POINTER(_InputStruct),
    ]
    library.network_bytes.argtypes = both
    library.network_bytes.restype = ctypes.c_int64
    library.network_forward.argtypes = [
        *both,
        _POINTER,
        _POINTER,
        ctypes.POINTER(Threads),
    ]
    library.network_forward.restype = None
    return _Program(library.network_bytes, library.network_forward)


@dataclass(frozen=True, slots=True)
class CompiledNetwork:
    """A network with tables of all its weights, ready to run.

    Attributes
    ----------
    ready : Layers
        Its layers.
    program : _Program
    struct : _NetworkStruct
        What the program reads of the network.
    kept : tuple
        What `struct` points to.
    """

    ready: Layers
    program: _Program
    struct: _NetworkStruct
    kept: tuple[object, ...]

    @classmethod
    def of(cls, network: Forecaster, ready: Layers) -> CompiledNetwork:
        """Return the network with its present parameters, those of `ready`."""
        config = network.config
        thermal = config.velocity_encoding == "thermal"
        ends, basis = folded_ends(network), network.speed.basis
        centers, scales = basis.centers.double(), network.velocity_scales.double()
        largest = network.largest_speeds.double()
        stages = (_StageStruct * len(ready.layers))(*map(_stage, ready.layers))
        struct = _NetworkStruct(
            len(stages),
            stages,
            scales.data_ptr() if thermal else None,
            largest.data_ptr() if config.largest_speeds else None,
            config.velocity_saturation or torch.inf,
            basis.width,
            len(centers),
            centers.data_ptr(),
            *(_address(getattr(ends, field.name)) for field in fields(ends)),
        )
        program = _program(config.lmax, config.n_channels, network.dtype)
        kept = (stages, scales, largest, centers, ends)
        return cls(ready, program, struct, kept)

    @property
    def is_current(self) -> bool:
        """Whether the parameters are still those that the network was made from."""
        return self.ready.is_current

    @property
    def layers(self) -> tuple[ReadyLayer, ...]:
        """The layers."""
        return self.ready.layers

    @property
    def surroundings(self) -> Table | None:
        """Weights of the sums over the surroundings, one group for each species."""
        return self.ready.surroundings

    def __call__(
        self, network: Forecaster, inputs: NetworkInputs
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return displacement and velocity in units of their training rms.

        Those of an atom do not depend on its place among the others, nor on the number
        of threads, to the last bit.

        Raises
        ------
        ValueError
            Arrays that do not fit together, which the program would misread.
        """
        check_inputs(network, inputs)
        n_atoms, n_edges = inputs.velocities.shape[0], inputs.vectors.shape[0]
        struct = _InputStruct(
            n_atoms,
            n_edges,
            inputs.species.data_ptr(),
            inputs.routes.offsets.data_ptr(),
            inputs.routes.senders.data_ptr(),
            inputs.velocities.data_ptr(),
            inputs.vectors.data_ptr(),
            _address(inputs.around),
        )
        # Whatever torch's default device is: the program writes to these.
        n_bytes = self.program.n_bytes(self.struct, struct)
        memory = torch.empty(n_bytes, dtype=torch.uint8, device="cpu")
        out = torch.empty(n_atoms, 2, 3, dtype=network.dtype, device="cpu")
        self.program.forward(
            self.struct,
            struct,
            memory.data_ptr(),
            out.data_ptr(),
            threads_for(n_edges),
        )
        return out


def with_program(network: Forecaster, ready: Layers) -> Layers | CompiledNetwork:
    """Return a network in one program, where there is a table of all its weights."""
    tables = [layer.tables for layer in ready.layers]
    if any(one.edge is None or one.velocity is None for one in tables):
        return ready
    if network.surroundings is not None and ready.surroundings is None:
        return ready
    return CompiledNetwork.of(network, ready)


def _stage(layer: ReadyLayer) -> _StageStruct:
    run, tables = layer.run, layer.tables
    assert isinstance(run, CompiledLayer)  # noqa: S101  the backend makes no other
    matrices = run.matrices
    program: Any = layer_program(run.shape, matrices.update.dtype)
    return _StageStruct(
        ctypes.cast(program, _POINTER),
        run.shape.dim_out,
        _table(tables.edge),
        _table(tables.velocity),
        *(_address(getattr(matrices, field.name)) for field in fields(matrices)),
    )


def _table(table: Table | None) -> _TableStruct:
    assert table is not None  # noqa: S101  networks without one have no program
    grid = table.grid
    return _TableStruct(
        table.values.data_ptr(), grid.start, grid.step, grid.n_intervals
    )


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
