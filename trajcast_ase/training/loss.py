"""Errors of displacement and velocity, in units of their training rms."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trajcast_ase.network import Forecaster
from trajcast_ase.stride import conserved_forecast
from trajcast_ase.training.config import OptimizerConfig
from trajcast_ase.training.dataset import Batch
from trajcast_ase.training.known import KnowingModel, KnownState


class ForecastLoss(nn.Module):
    """Mean squared errors of both targets with equal weight.

    Thiemann et al., arXiv:2503.23794, methods.

    Parameters
    ----------
    model : Forecaster
    pairs_in_a_row : int
        A batch holds this many systems of each run one after the other.
    mass_weighting : float
        Power of the mass in the weight of an atom's squares, which are 1 in the mean.
        At 0 light atoms, which move most, decide; at 1 all elements count alike, as
        errors of momentum and energy do.
    sum_weight : float
        Of the squared *sum* of the residuals of such a row, divided by its length.
        Errors of soft modes keep their sign from stride to stride and add up in a
        rollout; those of stiff modes cancel.
    """

    def __init__(
        self,
        model: Forecaster,
        *,
        pairs_in_a_row: int = 1,
        mass_weighting: float = 0.0,
        sum_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.pairs_in_a_row = pairs_in_a_row
        self.mass_weighting = mass_weighting
        self.sum_weight = sum_weight

    @classmethod
    def of(cls, model: Forecaster, options: OptimizerConfig) -> Self:
        """Return the loss that a configuration chooses."""
        return cls(
            model,
            pairs_in_a_row=options.consecutive_pairs,
            mass_weighting=options.mass_weighting,
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
        if self.mass_weighting > 0.0:
            weights = batch.state.masses.pow(self.mass_weighting)
            residuals = residuals * (weights / weights.mean()).sqrt()[:, None, None]
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
