"""The network that a training starts from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch

from trajcast_ase.models.model_file import load_model
from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.training.config import RunConfig, TrainingConfig
from trajcast_ase.training.data import Statistics

SPEED_RANGE = 3.0
"""Multiples of the rms speed that the speed basis covers; speeds beyond are rare."""
CONSTANTS_OF_DATA = (
    "displacement_rms",
    "velocity_rms",
    "avg_num_neighbors",
    "velocity_max",
    "velocity_scales",
    "largest_speeds",
)
"""What a network takes from its pairs; the file it starts from has its own."""
OF_SURROUNDINGS = ("surroundings_cutoff", "n_surroundings_rbf")
"""What a network without surroundings may be given more of than it was trained with."""


def first_model(
    config: TrainingConfig, statistics: Statistics, device: str
) -> Forecaster:
    """Return the network that a training starts from: a new one, or a file's.

    Raises
    ------
    ValueError
        ``run.init`` names a network of other elements, horizon or size.
    """
    network = config.network
    thermal = network.velocity_encoding == "thermal"
    unit = 1.0 if thermal else max(statistics.velocity_scales)
    fastest = unit * (network.velocity_saturation or SPEED_RANGE)
    settings = ForecasterConfig(
        elements=statistics.elements,
        horizon_fs=config.data.horizon_fs,
        displacement_rms=statistics.displacement_rms,
        velocity_rms=statistics.velocity_rms,
        avg_num_neighbors=statistics.avg_num_neighbors,
        velocity_max=fastest,
        velocity_scales=statistics.velocity_scales if thermal else (),
        largest_speeds=statistics.largest_speeds if thermal else (),
        **network.model_dump(),
    )
    if config.run.init is None:
        generator = torch.Generator().manual_seed(config.run.seed)
        model = Forecaster(settings, generator=generator)
    else:
        model = _initial_model(config.run.init, settings, config.run.seed)
    # A backend is chosen where it computes.
    model = model.to(device=device, dtype=_dtype(config.run))
    return model.set_backend(config.run.backend)


def _initial_model(
    source: Path | str, settings: ForecasterConfig, seed: int
) -> Forecaster:
    """Return the network of a file or a bundled model, to be trained on.

    It keeps the constants that its weights were trained with, but for the largest
    speeds, where these pairs have larger ones. Surroundings that it lacks are added,
    and change no forecast before they are trained.

    Raises
    ------
    ValueError
        The file holds a network of other elements, horizon or size.
    """
    model = load_model(source)
    gains = model.surroundings is None and settings.surroundings_cutoff is not None
    may_differ = CONSTANTS_OF_DATA + (OF_SURROUNDINGS if gains else ())
    for key, wanted in settings.to_dict().items():
        found = getattr(model.config, key)
        if key not in may_differ and found != wanted:
            raise ValueError(
                f"run.init = {source} has {key} = {found}, the configuration asks for "
                f"{wanted}; give the same values in both, or start from nothing"
            )
    here = settings.largest_speeds
    known = model.config.largest_speeds or here
    largest = tuple(max(pair) for pair in zip(known, here, strict=True))
    changed = {key: getattr(settings, key) for key in OF_SURROUNDINGS}
    changed |= {"largest_speeds": largest}
    generator = torch.Generator().manual_seed(seed)
    first = Forecaster(
        dataclasses.replace(model.config, **changed), generator=generator
    )
    first.load_state_dict(model.state_dict(), strict=not gains)
    if gains:
        _let_surroundings_begin(first)
    first.header = model.header
    return first.requires_grad_(requires_grad=True).train()


@torch.no_grad()
def _let_surroundings_begin(model: Forecaster) -> None:
    """Give new surroundings no share yet, and an atom's own features all of theirs.

    The first features are the sum of both over √2 (:mod:`..network.surroundings`).
    """
    if model.surroundings is not None:
        model.surroundings.receivers.weight.zero_()
    for weight in model.embedding.parameters():
        weight.mul_(math.sqrt(2.0))


def _dtype(run: RunConfig) -> torch.dtype:
    return torch.float64 if run.dtype == "float64" else torch.float32
