"""A trained network to a model file that says where it comes from."""

from __future__ import annotations

from pathlib import Path

from ase.data import chemical_symbols

from trajcast_ase.dynamics.domain import density
from trajcast_ase.kinetics import run_temperature
from trajcast_ase.models.model_file import save_model
from trajcast_ase.models.model_header import ModelCard, read_header
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.network import Forecaster
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import TrainingData
from trajcast_ase.training.evaluate import ForecastErrors
from trajcast_ase.training.extent import extent


def export_model(
    model: Forecaster,
    path: Path,
    *,
    config: TrainingConfig,
    data: TrainingData,
    errors: ForecastErrors,
    seconds: float,
    steps: int,
) -> None:
    """Write `model` with the provenance of its data, training and errors."""
    optimizer = config.optimizer
    statistics = data.statistics
    symbols = [chemical_symbols[number] for number in statistics.elements]
    masses = [round(mass, 6) for mass in statistics.masses_amu]
    training = {
        "data_sha256": data.hash,
        "data": config.data.description,
        "pairs": len(data.train),
        "runs": len(data.train.parts),
        "run_temperatures_K": [
            round(run_temperature(part.frames), 1) for part in data.train.parts
        ],
        "densities_g_cm3": sorted({round(one, 4) for one in _densities(data)}),
        **extent(data.train.parts, model.config.cutoff),
        "atoms": sorted({len(part.frames.atomic_numbers) for part in data.train.parts}),
        "steps": steps,
        "batch_size": optimizer.batch_size,
        "optimizer": optimizer.model_dump(mode="json"),
        "seed": config.run.seed,
        "dtype": config.run.dtype,
        "device": config.run.device,
        "hours": round(seconds / 3600.0, 3),
    }
    if config.run.init is not None:
        earlier = read_header(find_model(config.run.init))
        training["started_from"] = {"sha256": earlier.sha256, **earlier.training}
    card = ModelCard(
        periodic=any(part.frames.pbc.any() for part in data.train.parts),
        masses_amu=dict(zip(symbols, masses, strict=True)),
        training=training,
        errors=errors.to_dict(),
        licence=config.run.licence,
        citation=config.run.citation,
        thermostat=config.run.thermostat_setting,
    )
    save_model(model, path, metadata=card)


def export_with_errors(model: Forecaster, path: Path, errors: ForecastErrors) -> None:
    """Write a loaded model again, with other errors in its header.

    Raises
    ------
    ValueError
        The model was not read from a file, or `path` has another suffix.
    """
    header = model.header
    if header is None:
        raise ValueError("the model has no header; write it with save_model first")
    card = ModelCard(
        training=header.training,
        errors=errors.to_dict(),
        licence=header.licence,
        citation=header.citation,
        thermostat=header.thermostat,
        periodic=header.periodic,
        masses_amu=dict(zip(header.elements, header.masses_amu, strict=True)),
    )
    save_model(model, path, metadata=card)


def _densities(data: TrainingData) -> list[float]:
    """Return the densities of the training runs that are periodic in all directions."""
    starts = (part.frames.atoms(0) for part in data.train.parts)
    return [density(atoms) for atoms in starts if atoms.pbc.all()]
