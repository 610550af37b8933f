"""Edges and velocities as the layers take them: harmonics, radial functions, routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network.harmonics import spherical_harmonics
from trajcast_ase.network.interaction import Graph
from trajcast_ase.network.routes import Routes

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """What a network reads of a state.

    Attributes
    ----------
    species : (n_atoms,) int64
    velocities : (n_atoms, 3) float64, Å/fs
        Relative to the centre of mass of each system.
    vectors : (n_edges, 3) float64, Å
    routes : Routes
    around : (n_atoms, (lmax + 1)², n_channels) or None
        Sums over the surroundings, where the network has any.
    one_hot : (n_atoms, n_species) or None
        Of `species`, where somebody has it.
    """

    species: Int[Tensor, " atoms"]
    velocities: Float[Tensor, "atoms 3"]
    vectors: Float[Tensor, "edges 3"]
    routes: Routes
    around: Float[Tensor, "atoms harmonics channels"] | None
    one_hot: Float[Tensor, "atoms species"] | None = None

    def graph(self, network: Forecaster) -> Graph:
        """Return the embedded edges and velocities."""
        config, dtype, species = network.config, network.dtype, self.species
        one_hot, velocities = self.one_hot, self.velocities
        if one_hot is None:
            one_hot = nn.functional.one_hot(species, len(config.elements)).to(dtype)
        thermal = config.velocity_encoding == "thermal"
        if thermal:
            if config.largest_speeds:
                velocities = limited(velocities, network.largest_speeds[species])
            velocities = velocities / network.velocity_scales[species, None]
            velocities = saturated(velocities, config.velocity_saturation)
        velocities, vectors = velocities.to(dtype), self.vectors.to(dtype)
        speeds = velocities.norm(dim=1)
        return Graph(
            routes=self.routes,
            edge_harmonics=spherical_harmonics(vectors, config.lmax, normalize=True),
            velocity_harmonics=spherical_harmonics(
                velocities, config.lmax, normalize=not thermal
            ),
            speeds=speeds,
            velocity_radial=network.speed(speeds, one_hot),
            species=species,
            species_one_hot=one_hot,
            backend=network.backend,
        )


LEAST_LENGTH = 1e-30
"""Of what is divided by its length."""


def limited(
    vectors: Float[Tensor, "atoms 3"], largest: Float[Tensor, " atoms"]
) -> Float[Tensor, "atoms 3"]:
    """Return `vectors`, those that are longer than `largest` cut to this length."""
    lengths = vectors.norm(dim=1).clamp_min(LEAST_LENGTH)
    shares: Tensor = (largest / lengths).clamp_max(1.0)
    return vectors * shares[:, None]


def saturated(
    vectors: Float[Tensor, "atoms 3"], limit: float | None
) -> Float[Tensor, "atoms 3"]:
    """Return `vectors` shortened so that none is longer than `limit`; smooth."""
    if limit is None:
        return vectors
    squares = vectors.square().sum(dim=1, keepdim=True)
    return vectors / torch.sqrt(1.0 + squares / limit**2)
