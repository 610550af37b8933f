"""Trainings of distill: their configuration, and what a step of them takes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from trajcast_ase.distill.effort import Length
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.speed import one_thread
from trajcast_ase.strict import integer, number
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.trainer import Trainer

BATCH_ATOMS = 200
"""Atoms in the pairs of one step, about."""
LARGEST_BATCH = 10
LONG_TRAINING, HIGH_RATE, LOW_RATE = 10_000, 0.2, 0.1
"""Steps from which on the lower rate is better (docs/training.md)."""
NEVER = 10**9
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


@dataclass(frozen=True, slots=True)
class Task:
    """A training of a candidate: what for, how long, and where.

    Attributes
    ----------
    candidate : Candidate
    length : Length
    name : str
        Of the training's folder in that of distill; its last part is the model's.
    n_atoms : int
    seed : int
    learning_rate : float
    description : str
        Of the data.
    screening : bool
        Whether it only serves a choice.
    init : str or None
        Model file in the folder of distill whose weights it starts from, with its
        network.
    """

    candidate: Candidate
    length: Length
    name: str
    n_atoms: int
    seed: int
    learning_rate: float = HIGH_RATE
    description: str = ""
    screening: bool = False
    init: str | None = None


def configuration(task: Task, facts: Facts, folder: Path) -> TrainingConfig:
    """Return the configuration of a training in the `folder` of distill."""
    candidate, steps = task.candidate, task.length.steps
    size = max(1, round(BATCH_ATOMS / task.n_atoms))
    optimizer: dict[str, Any] = {
        "batch_size": min(LARGEST_BATCH, size),
        "learning_rate": task.learning_rate,
    }
    if steps is not None:
        optimizer |= {"steps": steps, "warmup_steps": min(300, steps // 10)}
    else:
        optimizer["minutes"] = (task.length.seconds or 0.0) / 60.0
    run: dict[str, Any] = {
        "name": Path(task.name).name,
        "directory": str((folder / task.name).resolve()),
        "seed": task.seed,
        "threads": 1,
        "checkpoint_minutes": 0.5,
        "validate_every": NEVER,  # but at the end
    }
    data: dict[str, Any] = {
        "train": [str(path) for path in facts.paths(facts.train, folder)],
        "validation": [str(path) for path in facts.paths(facts.validation, folder)],
        "check_motion": False,  # it was, where frames are the user's
        "max_pairs": SCREENING_PAIRS if task.screening else None,
        "validation_pairs": 50 if task.screening else 300,
        "description": task.description,
    }
    network: dict[str, Any] = {}
    if task.init is not None:  # which has horizon and network
        run["init"] = str((folder / task.init).resolve())
    else:
        data["horizon_fs"] = candidate.horizon_fs(facts)
        network = {
            "cutoff": candidate.cutoff_A,
            "surroundings_cutoff": candidate.surroundings_A,
            "n_channels": candidate.n_channels,
            "n_layers": candidate.n_layers,
        }
    return TrainingConfig.from_dict(
        {"data": data, "network": network, "optimizer": optimizer, "run": run},
        folder=Path.cwd(),
        source="the configuration that distill made",
    )


@dataclass(frozen=True, slots=True)
class Probe:
    """What a training takes: to load its data, and for a step, s."""

    loading_s: float
    seconds_per_step: float


def probe(task: Task, facts: Facts, folder: Path) -> Probe:
    """Measure what a training takes, without changing anything."""
    probed = replace(task, length=Length(NEVER, None))
    config = configuration(probed, facts, folder)
    began = time.perf_counter()
    data = load_data(config.data, config.network.cutoff)
    loading = time.perf_counter() - began
    trainer = Trainer(config, data, Ranks(device=config.run.device))
    with one_thread():
        trainer.optimize()
        began = time.perf_counter()
        n_steps = 0
        while n_steps < PROBES or time.perf_counter() - began < PROBED_S:
            trainer.optimize()
            n_steps += 1
        return Probe(loading, (time.perf_counter() - began) / n_steps)
