"""Measure what going back misses, and write it into the model files.

    python benchmarks/studies/reversal_calibration.py paracetamol quartz water \
        --data data --folder trajcast_ase/models

On states of the first half of a canonical run at 300 K that no training saw: it needs
no truth, so a thermostatted run serves, and only that has the spread of energies of a
run under a thermostat. Weights and the rest of the header stay. One to two minutes a
system.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from reversal_states import missed_from, run_of, spread
from study_systems import DATA, subject_of

from trajcast_ase.models.model_file import load_model, with_reversal
from trajcast_ase.training.reversal_fit import fit_limits


def main(
    systems: Annotated[list[str], typer.Argument(help="paracetamol, quartz, water.")],
    folder: Annotated[Path, typer.Option(help="Folder of the model files.")],
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nvt-SEED.h5.")] = DATA,
    states: Annotated[int, typer.Option(min=100)] = 1000,
) -> None:
    """Calibrate models in place."""
    torch.set_num_threads(1)
    for subject in [subject_of(name) for name in systems]:
        path = folder / f"{subject.model}.trajcast"
        found = spread(run_of(data, subject.name), states, 0.0, 0.49)
        limits = fit_limits(missed_from(load_model(path), found))
        with_reversal(path, limits, path)
        print(path, limits)


if __name__ == "__main__":
    typer.run(main)
