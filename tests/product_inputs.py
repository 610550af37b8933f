"""Random products with gradients, for torch and for kernels."""

import torch
from helpers import normal

from trajcast_ase.neighbors import Edges
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import ProductRule, dimension
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import Sharing, WeightRows


def random_edges(n_atoms, n_pairs, *, isolated=()):
    """Return both directions of random pairs, sorted by receiver."""
    generator = torch.Generator().manual_seed(n_pairs)
    free = torch.tensor([i for i in range(n_atoms) if i not in isolated])
    ends = free[torch.randint(len(free), (2, n_pairs), generator=generator)]
    vectors = torch.randn(n_pairs, 3, generator=generator, dtype=torch.float64)
    receivers, senders = torch.cat([ends, ends.flip(0)], dim=1)
    vectors = torch.cat([vectors, -vectors])
    order = receivers.argsort(stable=True)
    return Edges(receivers[order], senders[order], vectors[order])


def problem(
    irreps,
    lmax,
    n_channels,
    edges,
    *,
    n_atoms,
    dtype,
    parity="both",
    in_table=False,
):
    """Return a product, its routes, and random inputs that carry gradients.

    With `in_table` some rows of the weights are between those of a table.
    """
    product = DepthwiseProduct(ProductRule(irreps, lmax, parity)).to(dtype)
    routes = Routes.of_edges(edges, n_atoms)
    x = normal(n_atoms, dimension(irreps), n_channels, seed=1)
    lengths = edges.vectors.norm(dim=1)
    if in_table:
        grid = Grid.between(0.05, 2.5, 12)
        places = grid.places(lengths)
        rows, fractions, n_rows = places.rows, places.fractions, grid.n_points
    else:
        sharing = Sharing.of_lengths(lengths)
        rows, fractions, n_rows = sharing.rows, None, len(sharing.representatives)
    values = normal(n_rows, product.rule.n_paths * n_channels, seed=2)
    harmonics = normal(len(edges.receivers), (lmax + 1) ** 2, seed=3)
    x, values = (t.to(dtype).requires_grad_() for t in (x, values))
    weights = WeightRows(values, rows, fractions)
    return product, routes, x, weights, harmonics.to(dtype)


def gradients(blocks, inputs):
    """Return the gradients of a random functional of the output blocks."""
    total = sum(
        (block * normal(*block.shape, seed=10 + k).to(block)).sum()
        for k, block in enumerate(blocks)
    )
    return torch.autograd.grad(total, inputs)
