"""Errors of displacement and velocity, in units of their training rms."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from trajcast_ase.network import Forecaster
from trajcast_ase.stride import conserved_forecast
from trajcast_ase.training.dataset import Batch


class ForecastLoss(nn.Module):
    """Mean squared errors of both targets with equal weight.

    Thiemann et al., arXiv:2503.23794, methods. A module, so that one call of
    ``forward`` is what :class:`~torch.nn.parallel.DistributedDataParallel` wraps.
    """

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of `batch` after conservation, as the rollout uses it."""
        config = self.model.config
        displacements, velocities = conserved_forecast(self.model, batch.state)
        moved = (displacements - batch.displacements) / config.displacement_rms
        changed = (velocities - batch.velocities) / config.velocity_rms
        return moved.square().mean() + changed.square().mean()
