"""The seam between a network and what computes it.

A backend is one folder that holds a :class:`Backend`, and one row in :mod:`.backends`.
What several need is in :mod:`.inference`: tables, folded matrices, the list of terms of
a product, and layers that are ready to run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.inference.tables import Grid, Table
from trajcast_ase.network.irreps import Irreps
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows
from trajcast_ase.state import State

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster
    from trajcast_ase.network.graph import NetworkInputs


class BackendError(RuntimeError):
    """A backend does not work on this machine."""


class ReadyLayers(Protocol):
    """A network ready to run, made from its present parameters; no gradients."""

    @property
    def is_current(self) -> bool:
        """Whether the parameters are still those that the layers were made from."""

    @property
    def surroundings(self) -> Table | None:
        """Weights of the sums over the surroundings, one group for each species."""

    def __call__(
        self, network: Forecaster, inputs: NetworkInputs
    ) -> Float[Tensor, "atoms 2 3"]:
        """Return displacement and velocity in units of their training rms.

        Parameters
        ----------
        network : Forecaster
            Which the layers were made from.
        inputs : NetworkInputs
        """


class Backend(ABC):
    """What computes the products and layers of a network.

    The methods that are not abstract are the torch operations, for any device and every
    derivative; a backend replaces those that it does faster. Backends have no state, so
    that copies of a network may share one.

    Attributes
    ----------
    name : str
        By which :meth:`.Forecaster.set_backend` knows it.
    automatic : bool
        Whether "auto" may choose it; else it is taken by name alone.
    """

    name: ClassVar[str]
    automatic: ClassVar[bool] = True

    @abstractmethod
    def check(self) -> None:
        """Raise BackendError where this machine lacks what the backend needs."""

    @abstractmethod
    def computes_on(self, device: torch.device) -> bool:
        """Return whether the backend takes tensors on `device`."""

    def layers(self, network: Forecaster, outputs: Irreps) -> ReadyLayers | None:
        """Return layers that are ready to run, or None: layer by layer in torch.

        Parameters
        ----------
        network : Forecaster
        outputs : Irreps
            Of the last layer, that anyone reads.
        """
        del network, outputs
        return None

    def convolve(
        self,
        product: DepthwiseProduct,
        x: Float[Tensor, "atoms dim channels"],
        harmonics: Float[Tensor, "edges harmonics"],
        weights: WeightRows,
        routes: Routes,
    ) -> tuple[Float[Tensor, "atoms _ _"], ...]:
        """Return the product of the senders' features, summed at the receivers.

        Differentiable with respect to features and weights.
        """
        return product.convolve(x, harmonics, weights, routes)

    def rowwise(
        self,
        product: DepthwiseProduct,
        x: Float[Tensor, "rows dim channels"],
        harmonics: Float[Tensor, "rows harmonics"],
        weights: Float[Tensor, "rows paths channels"],
    ) -> tuple[Float[Tensor, "rows _ _"], ...]:
        """Return the product of each row with its own harmonics and weights.

        Differentiable with respect to features and weights.
        """
        return product.rowwise(x, harmonics, weights)

    def uses_grids(self, dtype: torch.dtype) -> bool:
        """Return whether weights of edges are interpolated in training, too."""
        del dtype
        return False

    def sums_surroundings(self, lmax: int) -> bool:
        """Return whether :meth:`surroundings_sums` works for harmonics up to `lmax`."""
        del lmax
        return False

    def surroundings_sums(
        self,
        state: State,
        species: Int[Tensor, " atoms"],
        values: Float[Tensor, "rows weights"],
        grid: Grid,
        lmax: int,
    ) -> Float[Tensor, "atoms harmonics channels"]:
        """Return sums of weights times harmonics over all atoms up to the grid's end.

        Differentiable with respect to the weights. Without it a list of pairs is made.

        Parameters
        ----------
        state : State
        species : (n_atoms,)
        values : (n_species * grid.n_points, (lmax + 1) * n_channels)
            Weights by length, one table for each species of the other atom.
        grid : Grid
            Å; it ends at the cutoff.
        lmax : int
            For which :meth:`sums_surroundings` holds.
        """
        raise NotImplementedError(f"{self.name}: no sums without a list of pairs")


@dataclass(frozen=True)
class Reference(Backend):
    """Torch operations: any device, every derivative, and what others are held to."""

    name: ClassVar[str] = "reference"

    def check(self) -> None:
        """Do nothing: torch is always there."""

    def computes_on(self, device: torch.device) -> bool:
        """Return True."""
        del device
        return True
