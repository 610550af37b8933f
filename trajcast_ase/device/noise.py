"""Calibrated noise in a stride on a device: that of the host, of other numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.conservation import Conservation
from trajcast_ase.device.draws import Draws
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel


@dataclass(frozen=True, slots=True)
class KickedModel:
    """A model whose next forecast carries noise; a :class:`.ForecastModel`.

    Attributes
    ----------
    model : ForecastModel
    factors : (n_atoms, 2, 2)
        Of the noise, :meth:`.ForecastNoise.factors`.
    draws : Draws
        Of this stride, for the noise.
    """

    model: ForecastModel
    factors: Float[Tensor, "atoms 2 2"]
    draws: Draws

    @property
    def horizon_fs(self) -> float:
        """Time that one forecast covers, fs."""
        return self.model.horizon_fs

    @property
    def conservation(self) -> Conservation:
        """The angular momentum that the forecast conserves."""
        return self.model.conservation

    @property
    def device(self) -> torch.device:
        """Device on which the model computes."""
        return self.model.device

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Do nothing: they were checked with the layout."""

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and new velocities (Å/fs) with noise."""
        displacements, velocities = self.model.raw_forecast(state)
        # Summed in a fixed order, which a matrix product on a device need not keep.
        noise = (self.factors[..., None] * self.draws.noise_normals()[:, None]).sum(2)
        moved, kicked = noise.unbind(1)
        return displacements + moved, velocities + kicked
