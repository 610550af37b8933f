"""The least time of a forecast on a card: what must be computed, and what be moved.

The work is that of our formulation in float32, from the network's sizes alone: weights
of edges are interpolated from tables by cubics, products are sparse, every number that
is read comes once from memory and every one that is written goes there once (features
of neighbors and tables are taken to stay in the caches). No run can be faster than the
slower of the two, layer by layer; launches, neighbors and thermostats come on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch

from trajcast_ase.network import ForecasterConfig
from trajcast_ase.network.irreps import (
    Irrep,
    Irreps,
    ProductRule,
    harmonics_irreps,
)
from trajcast_ase.network.wigner import wigner_3j

WIDTH = 4
"""Bytes of a float32."""
CUBIC = 6
"""Operations of a cubic: three multiply-adds."""
PLACE = 2 * 8 + 8
"""Bytes of an edge: who sends, its interval in the tables and its place there."""


@dataclass(frozen=True, slots=True)
class Card:
    """Peaks of a card, in float32 without tensor cores.

    Attributes
    ----------
    flop_per_s, bytes_per_s : float
    source : str
    """

    flop_per_s: float
    bytes_per_s: float
    source: str


CARDS = {
    "H200": Card(67e12, 4.8e12, "NVIDIA H200 Tensor Core GPU, datasheet: SXM"),
    "H100": Card(67e12, 3.35e12, "NVIDIA H100 Tensor Core GPU, datasheet: SXM"),
    "A100": Card(19.5e12, 2.039e12, "NVIDIA A100 Tensor Core GPU, datasheet: 80 GB"),
}


@dataclass(frozen=True, slots=True)
class Work:
    """What a layer, or the surroundings, computes and moves.

    Attributes
    ----------
    flop : float
        A multiply-add is two.
    n_bytes : float
    """

    flop: float
    n_bytes: float

    def seconds(self, card: Card) -> float:
        """Return the least time on a card."""
        return max(self.flop / card.flop_per_s, self.n_bytes / card.bytes_per_s)


@dataclass(frozen=True, slots=True)
class Size:
    """A system as a network sees it.

    Attributes
    ----------
    n_atoms, n_edges : int
        Edges within the cutoff, both directions counted.
    n_pairs : int
        Within the reach of the surroundings.
    """

    n_atoms: int
    n_edges: int
    n_pairs: int


def least_ms(config: ForecasterConfig, size: Size, card: Card) -> float:
    """Return the least time of a forecast on a card, ms."""
    return 1e3 * sum(work.seconds(card) for work in works(config, size))


def works(config: ForecasterConfig, size: Size) -> Iterator[Work]:
    """Yield the work of the surroundings, if there are any, and of each layer."""
    if config.surroundings_cutoff is not None:
        yield _surroundings(config, size)
    irreps = harmonics_irreps(config.lmax)
    for number in range(config.n_layers):
        edge = ProductRule(irreps, config.lmax, config.parity)
        velocity = ProductRule(edge.irreps_out, config.lmax, config.parity)
        last = number == config.n_layers - 1
        yield _layer(config, size, edge, velocity, last=last)
        irreps = velocity.irreps_out


def _surroundings(config: ForecasterConfig, size: Size) -> Work:
    """Return the work of sums over pairs of scalars, each harmonic of its weight."""
    rule = ProductRule((Irrep(0, 1),), config.lmax)
    channels, rows = config.n_channels, rule.n_harmonics
    per_pair = channels * (CUBIC * rule.n_paths + 2 * rows)
    per_atom = 2 * rows * channels**2
    written = WIDTH * rows * channels
    return Work(
        size.n_pairs * per_pair + size.n_atoms * per_atom,
        size.n_pairs * (PLACE + WIDTH * rows) + size.n_atoms * written,
    )


def _layer(
    config: ForecasterConfig,
    size: Size,
    edge: ProductRule,
    velocity: ProductRule,
    *,
    last: bool,
) -> Work:
    """Return the work of a layer; of the last one only vectors are read."""
    channels = config.n_channels
    wanted = (Irrep(1, -1), Irrep(0, 1)) if last else velocity.irreps_out
    per_edge = channels * (CUBIC * edge.n_paths + 2 * terms(edge) + 2 * rows_out(edge))
    per_atom = 2 * channels**2 * rows_out(edge)
    per_atom += channels * (
        CUBIC * velocity.n_paths
        + 2 * terms(velocity, wanted)
        + 2 * rows_out(velocity, wanted)
    )
    per_atom += 2 * channels**2 * _update_rows(velocity, wanted)
    kept = [irrep for irrep in edge.irreps if irrep in wanted]
    per_atom += 2 * channels**2 * sum(irrep.dim for irrep in kept)
    moved = WIDTH * channels * (edge.dim_in + sum(irrep.dim for irrep in wanted))
    return Work(
        size.n_edges * per_edge + size.n_atoms * per_atom,
        size.n_edges * (PLACE + WIDTH * edge.n_harmonics) + size.n_atoms * moved,
    )


def _update_rows(rule: ProductRule, wanted: Irreps) -> int:
    """Return rows times outputs of the update's maps; even scalars give gates, too."""
    gates = sum(irrep.l > 0 for irrep in wanted)
    return sum(
        block.irrep.dim * block.n_paths * (1 + gates * (block.irrep == Irrep(0, 1)))
        for block in rule.blocks
        if block.irrep in wanted
    )


def rows_out(rule: ProductRule, wanted: Irreps | None = None) -> int:
    """Return the number of rows of a product, all paths counted."""
    return sum(
        path.out.dim for path in rule.paths if wanted is None or path.out in wanted
    )


def terms(rule: ProductRule, wanted: Irreps | None = None) -> int:
    """Return how many multiply-adds of a channel give a sparse product.

    Harmonics and couplings are contracted before, once for all channels.
    """
    return sum(
        _n_coupled(rule.irreps[path.block].l, path.harmonic, path.out.l)
        for path in rule.paths
        if wanted is None or path.out in wanted
    )


@cache
def _n_coupled(l_in: int, harmonic: int, l_out: int) -> int:
    """Return how many pairs of a component in and one out are coupled."""
    symbol: torch.Tensor = wigner_3j(l_in, harmonic, l_out)
    return int((symbol.abs() > 0).any(dim=1).sum())


def card_of(name: str) -> Card | None:
    """Return the peaks of a card by the name that its driver gives, if known."""
    return next((card for key, card in CARDS.items() if key in name), None)
