"""Measure what choices of the training are worth: optimizer, rate, encoding, depth.

    python benchmarks/training/choices.py data/paracetamol --steps 1500

Trains small networks (16 channels) on the same pairs with the same number of steps
and prints their errors on the validation run, one row per choice, as a Markdown table.
About one to two minutes a row on one core.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.loop import train

CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "Muon, rate 0.1": {},
    "Muon, rate 0.03": {"optimizer": {"learning_rate": 0.03}},
    "Muon, rate 0.01": {"optimizer": {"learning_rate": 0.01}},
    "AdamW, rate 0.1": {"optimizer": {"optimizer": "adamw", "learning_rate": 0.1}},
    "AdamW, rate 0.05": {"optimizer": {"optimizer": "adamw", "learning_rate": 0.05}},
    "AdamW, rate 0.02": {"optimizer": {"optimizer": "adamw", "learning_rate": 0.02}},
    "AdamW, rate 0.005": {"optimizer": {"optimizer": "adamw", "learning_rate": 0.005}},
    "Muon, published velocity encoding": {
        "network": {"velocity_encoding": "direction"}
    },
    "Muon, no time reversal": {"optimizer": {"reversal_probability": 0.0}},
    "Muon, four layers": {"network": {"n_layers": 4}},
}


def configuration(
    choice: dict[str, dict[str, Any]], data: Path, folder: Path, steps: int
) -> TrainingConfig:
    """Return the common configuration with the changes of `choice`."""
    content: dict[str, dict[str, Any]] = {
        "data": {
            "train": [str(data.resolve() / "nve-1[0-9][0-9].h5")],
            "validation": [str(data.resolve() / "nve-1.h5")],
            "horizon_fs": 7.0,
        },
        "network": {
            "cutoff": 4.0,
            "n_channels": 16,
            "n_layers": 3,
            "edge_mlp": [32, 32],
            "velocity_mlp": [32, 32],
        },
        "optimizer": {"steps": steps, "learning_rate": 0.1},
        "run": {"directory": str(folder), "threads": 1, "validate_every": steps},
    }
    for section, changes in choice.items():
        content[section] |= changes
    return TrainingConfig.from_dict(content, folder=folder)


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the reference runs.")],
    steps: Annotated[int, typer.Option(min=400)] = 1500,
) -> None:
    """Train one small network per choice and print their errors."""
    print("| choice | displacement / velocity MAE (%) | minutes |")
    print("| --- | ---: | ---: |")
    for name, choice in CHOICES.items():
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                errors = train(configuration(choice, data, Path(folder), steps)).errors
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
