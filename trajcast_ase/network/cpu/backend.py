"""The backend of compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.backend import Backend
from trajcast_ase.network.cpu import product as kernel
from trajcast_ase.network.cpu.layer import CompiledLayer
from trajcast_ase.network.cpu.surroundings import HIGHEST_LMAX, surroundings_sums
from trajcast_ase.network.cpu.threads import check_kernels
from trajcast_ase.network.inference.layers import Layers, Network, ready_layers
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import Irreps
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows
from trajcast_ase.state import State


@dataclass(frozen=True)
class Cpp(Backend):
    """Kernels in C++ for the CPU, compiled on demand.

    Products differentiate once, with respect to features and weights; those whose
    harmonics carry a gradient are left to torch.
    """

    name: ClassVar[str] = "cpp"

    def check(self) -> None:
        """Raise CompilerError where nothing can be compiled, kept or loaded."""
        check_kernels()

    def computes_on(self, device: torch.device) -> bool:
        """Return whether `device` is the CPU."""
        return device.type == "cpu"

    def layers(self, network: Network, outputs: Irreps) -> Layers:
        """Return compiled layers."""
        return ready_layers(network, outputs, CompiledLayer)

    def convolve(
        self,
        product: DepthwiseProduct,
        x: Float[Tensor, "atoms dim channels"],
        harmonics: Float[Tensor, "edges harmonics"],
        weights: WeightRows,
        routes: Routes,
    ) -> tuple[Float[Tensor, "atoms _ _"], ...]:
        """Return the product of the senders' features, summed at the receivers."""
        if harmonics.requires_grad:
            return product.convolve(x, harmonics, weights, routes)
        return kernel.convolve(product.rule, x, harmonics, weights, routes)

    def rowwise(
        self,
        product: DepthwiseProduct,
        x: Float[Tensor, "rows dim channels"],
        harmonics: Float[Tensor, "rows harmonics"],
        weights: Float[Tensor, "rows paths channels"],
    ) -> tuple[Float[Tensor, "rows _ _"], ...]:
        """Return the product of each row with its own harmonics and weights."""
        if harmonics.requires_grad:
            return product.rowwise(x, harmonics, weights)
        return kernel.rowwise(product.rule, x, harmonics, weights)

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
