"""What going back misses on held-out pairs, for the header of a model file."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from trajcast_ase.guards.reversal import reversal_errors
from trajcast_ase.models.reversal_limits import FEWEST_PAIRS, ReversalLimits
from trajcast_ase.stride import ForecastModel
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import PairForecasts
from trajcast_ase.training.reversal_fit import Missed, fit_limits


def missed_by_pairs(
    model: ForecastModel,
    dataset: PairDataset,
    forecasts: PairForecasts,
    *,
    batch_size: int = 50,
) -> Missed:
    """Return by how much one more forecast, back, misses the start of each pair.

    Parameters
    ----------
    model : ForecastModel
    dataset : PairDataset
    forecasts : PairForecasts
        Of this model on this data set.
    batch_size : int
    """
    rows, sizes, start = [], [], 0
    for batch in dataset.in_order(batch_size, model.device):
        before = batch.state
        own = slice(start, start + before.n_atoms)
        moved, velocities = (
            torch.from_numpy(values[own]).to(before.device)
            for values in (forecasts.displacements, forecasts.velocities)
        )
        after = before.moved(before.positions + moved, velocities)
        errors = reversal_errors(model, before, after)
        rows.append(torch.stack([errors.positions, errors.velocities]).cpu().numpy())
        sizes += before.sizes()
        start += before.n_atoms
    positions, velocities = np.concatenate(rows, axis=1)
    return Missed(forecasts.atomic_numbers, positions, velocities, np.array(sizes))


def limits_of_pairs(
    model: ForecastModel,
    dataset: PairDataset,
    forecasts: PairForecasts,
    *,
    batch_size: int = 50,
) -> ReversalLimits | None:
    """Return the limits of going back, or None where there are none.

    That is for fewer than 100 pairs and, with a warning, where going back is not finite
    or always exact: a training is not lost for it.

    Parameters
    ----------
    model : ForecastModel
    dataset : PairDataset
    forecasts : PairForecasts
        Of this model on this data set.
    batch_size : int
    """
    if len(dataset) < FEWEST_PAIRS:
        return None
    missed = missed_by_pairs(model, dataset, forecasts, batch_size=batch_size)
    try:
        return fit_limits(missed)
    except ValueError as error:
        warnings.warn(
            f"no limits for going back: {error}; a ReversalGuard needs them",
            UserWarning,
            stacklevel=2,
        )
        return None
