"""The backend of compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.cpu import product as kernel
from trajcast_ase.network.cpu.layer import CompiledLayer
from trajcast_ase.network.cpu.network import CompiledNetwork, with_program
from trajcast_ase.network.cpu.surroundings import HIGHEST_LMAX, surroundings_sums
from trajcast_ase.network.cpu.threads import check_kernels
from trajcast_ase.network.inference.layers import Layers, ready_layers
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import Irreps
from trajcast_ase.network.kernel_backend import KernelBackend, ProductKernels
from trajcast_ase.state import State

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster


@dataclass(frozen=True)
class Cpp(KernelBackend):
    """Kernels in C++ for the CPU, compiled on demand.

    Products differentiate once, with respect to features and weights; those whose
    harmonics carry a gradient are left to torch.
    """

    name: ClassVar[str] = "cpp"
    products: ClassVar[ProductKernels] = kernel

    def check(self) -> None:
        """Raise CompilerError where nothing can be compiled, kept or loaded."""
        check_kernels()

    def computes_on(self, device: torch.device) -> bool:
        """Return whether `device` is the CPU."""
        return device.type == "cpu"

    def layers(self, network: Forecaster, outputs: Irreps) -> Layers | CompiledNetwork:
        """Return compiled layers, in float32 with what stands around them."""
        ready = ready_layers(network, outputs, CompiledLayer)
        return with_program(network, ready)

    def uses_grids(self, dtype: torch.dtype) -> bool:
        """Return whether numbers are no better than an interpolation."""
        return dtype == torch.float32

    def sums_surroundings(self, lmax: int) -> bool:
        """Return whether the program has the harmonics."""
        return lmax <= HIGHEST_LMAX

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
