r"""Calibrated noise: what a forecast cannot know, drawn anew at each stride.

A network trained on squared errors forecasts the mean of what may happen, whose
variance is too small by that of its residual. Over many strides the modes that it knows
least cool, and a global thermostat heats all others. Noise with the covariance of the
residual restores the variance of each stride:

.. math::

    (\Delta x, v')_i \mathrel{+}= L_{z_i} (\xi_1, \xi_2)_i, \qquad
    L_z L_z^T = \begin{pmatrix}
    \langle \epsilon_x^2 \rangle & \langle \epsilon_x \epsilon_v \rangle \\
    \langle \epsilon_x \epsilon_v \rangle & \langle \epsilon_v^2 \rangle
    \end{pmatrix}_z

with unit normals :math:`\xi` for each atom and axis, and residuals :math:`\epsilon` of
the element :math:`z` on held-out pairs. It comes before conservation, so that momenta
are conserved as without it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import atomic_numbers as numbers_of_symbols
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.conservation import Conservation
from trajcast_ase.models.model_header import ModelHeader, read_header
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.state import State
from trajcast_ase.streams import RandomSource, Streams
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.drawing import Drawing

if TYPE_CHECKING:
    from trajcast_ase.network.forecaster import Forecaster


@dataclass(frozen=True, slots=True)
class ResidualCovariance:
    """Covariance of what forecasts of one element miss, per Cartesian axis.

    Attributes
    ----------
    displacement : float, Å²
    cross : float, Å²/fs
        Of displacement and velocity.
    velocity : float, Å²/fs²
    """

    displacement: float
    cross: float
    velocity: float

    @property
    def correlation(self) -> float:
        """Correlation of the residuals of displacement and velocity."""
        product = self.displacement * self.velocity
        return self.cross / math.sqrt(product) if product > 0 else 0.0

    def factor(self) -> Float[np.ndarray, "2 2"]:
        """Return the lower triangular matrix whose square is the covariance.

        Raises
        ------
        ValueError
            No covariance: not finite, a negative variance, or a correlation above 1.
        """
        values = (self.displacement, self.cross, self.velocity)
        sensible = all(map(math.isfinite, values)) and min(values[0], values[2]) >= 0
        if not sensible or abs(self.correlation) > 1:
            raise ValueError(
                f"{self} is no covariance: variances must be finite and not negative, "
                f"and the correlation {self.correlation:g} lie between -1 and 1"
            )
        moved = math.sqrt(self.displacement)
        shared = self.cross / moved if moved > 0 else 0.0
        own = math.sqrt(max(0.0, self.velocity - shared**2))
        return np.array([[moved, 0.0], [shared, own]])


class ForecastNoise(Drawing):
    """Normal noise on displacements and velocities, for ``TrajCast(noise=...)``.

    Parameters
    ----------
    covariances : dict of symbol to ResidualCovariance
        As :func:`trajcast_ase.training.evaluate.evaluate` measures them.
    rng : numpy Generator or Streams, optional
        Of one system, or of each system of a batch. Default: a fresh
        ``np.random.default_rng()`` for one system.

    Raises
    ------
    ValueError
        A covariance is none.
    """

    def __init__(
        self,
        covariances: Mapping[str, ResidualCovariance],
        rng: RandomSource | Streams | None = None,
    ) -> None:
        super().__init__(rng)
        self.covariances = dict(covariances)
        factors = np.full((len(chemical_symbols), 2, 2), np.nan)
        for symbol, covariance in self.covariances.items():
            factors[numbers_of_symbols[symbol]] = covariance.factor()
        self._factors = torch.from_numpy(factors)

    @classmethod
    def of_model(
        cls,
        model: Forecaster | str | os.PathLike[str],
        rng: RandomSource | Streams | None = None,
    ) -> ForecastNoise:
        """Return the noise that a model file carries.

        Parameters
        ----------
        model : Forecaster, name of a bundled model, or path
        rng : numpy Generator or Streams, optional

        Raises
        ------
        ModelFileError
            The file cannot be read.
        ValueError
            The model carries no covariances.
        """
        if isinstance(model, str | os.PathLike):
            header: ModelHeader | None = read_header(find_model(os.fspath(model)))
            name = os.fspath(model)
        else:
            header, name = model.header, model.name
        found = header.errors.get("covariances") if header is not None else None
        if not found:
            raise ValueError(
                f"{name} carries no residual covariances; measure them on held-out "
                "pairs with trajcast evaluate --write-model"
            )
        return cls(
            {symbol: ResidualCovariance(**one) for symbol, one in found.items()}, rng
        )

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Raise ValueError for an element without a covariance."""
        numbers = np.unique(atomic_numbers.cpu().numpy())
        unknown = [
            chemical_symbols[number]
            for number in numbers
            if bool(torch.isnan(self._factors[number]).any())
        ]
        if unknown:
            raise ValueError(
                f"the noise has no covariance for {', '.join(unknown)}, only for "
                f"{', '.join(self.covariances)}; add it or leave the noise out"
            )

    def draw(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return noise on displacements (Å) and velocities (Å/fs), float64."""
        unit = self.streams.normal_vectors([2 * size for size in state.sizes()])
        unit = unit.reshape(-1, 2, 3).to(state.device)
        moved, kicked = (self.factors(state.atomic_numbers) @ unit).unbind(1)
        return moved, kicked

    def factors(
        self, atomic_numbers: Int[Tensor, " atoms"]
    ) -> Float[Tensor, "atoms 2 2"]:
        """Return for each atom the matrix that makes noise of two unit normals."""
        self._factors = self._factors.to(atomic_numbers.device)
        return self._factors[atomic_numbers]

    def todict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the header of trajectories."""
        return {symbol: asdict(one) for symbol, one in self.covariances.items()}


class NoisyModel:
    """A model whose forecasts carry noise; a :class:`ForecastModel` as well.

    Parameters
    ----------
    model : ForecastModel
    noise : ForecastNoise
    """

    def __init__(self, model: ForecastModel, noise: ForecastNoise) -> None:
        self.model, self.noise = model, noise

    @property
    def streams(self) -> Streams:
        """Random numbers of the noise."""
        return self.noise.streams

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
        """Raise ValueError for an element that model or noise do not know."""
        self.model.check_elements(atomic_numbers)
        self.noise.check_elements(atomic_numbers)

    def raw_forecast(
        self, state: State
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return displacements (Å) and new velocities (Å/fs) with noise."""
        displacements, velocities = self.model.raw_forecast(state)
        moved, kicked = self.noise.draw(state)
        return displacements + moved, velocities + kicked
