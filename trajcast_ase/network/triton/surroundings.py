"""Sums over the surroundings as a Triton kernel: all atoms, all images within a cutoff.

Every atom meets every other of its system, so that the cost grows with the square of
the number of atoms; up to some ten thousand that is little for a card. Nothing is read
by the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.triton.generate_surroundings import surroundings_source
from trajcast_ase.network.triton.programs import generated, launch, power_of_two
from trajcast_ase.state import State

MOST_IMAGES = 32
"""Along one axis, to either side. A cell that is so thin beside the cutoff is a
mistake; the sums are then no numbers."""
MARGIN = 1e-6
"""Of the reach in units of the cell: rounding must not lose an image."""
ATOMS_AT_ONCE, MOST_CHANNELS = 16, 32


@dataclass(frozen=True, slots=True)
class Images:
    """Which images of an atom can be within a cutoff of another, for each system.

    Attributes
    ----------
    cells : (n_systems, 3, 3), Å
        Zeros for axes that are not periodic.
    inverses : (n_systems, 3, 3), 1/Å
        ``vectors @ inverses`` counts the cells along each periodic axis.
    reaches : (n_systems, 3)
        The cutoff in units of the cell.
    counts : (n_systems, 3) int64
        Most images along each axis.
    faults : (n_systems,)
        Zero; not a number where a cell has no volume or is too thin.
    """

    cells: Float[Tensor, "systems 3 3"]
    inverses: Float[Tensor, "systems 3 3"]
    reaches: Float[Tensor, "systems 3"]
    counts: Int[Tensor, "systems 3"]
    faults: Float[Tensor, " systems"]

    @classmethod
    def within(cls, cutoff: float, state: State) -> Self:
        """Return those of the cells of `state`; the host reads none of them."""
        periodic = state.pbc.to(state.cell)
        cells = state.cell * periodic[:, :, None]
        # The Gram matrix of the periodic vectors, and ones for the other axes.
        products = cells @ cells.transpose(1, 2) + torch.diag_embed(1.0 - periodic)
        inverses = cells.transpose(1, 2) @ _inverse(products)
        reaches = cutoff * inverses.norm(dim=1) + MARGIN
        good = reaches <= MOST_IMAGES
        counts = torch.where(good, (2.0 * reaches).floor() + 1.0, 0.0)
        faults = torch.where(good.all(dim=1), 0.0, torch.nan)
        return cls(cells, inverses, reaches, counts.long(), faults)


def _inverse(matrices: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
    """Return the inverses by cross products; a library's would wait for the card."""
    a, b, c = matrices.unbind(dim=1)
    columns = torch.stack([b.cross(c, dim=1), c.cross(a, dim=1), a.cross(b, dim=1)], 2)
    return columns / (a * columns[:, :, 0]).sum(dim=1)[:, None, None]


def surroundings_sums(
    state: State,
    species: Int[Tensor, " atoms"],
    values: Float[Tensor, "rows weights"],
    grid: Grid,
    lmax: int,
) -> Float[Tensor, "atoms harmonics channels"]:
    """Return sums of weights times harmonics over all atoms up to the grid's end.

    Parameters
    ----------
    state : State
    species : (n_atoms,)
    values : (n_species * grid.n_points, (lmax + 1) * n_channels)
        Weights by length, one table for each species of the other atom.
    grid : Grid
        Å; it ends at the cutoff.
    lmax : int

    Raises
    ------
    ValueError
        The values are no tables of that grid, or carry a gradient.
    """
    if values.shape[0] % grid.n_points or values.shape[1] % (lmax + 1):
        raise ValueError(
            f"values of shape {tuple(values.shape)} are no tables of {grid.n_points} "
            f"points for lmax = {lmax}"
        )
    if torch.is_grad_enabled() and values.requires_grad:
        raise ValueError(
            "the backend 'triton' sums over the surroundings without gradients; "
            "list the pairs, or use the backend 'reference'"
        )
    n_atoms, n_channels = state.n_atoms, values.shape[1] // (lmax + 1)
    images = Images.within(grid.end, state)
    bounds = torch.arange(state.n_systems + 1, device=state.device)
    out = values.new_empty(n_atoms, (lmax + 1) ** 2, n_channels)
    block = max(16, min(MOST_CHANNELS, power_of_two(n_channels)))
    launch(
        generated(surroundings_source(lmax)),
        (n_atoms, -(-n_channels // block)),
        state.positions.detach().contiguous(),
        species.contiguous(),
        state.system_index,
        torch.searchsorted(state.system_index, bounds),
        images.cells,
        images.inverses,
        images.reaches,
        images.counts,
        images.faults,
        values.contiguous(),
        out,
        on=out,
        C=n_channels,
        BLOCK=block,
        START=grid.start,
        STEP=grid.step,
        N_INTERVALS=grid.n_intervals,
        END=grid.end,
        ATOMS=ATOMS_AT_ONCE,
        num_warps=4,
    )
    return out
