"""What going back sees of what a model does not know, and what it misses.

    for K in 400 600 1000; do
      python benchmarks/reference_md/run.py water nvt --seeds 21 --temperature $K \
          --thermalize 5 --length 3 --out runs/reversal/water-$K
    done
    python benchmarks/studies/reversal_roc.py paracetamol quartz water --data data

States like those of the calibration (the second half of a canonical run at 300 K, of
which ``reversal_calibration.py`` took the first) against hotter ones, one longer bond,
a missing hydrogen, and ice; and the error that going back finds beside the true one on
pairs that no training saw. Writes ``docs/studies/reversal_roc.md``, its figure, and a
JSON file per system. Two to five minutes a system on one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from ase.data import chemical_symbols
from jaxtyping import Float
from reversal_roc_page import draw, page
from reversal_states import missed_from, run_of, spread, unlike
from study_pages import machine, read_json, save_small, write_json, write_page
from study_systems import DATA, STUDIES, SUBJECTS, Subject, nve_files, subject_of

from trajcast_ase import load_model
from trajcast_ase.guards.reversal import FALSE_ALARMS, reversal_limits
from trajcast_ase.models.reversal_limits import ReversalLimits
from trajcast_ase.stride import ForecastModel
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import forecast_pairs
from trajcast_ase.training.pairs import make_pairs, thin
from trajcast_ase.training.reversal_fit import Missed
from trajcast_ase.training.reversibility import missed_by_pairs
from trajcast_ase.trajectory import read_frames

# isort: split
# After study_systems, which puts the folder of this module on the path.
from run import parse_seeds

SHARE = 1e-3
"""Of looks that object for nothing, at which the table tells what is found."""
STATED = (1e-1, 1e-2, 1e-3)
"""Rates of false alarms whose limits are tried."""

Column = Float[np.ndarray, " systems"]


def scores(limits: ReversalLimits, missed: Missed) -> dict[str, Column]:
    """Return, of each system, the largest deviation of an atom, the rms, and both.

    Both: the larger of their excesses over 1 in units of the limits' at `SHARE`.
    """
    scales = np.array(
        [
            [
                limits.elements[chemical_symbols[z]].displacement
                for z in missed.atomic_numbers
            ],
            [
                limits.elements[chemical_symbols[z]].velocity
                for z in missed.atomic_numbers
            ],
        ]
    )
    relative = np.stack([missed.positions, missed.velocities]) / scales
    deviations = np.sqrt((relative**2).mean(axis=0)).reshape(len(missed.sizes), -1)
    deviations = np.where(np.isnan(deviations), np.inf, deviations)
    atom, system = deviations.max(axis=1), np.sqrt((deviations**2).mean(axis=1))
    size = deviations.shape[1]
    both = np.maximum(
        (atom - 1.0) / (limits.atom_limit(size, SHARE / 2) - 1.0),
        (system - 1.0) / (limits.system_limit(size, SHARE / 2) - 1.0),
    )
    return {"atom": atom, "system": system, "both": both}


def area(like: Column, other: Column) -> float:
    """Return the area under the ROC: the odds that a pair is in the right order."""
    ordered = np.sort(like)
    below = np.searchsorted(ordered, other, side="left")
    equal = np.searchsorted(ordered, other, side="right") - below
    return float((below + equal / 2).mean() / len(like))


def curve(like: Column, other: Column) -> dict[str, Any]:
    """Return the share found against the share of false alarms."""
    false = np.geomspace(1.0 / len(like), 1.0, 60)
    limits = np.quantile(like, 1.0 - false, method="higher")
    return {"false": false, "found": [(other > one).mean() for one in limits]}


def objected(
    limits: ReversalLimits, found: dict[str, Column], size: int, rate: float
) -> float:
    """Return the share of systems that the guard objects to."""
    atom = found["atom"] > limits.atom_limit(size, rate / 2)
    system = found["system"] > limits.system_limit(size, rate / 2)
    return float((atom | system).mean())


def row(
    limits: ReversalLimits, like: dict[str, Column], other: dict[str, Column], size: int
) -> dict[str, Any]:
    """Return how well states of one kind are told from those like the calibration."""
    beyond = np.quantile(like["both"], 1.0 - SHARE, method="higher")
    return {
        "number": len(other["both"]),
        "area": {key: area(like[key], other[key]) for key in like},
        "found": float((other["both"] > beyond).mean()),
        "by_default": objected(limits, other, size, FALSE_ALARMS),
        "ratio": {
            key: float(np.median(other[key]) / np.median(like[key]))
            for key in ("atom", "system")
        },
        "curve": curve(like["both"], other["both"]),
    }


def beside_truth(
    model: ForecastModel, paths: list[Path], number: int
) -> dict[str, Any]:
    """Return correlations of what going back misses with the true error.

    Of logarithms: of single atoms of one element, averaged over the elements, and of
    the rms over a system; and the ratio of the two errors.
    """
    pairs = thin(
        [make_pairs(read_frames(path), model.horizon_fs) for path in paths], number
    )
    dataset = PairDataset(pairs)
    forecasts = forecast_pairs(model, dataset)
    missed = missed_by_pairs(model, dataset, forecasts)
    wrong = (
        np.linalg.norm(forecasts.displacements - forecasts.true_displacements, axis=1),
        np.linalg.norm(forecasts.velocities - forecasts.true_velocities, axis=1),
    )
    result = {"number": len(dataset)}
    for name, back, truth in zip(
        ("positions", "velocities"),
        (missed.positions, missed.velocities),
        wrong,
        strict=True,
    ):
        of_atoms = [
            correlation(
                back[missed.atomic_numbers == z], truth[missed.atomic_numbers == z]
            )
            for z in np.unique(missed.atomic_numbers)
        ]
        rms = [
            np.sqrt((one.reshape(len(dataset), -1) ** 2).mean(axis=1))
            for one in (back, truth)
        ]
        result[name] = {
            "atom": float(np.mean(of_atoms)),
            "system": correlation(*rms),
            "ratio": float(np.median(rms[0]) / np.median(rms[1])),
        }
    return result


def correlation(one: Column, other: Column) -> float:
    """Return the correlation of two logarithms."""
    return float(np.corrcoef(np.log(one), np.log(other))[0, 1])


def measure(  # noqa: PLR0917  options of the command line
    subject: Subject,
    model: ForecastModel,
    data: Path,
    hot: Path,
    numbers: tuple[int, int],
    seeds: str,
) -> dict[str, Any]:
    """Return the rows of a system."""
    limits, rng = reversal_limits(model), np.random.default_rng(1)
    frames = run_of(data, subject.name)
    size = len(frames.atomic_numbers)
    like = scores(limits, missed_from(model, spread(frames, numbers[0], 0.51, 1.0)))
    rows = {}
    for kind, make in unlike(subject.name, frames, hot, rng):
        other = scores(limits, missed_from(model, make(numbers[1])))
        rows[kind] = row(limits, like, other, size)
        print(subject.name, kind, {k: v for k, v in rows[kind].items() if k != "curve"})
    paths = nve_files(data, subject.name, parse_seeds(seeds))
    return {
        "number": numbers[0],
        "stated": {f"{rate:g}": objected(limits, like, size, rate) for rate in STATED},
        "limits": {
            "atom": limits.atom_limit(size, FALSE_ALARMS / 2),
            "system": limits.system_limit(size, FALSE_ALARMS / 2),
        },
        "largest": {key: float(like[key].max()) for key in ("atom", "system")},
        "rows": rows,
        "truth": beside_truth(model, paths, numbers[1]),
    }


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[list[str], typer.Argument(help="paracetamol, quartz, water.")],
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nvt-SEED.h5.")] = DATA,
    hot: Annotated[
        Path, typer.Option(help="Folder of SYSTEM-KELVIN/nvt-21.h5.")
    ] = Path("runs/reversal"),
    seeds: Annotated[
        str | None, typer.Option(help="Held-out runs. Default: those of the system.")
    ] = None,
    like: Annotated[int, typer.Option(min=100, help="States at 300 K.")] = 2000,
    other: Annotated[
        int, typer.Option(min=10, help="States of each other kind.")
    ] = 200,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Tell states that a model does not know from those that it does."""
    torch.set_num_threads(1)
    for subject in [subject_of(name) for name in systems]:
        model = load_model(subject.model)
        held = seeds or subject.held_out
        found = measure(subject, model, data, hot, (like, other), held)
        settings = {"model": model.name, "machine": machine()}
        write_json(out / f"reversal_roc-{subject.name}.json", settings | found)
    files = {name: out / f"reversal_roc-{name}.json" for name in SUBJECTS}
    results = {name: read_json(file) for name, file in files.items() if file.exists()}
    save_small(draw(results), out / "reversal_roc.png")
    write_page(out / "reversal_roc.md", page(results))
    print(out / "reversal_roc.md")


if __name__ == "__main__":
    typer.run(main)
