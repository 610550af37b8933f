"""What a resumed training must share with the one that it continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trajcast_ase.models.model_header import read_header
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.network import ForecasterConfig
from trajcast_ase.strict import shortened
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.start import CONSTANTS_OF_DATA


def identity_of(
    config: TrainingConfig, network: ForecasterConfig, data_hash: str
) -> dict[str, Any]:
    """Return the settings that decide every step, as plain values."""
    run, options, settings = config.run, config.optimizer, network.to_dict()
    # Constants follow from the data, but for rounding.
    chosen = [name for name in settings if name not in CONSTANTS_OF_DATA]
    return {
        **{f"network.{name}": settings[name] for name in chosen},
        "data": data_hash,
        "seed": run.seed,
        "init": None if run.init is None else read_header(find_model(run.init)).sha256,
        "dtype": run.dtype,
        "batch_size": options.batch_size,
        "consecutive_pairs": options.consecutive_pairs,
        "optimizer": options.optimizer,
        "schedule": options.schedule,
    }


def check_identity(
    stored: Mapping[str, Any], identity: dict[str, Any], path: Path
) -> None:
    """Refuse the checkpoint in `path` of another training.

    Raises
    ------
    ValueError
    """
    for key, value in identity.items():
        if json.dumps(stored.get(key)) != json.dumps(value):
            raise ValueError(
                f"{path} belongs to a training with {key} = "
                f"{shortened(stored.get(key))}, the configuration says {value}; "
                "restore it, choose another run.directory, or begin anew (--anew)"
            )
