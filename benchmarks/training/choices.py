"""Measure what choices of the training are worth: optimizer, rate, network, data.

    python benchmarks/training/choices.py data/paracetamol --steps 2500
    python benchmarks/training/choices.py data/water --steps 2000 --only "surroundings"

Trains networks on the same pairs with the same number of steps and prints their errors
on the validation run, one row per choice, as a Markdown table: for paracetamol with 16
channels and three layers (about a minute a row on one idle core), for quartz and water
with 24 channels and four layers (four minutes a row). The folder's name tells the
system. Repeat with another ``--seed`` before you believe a difference of less than a
tenth.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.loop import train

CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "SOAP, rate 0.2": {},
    "SOAP, rate 0.1": {"optimizer": {"learning_rate": 0.1}},
    "SOAP, rate 0.05": {"optimizer": {"learning_rate": 0.05}},
    "SOAP, rate 0.4": {"optimizer": {"learning_rate": 0.4}},
    "SOAP, bases every 5 steps": {"optimizer": {"refresh_every": 5}},
    "SOAP, bases every 20 steps": {"optimizer": {"refresh_every": 20}},
    "SOAP, no basis for sides above 64": {"optimizer": {"longest_side": 64}},
    "SOAP, momentum 0.9": {"optimizer": {"momentum": 0.9}},
    "Muon, rate 0.1": {"optimizer": {"optimizer": "muon", "learning_rate": 0.1}},
    "Muon, rate 0.2": {"optimizer": {"optimizer": "muon", "learning_rate": 0.2}},
    "Muon, rate 0.03": {"optimizer": {"optimizer": "muon", "learning_rate": 0.03}},
    "AdamW, rate 0.1": {"optimizer": {"optimizer": "adamw", "learning_rate": 0.1}},
    "AdamW, rate 0.02": {"optimizer": {"optimizer": "adamw", "learning_rate": 0.02}},
    "errors by the root of the mass": {"optimizer": {"mass_weighting": 0.5}},
    "errors by the mass": {"optimizer": {"mass_weighting": 1.0}},
    "surroundings 9 Å, errors by the mass": {
        "network": {"surroundings_cutoff": 9.0},
        "optimizer": {"mass_weighting": 1.0},
    },
    "batch of 5": {"optimizer": {"batch_size": 5}},
    "4 pairs in a row, batch of 3": {
        "optimizer": {"batch_size": 3, "consecutive_pairs": 4}
    },
    "4 pairs in a row, sum of residuals": {
        "optimizer": {
            "batch_size": 3,
            "consecutive_pairs": 4,
            "residual_sum_weight": 1.0,
        }
    },
    "four layers": {"network": {"n_layers": 4}},
    "five layers": {"network": {"n_layers": 5}},
    "32 channels": {"network": {"n_channels": 32}},
    "cutoff 6 Å": {"network": {"cutoff": 6.0}},
    "surroundings 9 Å": {"network": {"surroundings_cutoff": 9.0}},
    "surroundings 9 Å, five layers": {
        "network": {"surroundings_cutoff": 9.0, "n_layers": 5}
    },
    "surroundings 9 Å, natural parity, 48 channels": {
        "network": {"surroundings_cutoff": 9.0, "parity": "natural", "n_channels": 48}
    },
    "surroundings 12 Å": {"network": {"surroundings_cutoff": 12.0}},
    "surroundings 12 Å, 8 radial functions": {
        "network": {"surroundings_cutoff": 12.0, "n_surroundings_rbf": 8}
    },
    "natural parity": {"network": {"parity": "natural"}},
    "natural parity, 32 channels": {"network": {"parity": "natural", "n_channels": 32}},
    "natural parity, 48 channels": {"network": {"parity": "natural", "n_channels": 48}},
    "edge perceptron 64, 64": {"network": {"edge_mlp": [64, 64]}},
    "16 radial functions": {"network": {"n_edge_rbf": 16}},
    "published velocity encoding": {"network": {"velocity_encoding": "direction"}},
    "no time reversal": {"optimizer": {"reversal_probability": 0.0}},
    "a tenth of the pairs": {"data": {"max_pairs": 45_000}},
    "a hundredth of the pairs": {"data": {"max_pairs": 4_500}},
}


PERCEPTRONS = {"edge_mlp": [32, 32], "velocity_mlp": [32, 32]}
SYSTEMS: dict[str, dict[str, dict[str, Any]]] = {
    "paracetamol": {
        "data": {"train": "nve-1[0-9][0-9].h5", "horizon_fs": 7.0},
        "network": {"cutoff": 4.0, "n_channels": 16, "n_layers": 3},
        "optimizer": {"batch_size": 10},
    },
    "quartz": {
        "data": {"train": "nve-[234].h5", "horizon_fs": 30.0},
        "network": {"cutoff": 4.5, "n_channels": 24, "n_layers": 4},
        "optimizer": {"batch_size": 1, "longest_side": 64},
    },
    "water": {
        "data": {"train": "nve-[234].h5", "horizon_fs": 5.0},
        "network": {"cutoff": 5.0, "n_channels": 24, "n_layers": 4},
        "optimizer": {"batch_size": 1, "longest_side": 64},
    },
}


def configuration(
    choice: dict[str, dict[str, Any]], data: Path, folder: Path, steps: int, seed: int
) -> TrainingConfig:
    """Return the common configuration with the changes of `choice`."""
    system = SYSTEMS[data.name]
    content: dict[str, dict[str, Any]] = {
        "data": system["data"]
        | {
            "train": [str(data / system["data"]["train"])],
            "validation": [str(data / "nve-1.h5")],
        },
        "network": PERCEPTRONS | system["network"],
        "optimizer": system["optimizer"]
        | {
            "steps": steps,
            "learning_rate": 0.2,
            "warmup_steps": min(300, steps // 5),
        },
        "run": {
            "directory": str(folder),
            "threads": 1,
            "validate_every": steps,
            "seed": seed,
        },
    }
    for section, changes in choice.items():
        content[section] |= changes
    return TrainingConfig.from_dict(content, folder=folder)


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the reference runs.")],
    steps: Annotated[int, typer.Option(min=400)] = 2500,
    only: Annotated[
        str, typer.Option(help="Choices whose name contains this text.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train one small network per choice and print their errors."""
    data = data.resolve()
    if data.name not in SYSTEMS:
        raise typer.BadParameter(f"{data} is none of {', '.join(SYSTEMS)}")
    print("| choice | displacement / velocity MAE (%) | minutes |")
    print("| --- | ---: | ---: |")
    for name, choice in CHOICES.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                errors = train(
                    configuration(choice, data, Path(folder), steps, seed)
                ).errors
            except FloatingPointError:
                print(f"| {name} | diverged | - |", flush=True)
                continue
            minutes = (time.perf_counter() - start) / 60.0
        print(
            f"| {name} | {100 * errors.displacement.relative_mae:.2f} / "
            f"{100 * errors.velocity.relative_mae:.2f} | {minutes:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
