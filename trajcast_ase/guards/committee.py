"""Several models forecast the same stride: where they disagree, none can be trusted.

The models must have come apart where they know nothing: other seeds of the weights,
other data, other networks. Copies of one training agree on its errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from ase.data import chemical_symbols
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.guards.protocol import Finding
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.thermostats.noise import NoisyModel

SAME_TIME_FS = 1e-6


def committee_spread(forecasts: Sequence[State]) -> Float[Tensor, " atoms"]:
    r"""Return the spread of the forecasts of each atom's position, Å.

    .. math:: \sqrt{\frac{1}{K-1} \sum_k |x_k - \bar x|^2}

    Parameters
    ----------
    forecasts : sequence of State
        Two or more, of one start.

    Raises
    ------
    ValueError
        Fewer than two.
    """
    if len(forecasts) < 2:  # noqa: PLR2004  a spread needs two
        raise ValueError(
            f"{len(forecasts)} forecasts have no spread; give two or more models"
        )
    places = torch.stack([one.positions for one in forecasts])
    squares = (places - places.mean(0)).square().sum(dim=(0, 2))
    return (squares / (len(forecasts) - 1)).sqrt()


class CommitteeGuard:
    """Objects where other models forecast something else than the run's own.

    Parameters
    ----------
    models : sequence of ForecastModel
        Beside that of the run, with its horizon and elements; one or more.
    limit : float, Å
        Largest spread of an atom's forecasts (:func:`committee_spread`). Choose it from
        that on held-out pairs.
    every : int
        Strides between two looks; a look costs one forecast of each model.

    Raises
    ------
    ValueError
        No models, models of different horizons, a limit that is not positive, or
        `every` that is not a positive integer.
    """

    def __init__(
        self, models: Sequence[ForecastModel], limit: float, every: int = 10
    ) -> None:
        if not models:
            raise ValueError("a committee needs one model or more beside the run's own")
        horizons = {model.horizon_fs for model in models}
        if max(horizons) - min(horizons) > SAME_TIME_FS:
            raise ValueError(
                "the models of the committee forecast "
                f"{', '.join(f'{one:g}' for one in sorted(horizons))} fs; give models "
                "of one horizon"
            )
        if not (math.isfinite(limit) and limit > 0):
            raise ValueError(f"limit = {limit} must be a positive number of Å")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every = {every!r} must be a positive number of strides")
        self.models, self.limit, self.every = tuple(models), float(limit), every

    def find(self, model: ForecastModel, before: State, after: State) -> list[Finding]:
        """Return the worst atom of each system where the spread exceeds the limit.

        Raises
        ------
        ValueError
            `model` has another horizon, or a model does not know an element.
        """
        horizon = self.models[0].horizon_fs
        if abs(horizon - model.horizon_fs) > SAME_TIME_FS:
            raise ValueError(
                f"the committee forecasts {horizon:g} fs, the run's model "
                f"{model.horizon_fs:g} fs; give models of its horizon"
            )
        with torch.no_grad():
            if isinstance(model, NoisyModel):
                after = stride(model.model, before)
            forecasts = [after]
            for other in self.models:
                other.check_elements(before.atomic_numbers)
                moved = stride(other, before.to(other.device))
                forecasts.append(moved.to(after.device))
        spread = committee_spread(forecasts)
        spread = torch.where(spread.isnan(), torch.inf, spread)
        found, start = [], 0
        for system, size in enumerate(before.sizes()):
            worst = int(spread[start : start + size].argmax())
            value = float(spread[start + worst])
            if value > self.limit:
                symbol = chemical_symbols[int(before.atomic_numbers[start + worst])]
                text = (
                    f"the forecasts of {len(forecasts)} models for {symbol} (atom "
                    f"{worst}) differ by {value:.2g} Å, where {self.limit:.2g} Å is "
                    "the limit"
                )
                found.append(Finding(start + worst, system, value, self.limit, text))
            start += size
        return found
