"""Initial features of the atoms from element and velocity."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trajcast_ase.network.interaction import IrrepLinear
from trajcast_ase.network.irreps import Irreps, harmonics_irreps
from trajcast_ase.network.radial import GaussianBasis


class SpeedEmbedding(nn.Module):
    """Gaussians of the speed mixed with the element: ``g_u o_t W[u, t, w]``."""

    def __init__(self, n_basis: int, n_species: int, maximum: float) -> None:
        super().__init__()
        self.basis = GaussianBasis(n_basis, maximum)
        self.weight = nn.Parameter(
            torch.randn(n_basis, n_species, n_basis, dtype=torch.float64)
        )

    def forward(
        self,
        speeds: Float[Tensor, " atoms"],
        species_one_hot: Float[Tensor, "atoms species"],
    ) -> Float[Tensor, "atoms basis"]:
        """Return the embedded speeds, in the units of the basis' maximum."""
        n_basis, n_species, _ = self.weight.shape
        joint = self.basis(speeds)[:, :, None] * species_one_hot[:, None, :]
        scale = 1.0 / math.sqrt(n_basis * n_species)
        mixed: Tensor = joint.flatten(1) @ (self.weight.flatten(0, 1) * scale)
        return mixed


class DirectionEmbedding(nn.Module):
    """Published form: element, speed embedding and velocity direction, mixed."""

    def __init__(
        self, lmax: int, n_channels: int, n_species: int, n_basis: int
    ) -> None:
        super().__init__()
        self.irreps: Irreps = harmonics_irreps(lmax)
        self.linear = IrrepLinear(
            self.irreps,
            (n_species + n_basis, *(1,) * lmax),
            self.irreps,
            (n_channels,) * (lmax + 1),
        )

    def forward(
        self,
        species_one_hot: Float[Tensor, "atoms species"],
        speed: Float[Tensor, "atoms basis"],
        velocity_harmonics: Float[Tensor, "atoms harmonics"],
    ) -> Float[Tensor, "atoms dim channels"]:
        """Return the features that enter the first layer."""
        scalars = torch.cat([species_one_hot, speed], dim=1)[:, None]
        _, *higher = torch.split(
            velocity_harmonics[:, :, None], [ir.dim for ir in self.irreps], dim=1
        )
        return torch.cat(self.linear((scalars, *higher)), dim=1)


class ThermalEmbedding(nn.Module):
    """Element-resolved form: each element has its own map of its solid harmonics."""

    def __init__(
        self, lmax: int, n_channels: int, n_species: int, n_basis: int
    ) -> None:
        super().__init__()
        self.irreps: Irreps = harmonics_irreps(lmax)
        self.scalars = nn.Parameter(
            torch.randn(n_species + n_basis, n_channels, dtype=torch.float64)
        )
        self.vectors = nn.Parameter(
            torch.randn(lmax, n_species, n_channels, dtype=torch.float64)
        )

    def forward(
        self,
        species_one_hot: Float[Tensor, "atoms species"],
        speed: Float[Tensor, "atoms basis"],
        velocity_harmonics: Float[Tensor, "atoms harmonics"],
    ) -> Float[Tensor, "atoms dim channels"]:
        """Return the features that enter the first layer."""
        scale = 1.0 / math.sqrt(self.scalars.shape[0])
        scalars = torch.cat([species_one_hot, speed], dim=1) @ (self.scalars * scale)
        _, *higher = torch.split(
            velocity_harmonics[:, :, None], [ir.dim for ir in self.irreps], dim=1
        )
        mixed = [
            harmonic * (species_one_hot @ weight)[:, None]
            for harmonic, weight in zip(higher, self.vectors, strict=True)
        ]
        return torch.cat([scalars[:, None], *mixed], dim=1)
