"""States whose elements and neighbors are known, and the network's forecast of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.conservation import Conservation
from trajcast_ase.neighbors import Edges
from trajcast_ase.network import Forecaster
from trajcast_ase.network.neighborhood import Neighborhood
from trajcast_ase.state import State


@dataclass(frozen=True, slots=True)
class KnownState(State):
    """A state of which nobody asks what it is made of.

    Attributes
    ----------
    species : (n_atoms,) int64
        The network's index of each element.
    edges : Edges
        Pairs as far as the network lists them.
    isolated_systems : bool
        Whether any system has no periodic axis.
    """

    species: Int[Tensor, " atoms"]
    edges: Edges
    isolated_systems: bool

    def has_isolated(self) -> bool:
        """Return whether any system has no periodic axis."""
        return self.isolated_systems

    def moved(
        self,
        positions: Float[Tensor, "atoms 3"],
        velocities: Float[Tensor, "atoms 3"],
    ) -> KnownState:
        """Return the same systems elsewhere; the pairs stay those that were listed."""
        return replace(self, positions=positions, velocities=velocities)


@dataclass(frozen=True, slots=True)
class KnowingModel:
    """A network that takes neighbors from the state; a ForecastModel.

    Attributes
    ----------
    network : Forecaster
    """

    network: Forecaster

    @property
    def horizon_fs(self) -> float:
        """Time that one forecast covers, fs."""
        return self.network.horizon_fs

    @property
    def conservation(self) -> Conservation:
        """The angular momentum that the forecast conserves."""
        return self.network.conservation

    @property
    def device(self) -> torch.device:
        """Device on which the model computes."""
        return self.network.device

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Do nothing: they were checked with the data."""

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and new velocities (Å/fs), float64."""
        assert isinstance(state, KnownState)  # noqa: S101  for the type checker
        network, config = self.network, self.network.config
        around = None
        if network.surroundings is not None:
            around = network.surroundings_sums(state)
        near = Neighborhood(state.edges, around)
        targets = network.targets(state.species, state.velocities, near).double()
        return (
            targets[:, 0] * config.displacement_rms,
            targets[:, 1] * config.velocity_rms,
        )
