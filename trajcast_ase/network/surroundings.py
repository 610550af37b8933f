r"""What surrounds an atom, out to farther than the layers see.

Forces reach farther than messages between neighbors can afford to: most of them are
electrostatic. Of the many distant atoms only element and place matter, one function of
the length for each channel and l:

.. math:: A_{icm}^{(l)} = \frac{1}{\bar n} \sum_j e_{c z_j} R_c^{(l)}(r_{ij})
          Y_m^{(l)}(\hat r_{ij}),

mapped by the receiver's element. That is nine numbers per pair and channel, where a
layer has dozens, so that ten times as many pairs cost less than one layer.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network.backend import Backend
from trajcast_ase.network.config import ForecasterConfig
from trajcast_ase.network.interaction import SpeciesLinear
from trajcast_ase.network.irreps import Irrep, ProductRule, harmonics_irreps
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.radial import MLP, BesselBasis
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows


class Surroundings(nn.Module):
    """Features of every atom from elements and places of those within a cutoff.

    Parameters
    ----------
    cutoff : float, Å
    n_basis : int
        Bessel functions of the length.
    edge_poly_cutoff : int
        Exponent of their envelope.
    hidden : tuple of int
        Hidden widths of the perceptron that gives the weights.
    divisor : float
        Of the sums.
    """

    def __init__(
        self,
        *,
        cutoff: float,
        n_basis: int,
        edge_poly_cutoff: int,
        hidden: tuple[int, ...],
        lmax: int,
        n_channels: int,
        n_species: int,
        divisor: float,
    ) -> None:
        super().__init__()
        self.divisor = divisor
        self.basis = BesselBasis(n_basis, cutoff, edge_poly_cutoff)
        rule = ProductRule((Irrep(0, 1),), lmax)
        self.product = DepthwiseProduct(rule)
        self.mlp = MLP((n_basis, *hidden, rule.n_paths * n_channels))
        self.senders = nn.Parameter(
            torch.randn(n_species, n_channels, dtype=torch.float64)
        )
        self.receivers = SpeciesLinear(harmonics_irreps(lmax), n_channels, n_species)

    @classmethod
    def of(cls, config: ForecasterConfig) -> Self | None:
        """Return the module of a network, where `config` asks for one."""
        if config.surroundings_cutoff is None:
            return None
        return cls(
            cutoff=config.surroundings_cutoff,
            n_basis=config.n_surroundings_rbf,
            edge_poly_cutoff=config.edge_poly_cutoff,
            hidden=config.edge_mlp,
            lmax=config.lmax,
            n_channels=config.n_channels,
            n_species=len(config.elements),
            divisor=config.avg_num_neighbors,
        )

    def sums(
        self,
        species: Int[Tensor, " atoms"],
        harmonics: Float[Tensor, "edges harmonics"],
        weights: WeightRows,
        routes: Routes,
        backend: Backend,
    ) -> Float[Tensor, "atoms harmonics channels"]:
        """Return the sums over all pairs.

        Parameters
        ----------
        species : (n_atoms,)
        harmonics : (n_edges, (lmax + 1)²)
        weights : WeightRows
            What `mlp` gives at the lengths of the edges.
        routes : Routes
            All pairs within the cutoff.
        backend : Backend
            What computes the product.
        """
        sent = self.senders[species][:, None]
        sums = backend.convolve(self.product, sent, harmonics, weights, routes)
        return torch.cat(sums, dim=1) / self.divisor

    def weights_by_species(
        self, lengths: Float[Tensor, " points"]
    ) -> Float[Tensor, "species points weights"]:
        """Return what multiplies the harmonics of atoms of each species."""
        weights: Tensor = self.mlp(self.basis(lengths))
        of_paths = weights.view(len(lengths), -1, self.senders.shape[1])
        senders = self.senders[:, None, None] / self.divisor
        scaled: Tensor = of_paths * senders
        return scaled.flatten(2)

    def forward(
        self,
        sums: Float[Tensor, "atoms harmonics channels"],
        species_one_hot: Float[Tensor, "atoms species"],
    ) -> Float[Tensor, "atoms harmonics channels"]:
        """Return the features, irreps as those of the harmonics.

        Parameters
        ----------
        sums : (n_atoms, (lmax + 1)², n_channels)
        species_one_hot : (n_atoms, n_species)
        """
        return torch.cat(self.receivers(sums, species_one_hot), dim=1)


def with_surroundings(
    own: Float[Tensor, "atoms dim channels"],
    around: Float[Tensor, "atoms dim channels"],
) -> Float[Tensor, "atoms dim channels"]:
    """Return an atom's own features with those of its surroundings."""
    return (own + around) / math.sqrt(2.0)
