"""The backend of Triton kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.backend import BackendError
from trajcast_ase.network.inference.layers import (
    Layers,
    ReadyLayer,
    ready_layers,
)
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import Irreps
from trajcast_ase.network.kernel_backend import KernelBackend, ProductKernels
from trajcast_ase.network.triton import product as kernel
from trajcast_ase.network.triton.layer import Precision, TritonLayer
from trajcast_ase.network.triton.locate import places
from trajcast_ase.network.triton.programs import is_interpreted
from trajcast_ase.network.triton.surroundings import surroundings_sums
from trajcast_ase.state import State

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster

EdgeWeights = Literal["tables", "perceptrons"]


@dataclass(frozen=True)
class Triton(KernelBackend):
    """Kernels in Triton for NVIDIA cards, compiled on first use.

    Where the environment sets ``TRITON_INTERPRET=1`` they are interpreted on the CPU,
    for tests. Products differentiate once, with respect to features and weights; those
    whose harmonics carry a gradient are left to torch. No sum depends on the order in
    which a card happens to work.

    Attributes
    ----------
    precision : "ieee", "tf32x3" or "tf32"
        Of the linear maps in float32. On tensor cores "tf32x3" sums three products of
        numbers of 11 bits and is about as exact as float32 ("ieee"); "tf32" is one of
        them, and costs 5e-3 of the largest output (emulated, the bundled models).
    edge_weights : "tables" or "perceptrons"
        Whether the kernel interpolates the weights of edges from a table, or reads
        rows that perceptrons wrote for every edge.
    """

    precision: Precision = "ieee"
    edge_weights: EdgeWeights = "tables"
    name: ClassVar[str] = "triton"
    products: ClassVar[ProductKernels] = kernel
    # Until someone has measured it on a card.
    automatic: ClassVar[bool] = False

    def check(self) -> None:
        """Raise BackendError where Triton is not installed."""
        if find_spec("triton") is None:
            raise BackendError(
                "the backend 'triton' needs the package triton, which torch for CUDA "
                "brings on Linux; install it with pip install 'triton>=3.6', or use "
                "the backend 'reference'"
            )

    def computes_on(self, device: torch.device) -> bool:
        """Return whether `device` is a card, or the CPU and kernels are interpreted."""
        return device.type == "cuda" or (device.type == "cpu" and is_interpreted())

    def layers(self, network: Forecaster, outputs: Irreps) -> Layers:
        """Return layers of a few kernels each."""
        make = partial(TritonLayer.of, precision=self.precision)
        layers = ready_layers(network, outputs, make, places)
        if self.edge_weights == "tables":
            return layers
        return replace(layers, layers=tuple(map(_with_perceptron, layers.layers)))

    def sums_surroundings(self, lmax: int) -> bool:
        """Return True: the kernel is written for any lmax."""
        del lmax
        return True

    def surroundings_sums(
        self,
        state: State,
        species: Int[Tensor, " atoms"],
        values: Float[Tensor, "rows weights"],
        grid: Grid,
        lmax: int,
    ) -> Float[Tensor, "atoms harmonics channels"]:
        """Return sums of weights times harmonics over all atoms up to the grid's end.

        Raises
        ------
        ValueError
            As :func:`.surroundings.surroundings_sums`.
        """
        return surroundings_sums(state, species, values, grid, lmax)


def _with_perceptron(layer: ReadyLayer) -> ReadyLayer:
    """Return the layer without its table of the weights of edges."""
    return replace(layer, tables=replace(layer.tables, edge=None))
