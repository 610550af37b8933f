"""Errors of displacement and velocity, in units of their training rms."""

from __future__ import annotations

from typing import Self

import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network import Forecaster
from trajcast_ase.stride import conserved_forecast
from trajcast_ase.training.config import OptimizerConfig
from trajcast_ase.training.dataset import Batch, PairDataset
from trajcast_ase.training.known import KnowingModel, KnownState


class ForecastLoss(nn.Module):
    """Mean squared errors of both targets with equal weight.

    Thiemann et al., arXiv:2503.23794, methods.

    Parameters
    ----------
    model : Forecaster
    pairs_in_a_row : int
        A batch holds this many systems of each run one after the other.
    weights : (119,), optional
        Of an atom's squares, by atomic number; 1 in the mean over the data. See
        :func:`mass_weights`. Default: light atoms, which move most, decide.
    sum_weight : float
        Of the squared *sum* of the residuals of such a row, divided by its length.
        Errors of soft modes keep their sign from stride to stride and add up in a
        rollout; those of stiff modes cancel.
    """

    roots: Tensor | None

    def __init__(
        self,
        model: Forecaster,
        *,
        pairs_in_a_row: int = 1,
        weights: Float[Tensor, " numbers"] | None = None,
        sum_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.pairs_in_a_row = pairs_in_a_row
        roots = None if weights is None else weights.sqrt().to(model.device)
        self.register_buffer("roots", roots, persistent=False)
        self.sum_weight = sum_weight

    @classmethod
    def of(cls, model: Forecaster, options: OptimizerConfig, data: PairDataset) -> Self:
        """Return the loss that a configuration chooses, for these training pairs."""
        power = options.mass_weighting
        return cls(
            model,
            pairs_in_a_row=options.consecutive_pairs,
            weights=mass_weights(data, power) if power > 0.0 else None,
            sum_weight=options.residual_sum_weight,
        )

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of `batch` after conservation, as the rollout uses it."""
        config = self.model.config
        known = isinstance(batch.state, KnownState)
        model = KnowingModel(self.model) if known else self.model
        displacements, velocities = conserved_forecast(model, batch.state)
        moved = (displacements - batch.displacements) / config.displacement_rms
        changed = (velocities - batch.velocities) / config.velocity_rms
        residuals = torch.stack((moved, changed), dim=1)
        if self.roots is not None:
            residuals = residuals * self.roots[batch.state.atomic_numbers, None, None]
        loss = 2.0 * residuals.square().mean()
        if self.sum_weight > 0.0:
            sums = self._sums(residuals, batch.state.system_index)
            loss = loss + self.sum_weight * sums.square().sum() / moved.numel()
        return loss

    def _sums(
        self,
        residuals: Float[Tensor, "atoms 2 3"],
        system_index: Int[Tensor, " atoms"],
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return each atom's residuals summed over its row of systems.

        They stand in the places of the first system of the row; the rest is zero.
        """
        sizes = torch.bincount(system_index)
        starts = torch.cumsum(sizes, 0) - sizes
        heads = starts.view(-1, self.pairs_in_a_row)[:, :1]
        shift = (starts.view(-1, self.pairs_in_a_row) - heads).flatten()
        places = torch.arange(len(residuals), device=residuals.device)
        target = places - shift[system_index]
        return torch.zeros_like(residuals).index_add(0, target, residuals)


def mass_weights(dataset: PairDataset, power: float) -> Float[Tensor, " numbers"]:
    """Return a power of the mass by atomic number, 1 in the mean over all pairs.

    With power 1 errors are in units of what atoms of their element move, as momentum
    and energy are; without it, one of a hydrogen counts as much as an equal one of an
    atom that moves a quarter as far.
    """
    counts, sums = torch.zeros(2, len(chemical_symbols), dtype=torch.float64)
    for part in dataset.parts:
        numbers = torch.from_numpy(part.frames.atomic_numbers)
        masses = torch.from_numpy(part.frames.masses)
        ones = torch.full_like(masses, len(part))
        counts.index_add_(0, numbers, ones)
        sums.index_add_(0, numbers, ones * masses**power)
    weights: Tensor = sums / counts.clamp(min=1.0) * counts.sum() / sums.sum()
    return weights
