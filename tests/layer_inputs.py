"""A layer of random weights and what it reads, for torch and for kernels."""

from dataclasses import dataclass

import torch
from helpers import normal

from trajcast_ase.neighbors import Edges
from trajcast_ase.network.backends import REFERENCE
from trajcast_ase.network.inference.layers import LayerInputs
from trajcast_ase.network.interaction import Graph, Interaction, LayerWeights
from trajcast_ase.network.irreps import Irreps, Parity
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows

N_SPECIES = 3


@dataclass(frozen=True)
class Size:
    irreps: Irreps
    lmax: int
    n_channels: int
    n_atoms: int
    n_edges: int
    parity: Parity = "both"


def layer_and_inputs(size, dtype):
    """Return a layer, features, what its kernel reads, and the same for torch."""
    irreps, lmax, n_channels = size.irreps, size.lmax, size.n_channels
    n_atoms, n_edges = size.n_atoms, size.n_edges
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layer = Interaction(
            irreps,
            lmax=lmax,
            parity=size.parity,
            n_channels=n_channels,
            n_species=N_SPECIES,
            avg_num_neighbors=7.0,
            edge_widths=(4, 8),
            velocity_widths=(4, 8),
        )
        receivers = torch.randint(n_atoms, (n_edges,)).sort().values
        senders = torch.randint(n_atoms, (n_edges,))
    layer = layer.to(dtype)
    # Atom 0 has no edges: no receiver is left there.
    receivers = receivers.clamp(min=min(1, n_atoms - 1))
    edges = Edges(receivers, senders, normal(n_edges, 3, seed=2))
    routes = Routes.of_edges(edges, n_atoms)
    n_harmonics = (lmax + 1) ** 2
    species = torch.arange(n_atoms) % N_SPECIES
    graph = Graph(
        routes=routes,
        edge_harmonics=normal(n_edges, n_harmonics, seed=3, dtype=dtype),
        velocity_harmonics=normal(n_atoms, n_harmonics, seed=4, dtype=dtype),
        speeds=torch.ones(n_atoms, dtype=dtype),
        velocity_radial=torch.ones(n_atoms, 4, dtype=dtype),
        species=species,
        species_one_hot=torch.nn.functional.one_hot(species, N_SPECIES).to(dtype),
        backend=REFERENCE,
    )
    x = normal(n_atoms, sum(ir.dim for ir in irreps), n_channels, seed=5, dtype=dtype)
    n_paths = (
        layer.edge_product.rule.n_paths,
        layer.velocity_product.rule.n_paths,
    )
    weights = LayerWeights(
        WeightRows(
            normal(n_edges, n_paths[0] * n_channels, seed=6, dtype=dtype),
            torch.arange(n_edges),
        ),
        normal(n_atoms, n_paths[1], n_channels, seed=7, dtype=dtype),
    )
    inputs = LayerInputs(
        routes.offsets,
        routes.senders,
        species,
        graph.edge_harmonics,
        graph.velocity_harmonics,
    )
    velocity = WeightRows(weights.velocity.flatten(1), torch.arange(n_atoms))
    return layer, x, (inputs, weights.edge, velocity), (graph, weights)
