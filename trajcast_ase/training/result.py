"""What a training leaves: a model file with its errors, and limits of going back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from trajcast_ase.network import Forecaster
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import TrainingData
from trajcast_ase.training.evaluate import (
    ForecastErrors,
    forecast_errors,
    forecast_pairs,
)
from trajcast_ase.training.export import export_model
from trajcast_ase.training.reversibility import limits_of_pairs


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished training leaves.

    Attributes
    ----------
    model : Forecaster
        With averaged weights.
    path : Path
        The model file.
    errors : ForecastErrors
        On the validation pairs.
    steps : int
        Done so far.
    """

    model: Forecaster
    path: Path
    errors: ForecastErrors
    steps: int


def finished(
    model: Forecaster,
    *,
    config: TrainingConfig,
    data: TrainingData,
    seconds: float,
    steps: int,
    write: bool,
) -> TrainingResult:
    """Measure a model on the validation pairs, and write its file.

    Parameters
    ----------
    model : Forecaster
        With averaged weights.
    config : TrainingConfig
    data : TrainingData
    seconds : float, s
        Of all steps.
    steps : int
    write : bool
        One of several processes does.
    """
    path = config.run.directory / f"{config.run.name}.trajcast"
    forecasts = forecast_pairs(model, data.validation)
    limits = limits_of_pairs(model, data.validation, forecasts)
    errors = replace(forecast_errors(forecasts), reversal=limits)
    if write:
        export_model(
            model,
            path,
            config=config,
            data=data,
            errors=errors,
            seconds=seconds,
            steps=steps,
        )
    return TrainingResult(model, path, errors, steps)
