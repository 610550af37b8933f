"""Edges and velocities as the layers take them: harmonics, radial functions, routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.neighbors import Edges
from trajcast_ase.network.harmonics import spherical_harmonics
from trajcast_ase.network.interaction import Graph
from trajcast_ase.network.routes import Routes

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster


def embedded_graph(
    network: Forecaster,
    species: Int[Tensor, " atoms"],
    velocities: Float[Tensor, "atoms 3"],
    edges: Edges,
) -> Graph:
    """Return the embedded edges and velocities (Å/fs)."""
    routes = Routes.of_edges(edges, species.shape[0])
    one_hot = nn.functional.one_hot(species, len(network.config.elements))
    return graph_of_routes(
        network,
        species,
        one_hot.to(network.dtype),
        velocities,
        vectors=edges.vectors,
        routes=routes,
    )


def graph_of_routes(
    network: Forecaster,
    species: Int[Tensor, " atoms"],
    one_hot: Float[Tensor, "atoms species"],
    velocities: Float[Tensor, "atoms 3"],
    *,
    vectors: Float[Tensor, "edges 3"],
    routes: Routes,
) -> Graph:
    """Return the embedded edges (Å) and velocities (Å/fs) where routes are known."""
    config, dtype = network.config, network.dtype
    thermal = config.velocity_encoding == "thermal"
    if thermal:
        velocities = velocities / network.velocity_scales[species, None]
        velocities = saturated(velocities, config.velocity_saturation)
    velocities, vectors = velocities.to(dtype), vectors.to(dtype)
    speeds = velocities.norm(dim=1)
    return Graph(
        routes=routes,
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


def saturated(
    vectors: Float[Tensor, "atoms 3"], limit: float | None
) -> Float[Tensor, "atoms 3"]:
    """Return `vectors` shortened so that none is longer than `limit`; smooth."""
    if limit is None:
        return vectors
    squares = vectors.square().sum(dim=1, keepdim=True)
    return vectors / torch.sqrt(1.0 + squares / limit**2)
