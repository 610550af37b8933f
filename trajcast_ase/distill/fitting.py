"""Trainings of distill: their configuration, and what a step of them takes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from trajcast_ase.distill.facts import Facts
from trajcast_ase.strict import integer, number
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.trainer import Trainer

BATCH_ATOMS = 200
"""Atoms in the pairs of one step, about."""
LARGEST_BATCH = 10
LONG_TRAINING = 10_000
"""Steps from which on a lower rate is better (docs/training.md)."""
PROBES, PROBED_S = 4, 2.0
"""Steps that are timed, at least, and for how long."""
SCREENING_PAIRS = 4000
LARGEST = 10**9


@dataclass(frozen=True, slots=True)
class Candidate:
    """A horizon and a network.

    Attributes
    ----------
    lag : int
        Frames per horizon.
    cutoff_A : float, Å
    surroundings_A : float or None, Å
        Second cutoff, out to which elements and places count.
    n_channels, n_layers : int
    """

    lag: int
    cutoff_A: float
    surroundings_A: float | None
    n_channels: int
    n_layers: int

    def to_plain(self) -> dict[str, Any]:
        """Return the candidate as JSON values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Self:
        """Return a candidate of a state file.

        Raises
        ------
        ValueError
            A value is missing, or of another type.
        """
        if values.keys() != set(cls.__slots__):
            raise ValueError("a candidate of the state lacks a key or has another")
        wide = values["surroundings_A"]
        return cls(
            lag=integer(values["lag"], "lag", 1, LARGEST),
            cutoff_A=number(values["cutoff_A"], "cutoff_A", 0),
            surroundings_A=None if wide is None else number(wide, "surroundings_A", 0),
            n_channels=integer(values["n_channels"], "n_channels", 4, 1024),
            n_layers=integer(values["n_layers"], "n_layers", 1, 16),
        )

    def horizon_fs(self, facts: Facts) -> float:
        """Return the horizon, fs."""
        return self.lag * facts.stride_fs

    @property
    def network(self) -> str:
        """Cutoffs, channels and layers in words."""
        wide = (
            f", surroundings {self.surroundings_A:g} Å" if self.surroundings_A else ""
        )
        return (
            f"cutoff {self.cutoff_A:g} Å{wide}, {self.n_channels} channels, "
            f"{self.n_layers} layers"
        )


def configuration(
    candidate: Candidate,
    facts: Facts,
    folder: Path,
    *,
    n_atoms: int,
    steps: int,
    name: str,
    description: str,
    seed: int,
    screening: bool,
) -> TrainingConfig:
    """Return the configuration of a training.

    Parameters
    ----------
    candidate : Candidate
    facts : Facts
    folder : Path
        Of distill; the training has a folder of its own in it.
    n_atoms : int
    steps : int
    name : str
        Of the training's folder; its last part is that of the model.
    description : str
        Of the data.
    seed : int
    screening : bool
        Whether it only serves a choice.
    """
    every = max(1, steps // 8)
    return TrainingConfig.from_dict(
        {
            "data": {
                "train": [str(path) for path in facts.paths(facts.train, folder)],
                "validation": [
                    str(path) for path in facts.paths(facts.validation, folder)
                ],
                "horizon_fs": candidate.horizon_fs(facts),
                "check_motion": False,  # it was, where frames are the user's
                "max_pairs": SCREENING_PAIRS if screening else None,
                "validation_pairs": 50 if screening else 300,
                "description": description,
            },
            "network": {
                "cutoff": candidate.cutoff_A,
                "surroundings_cutoff": candidate.surroundings_A,
                "n_channels": candidate.n_channels,
                "n_layers": candidate.n_layers,
            },
            "optimizer": {
                "steps": steps,
                "batch_size": min(LARGEST_BATCH, max(1, round(BATCH_ATOMS / n_atoms))),
                "learning_rate": 0.2 if steps < LONG_TRAINING else 0.1,
                "warmup_steps": min(300, steps // 10),
            },
            "run": {
                "name": Path(name).name,
                "directory": str((folder / name).resolve()),
                "seed": seed,
                "threads": 1,
                "checkpoint_minutes": 0.5,
                "validate_every": steps if screening else every,
                "log_every": max(1, min(100, steps // 100)),
            },
        },
        folder=Path.cwd(),
        source="the configuration that distill made",
    )


def seconds_per_step(config: TrainingConfig) -> float:
    """Return the time of one optimizer step, measured without changing anything."""
    data = load_data(config.data, config.network.cutoff)
    trainer = Trainer(config, data, Ranks(device=config.run.device))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer.optimize()
        began = time.perf_counter()
        n_steps = 0
        while n_steps < PROBES or time.perf_counter() - began < PROBED_S:
            trainer.optimize()
            n_steps += 1
        return (time.perf_counter() - began) / n_steps
    finally:
        torch.set_num_threads(before)
