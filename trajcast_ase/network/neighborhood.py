"""What a forecast needs of the atoms around each atom: edges, and sums farther out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network.backend import ReadyLayers
from trajcast_ase.network.harmonics import spherical_harmonics
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.sampling import sampled_lengths
from trajcast_ase.network.surroundings import Surroundings
from trajcast_ase.network.weights import training_grid
from trajcast_ase.state import State

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster


@dataclass(frozen=True, slots=True)
class Neighborhood:
    """What :meth:`.Forecaster.forward` takes beside velocities.

    Attributes
    ----------
    edges : Edges
        All pairs within ``config.cutoff``; within ``config.reach`` where the sums over
        the surroundings are yet to be made from them.
    around : (n_atoms, (lmax + 1)², n_channels) or None
        Sums over the surroundings. None where the network has none, or where only a
        list of pairs will do: in float64, without a compiler, with "cpp" for lmax > 2,
        on a GPU without "triton" or in training, for gradients of positions.
    """

    edges: Edges
    around: Float[Tensor, "atoms harmonics channels"] | None


def neighborhood(
    network: Forecaster,
    state: State,
    species: Int[Tensor, " atoms"],
    layers: ReadyLayers | None,
) -> Neighborhood:
    """Return the neighborhood of every atom of `state`."""
    around = sums_over_surroundings(network, state, species, layers)
    reach = edge_reach(network, around)
    return Neighborhood(find_edges(state, reach, network.neighbor_backend), around)


def edge_reach(network: Forecaster, around: Tensor | None) -> float:
    """Return within which distance pairs are listed, Å."""
    return network.config.reach if around is None else network.config.cutoff


def sums_over_surroundings(
    network: Forecaster,
    state: State,
    species: Int[Tensor, " atoms"],
    layers: ReadyLayers | None,
) -> Float[Tensor, "atoms harmonics channels"] | None:
    """Return the sums over the surroundings without a list of pairs, where possible."""
    module, lmax = network.surroundings, network.config.lmax
    if module is None or (layers is None and not network.uses_grids):
        return None
    if not network.backend.sums_surroundings(lmax):
        return None
    if state.positions.requires_grad:
        return None
    if layers is None:
        grid = training_grid(module.basis)
        points = grid.points().to(network.dtype)
        values = module.weights_by_species(points).flatten(0, 1)
    elif layers.surroundings is not None:
        grid, values = layers.surroundings.grid, layers.surroundings.values
    else:
        return None
    return network.backend.surroundings_sums(state, species, values, grid, lmax)


def sums_over_pairs(
    network: Forecaster,
    module: Surroundings,
    species: Int[Tensor, " atoms"],
    edges: Edges,
) -> Float[Tensor, "atoms harmonics channels"]:
    """Return the sums over the surroundings, `edges` being all pairs."""
    vectors = edges.vectors.to(network.dtype)
    return module.sums(
        species,
        spherical_harmonics(vectors, network.config.lmax, normalize=True),
        sampled_lengths(network, module.basis, edges).weights(module.mlp),
        Routes.of_edges(edges, species.shape[0]),
        network.backend,
    )
