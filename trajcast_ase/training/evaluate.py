"""Held-out errors of a model as in Table S1 of the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from trajcast_ase.models.reversal_limits import ReversalLimits
from trajcast_ase.stride import ForecastModel, conserved_forecast
from trajcast_ase.thermostats.noise import ResidualCovariance
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
    covariances : dict of symbol to ResidualCovariance
        What calibrated noise is drawn from.
    n_pairs : int
    reversal : ReversalLimits or None
        What going back misses; None where nobody has measured it.
    """

    displacement: TargetError
    velocity: TargetError
    by_element: dict[str, tuple[TargetError, TargetError]]
    covariances: dict[str, ResidualCovariance]
    n_pairs: int
    reversal: ReversalLimits | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for a log or a model file's header."""
        content = asdict(self)
        if self.reversal is None:
            del content["reversal"]
        return content


@dataclass(frozen=True, slots=True)
class PairForecasts:
    """Forecasts of pairs beside what MD did, all atoms of all pairs in a row.

    Attributes
    ----------
    atomic_numbers : (n,)
    displacements, true_displacements : (n, 3), Å
    velocities, true_velocities : (n, 3), Å/fs
    n_pairs : int
    """

    atomic_numbers: Int[np.ndarray, " atoms"]
    displacements: Float[np.ndarray, "atoms 3"]
    true_displacements: Float[np.ndarray, "atoms 3"]
    velocities: Float[np.ndarray, "atoms 3"]
    true_velocities: Float[np.ndarray, "atoms 3"]
    n_pairs: int


def forecast_pairs(
    model: ForecastModel, dataset: PairDataset, *, batch_size: int = 50
) -> PairForecasts:
    """Return the forecast of every pair of `dataset`.

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
                displacements,
                batch.displacements,
                velocities,
                batch.velocities,
            )
            numbers = batch.state.atomic_numbers.cpu().numpy()
            rows.append((numbers, torch.stack(columns).cpu().numpy()))
    numbers = np.concatenate([row[0] for row in rows])
    values = np.concatenate([row[1] for row in rows], axis=1)
    moved, true_moved, changed, true_changed = values
    return PairForecasts(
        numbers, moved, true_moved, changed, true_changed, n_pairs=len(dataset)
    )


def evaluate(
    model: ForecastModel, dataset: PairDataset, *, batch_size: int = 50
) -> ForecastErrors:
    """Return the errors of `model` on every pair of `dataset`.

    Raises
    ------
    ValueError
        The horizon of the pairs is not the model's, an element is unknown to it or
        never moves, or a forecast is not finite.
    """
    return forecast_errors(forecast_pairs(model, dataset, batch_size=batch_size))


def forecast_errors(forecasts: PairForecasts) -> ForecastErrors:
    """Return the errors of forecasts, of all atoms and by element.

    Raises
    ------
    ValueError
        Forecasts are not finite, or the atoms of an element never move, so that there
        is nothing to relate their error to.
    """
    _check(forecasts)
    moved = forecasts.displacements - forecasts.true_displacements
    changed = forecasts.velocities - forecasts.true_velocities
    by_element, covariances = {}, {}
    for number in np.unique(forecasts.atomic_numbers):
        chosen = forecasts.atomic_numbers == number
        symbol = chemical_symbols[number]
        by_element[symbol] = (
            _target_error(moved[chosen], forecasts.true_displacements[chosen]),
            _target_error(changed[chosen], forecasts.true_velocities[chosen]),
        )
        covariances[symbol] = _covariance(moved[chosen], changed[chosen])
    return ForecastErrors(
        displacement=_target_error(moved, forecasts.true_displacements),
        velocity=_target_error(changed, forecasts.true_velocities),
        by_element=by_element,
        covariances=covariances,
        n_pairs=forecasts.n_pairs,
    )


def _check(forecasts: PairForecasts) -> None:
    """Refuse what gives no errors."""
    for name, target in (
        ("displacements", "true_displacements"),
        ("velocities", "true_velocities"),
    ):
        finite = np.isfinite(getattr(forecasts, name)).all(axis=1)
        if not finite.all():
            atom = int(np.argmin(finite)) * forecasts.n_pairs // len(finite)
            raise ValueError(
                f"forecast {name} of pair {atom} are not finite; its state is far "
                "from all that the model was trained on"
            )
        true = getattr(forecasts, target)
        for number in np.unique(forecasts.atomic_numbers):
            if not true[forecasts.atomic_numbers == number].any():
                raise ValueError(
                    f"true {name} of {chemical_symbols[number]} are zero in all "
                    f"{forecasts.n_pairs} pairs, so that an error in per cent has no "
                    "meaning; give runs in which it moves"
                )


def _covariance(
    displacement: Float[np.ndarray, "atoms 3"], velocity: Float[np.ndarray, "atoms 3"]
) -> ResidualCovariance:
    return ResidualCovariance(
        displacement=float(np.mean(displacement**2)),
        cross=float(np.mean(displacement * velocity)),
        velocity=float(np.mean(velocity**2)),
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
