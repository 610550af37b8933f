"""Held-out errors of a model as in Table S1 of the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Float

from trajcast_ase.stride import ForecastModel, conserved_forecast
from trajcast_ase.training.dataset import PairDataset


@dataclass(frozen=True, slots=True)
class TargetError:
    """Error of one target (displacement in Å or velocity in Å/fs).

    Attributes
    ----------
    mae : float
        Mean absolute error per Cartesian component.
    rmse : float
    relative_mae : float
        `mae` over the mean absolute value of the target; times 100 as in Table S1.
    """

    mae: float
    rmse: float
    relative_mae: float


@dataclass(frozen=True, slots=True)
class ForecastErrors:
    """Errors over a set of pairs.

    Attributes
    ----------
    displacement, velocity : TargetError
    by_element : dict of symbol to (displacement, velocity)
    n_pairs : int
    """

    displacement: TargetError
    velocity: TargetError
    by_element: dict[str, tuple[TargetError, TargetError]]
    n_pairs: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for a log or a model file's header."""
        return asdict(self)


def evaluate(
    model: ForecastModel, dataset: PairDataset, *, batch_size: int = 50
) -> ForecastErrors:
    """Return the errors of `model` on every pair of `dataset`.

    Raises
    ------
    ValueError
        The horizon of the pairs is not the model's, or an element is unknown to it.
    """
    horizon = dataset.parts[0].horizon_fs
    if abs(horizon - model.horizon_fs) > 1e-6:  # noqa: PLR2004  decimal fs
        raise ValueError(
            f"the pairs are {horizon:g} fs apart, the model forecasts "
            f"{model.horizon_fs:g} fs; make pairs at the model's horizon"
        )
    rows = []
    with torch.no_grad():
        for batch in dataset.in_order(batch_size, model.device):
            model.check_elements(batch.state.atomic_numbers)
            displacements, velocities = conserved_forecast(model, batch.state)
            columns = (
                displacements - batch.displacements,
                batch.displacements,
                velocities - batch.velocities,
                batch.velocities,
            )
            numbers = batch.state.atomic_numbers.cpu().numpy()
            rows.append((numbers, torch.stack(columns).cpu().numpy()))
    numbers = np.concatenate([row[0] for row in rows])
    values = np.concatenate([row[1] for row in rows], axis=1)
    return ForecastErrors(
        displacement=_target_error(values[0], values[1]),
        velocity=_target_error(values[2], values[3]),
        by_element={
            chemical_symbols[z]: (
                _target_error(values[0, numbers == z], values[1, numbers == z]),
                _target_error(values[2, numbers == z], values[3, numbers == z]),
            )
            for z in np.unique(numbers)
        },
        n_pairs=len(dataset),
    )


def _target_error(
    error: Float[np.ndarray, "atoms 3"], target: Float[np.ndarray, "atoms 3"]
) -> TargetError:
    mae = float(np.abs(error).mean())
    return TargetError(
        mae=mae,
        rmse=float(np.sqrt(np.mean(error**2))),
        relative_mae=mae / float(np.abs(target).mean()),
    )
