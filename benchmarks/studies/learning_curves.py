"""Error of small networks against the number of training pairs and against the horizon.

    python benchmarks/studies/learning_curves.py paracetamol quartz water

The paper's Figure 5: networks of one size, trained with equal steps on 1, 3, 10, 30 and
100 % of the pairs of one set of NVE runs, and on all pairs at several horizons; power
laws through their errors on an independent run. Makes its own NVE runs at a fine stride
(``benchmarks/reference_md``). Writes ``docs/studies/learning_curves.md``, its figure
and a JSON file per system, from which systems that were run before are drawn too.

Cost of the defaults: a few minutes of reference MD and eight trainings of one to two
minutes for each system on one core. Finished trainings are not repeated; an interrupted
one goes on from its checkpoint.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from learning_curves_page import draw, page
from study_pages import (
    machine,
    power_law,
    read_json,
    save_small,
    write_json,
    write_page,
)
from study_systems import STUDIES, SUBJECTS, Subject, subject_of

from trajcast_ase.distill.journal import JournalError
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.loop import train

# isort: split
# After study_systems, which puts the folder of these modules on the path.
from protocol import Settings, record

PERCENT = (1, 3, 10, 30, 100)
VALIDATION_SEED = 1
VALIDATION_PAIRS = 200


@dataclass(frozen=True, slots=True)
class Course:
    """Reference runs and trainings of one system.

    Attributes
    ----------
    stride_fs : float, fs
        Of the reference runs; every horizon is a multiple.
    n_runs : int
        For training, and one more for validation.
    length_ps : float, ps
        Of each.
    n_pairs : int
        All of them, 100 %.
    batch_size : int
    cutoff : float, Å
    horizon_fs : float, fs
        At which the number of pairs is varied.
    horizons_fs : tuple of float, fs
    """

    stride_fs: float
    n_runs: int
    length_ps: float
    n_pairs: int
    batch_size: int
    cutoff: float
    horizon_fs: float
    horizons_fs: tuple[float, ...]


COURSES = {
    "paracetamol": Course(3.5, 8, 25.0, 10_000, 10, 4.0, 7.0, (3.5, 7.0, 10.5, 14.0)),
    "quartz": Course(10.0, 2, 30.0, 2000, 1, 4.5, 30.0, (10.0, 20.0, 30.0, 40.0)),
    "water": Course(2.5, 2, 15.0, 2000, 1, 5.0, 5.0, (2.5, 5.0, 7.5, 10.0)),
}


@dataclass(frozen=True, slots=True)
class Training:
    """One training.

    Attributes
    ----------
    system : str
    n_pairs : int
    horizon_fs : float, fs
    steps : int
    seed : int
    """

    system: str
    n_pairs: int
    horizon_fs: float
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return (
            f"{self.system}-{self.n_pairs}-pairs-{self.horizon_fs:g}fs-"
            f"{self.steps}-steps-{self.seed}"
        )


def trainings(system: str, course: Course, steps: int, seeds: int) -> list[Training]:
    """Return all trainings of a system, each once."""
    pairs = [max(1, round(course.n_pairs * share / 100)) for share in PERCENT]
    wanted = [(number, course.horizon_fs) for number in pairs]
    wanted += [(course.n_pairs, horizon) for horizon in course.horizons_fs]
    return [
        Training(system, number, horizon, steps, seed)
        for number, horizon in dict.fromkeys(wanted)
        for seed in range(1, seeds + 1)
    ]


def reference_runs(subject: Subject, course: Course, folder: Path) -> list[Path]:
    """Return NVE runs, the one for validation first; what is missing is made.

    Raises
    ------
    typer.BadParameter
        The folder holds such runs of another length or stride.
    """
    system = subject.reference()
    system = replace(system, thermalize=min(system.thermalize, 20.0))
    length, stride = course.length_ps, course.stride_fs
    seeds = range(VALIDATION_SEED, VALIDATION_SEED + 1 + course.n_runs)
    try:
        return [
            record(
                system,
                Settings("nve", seed, length, stride, "canonical", system.damping),
                folder,
            )
            for seed in seeds
        ]
    except JournalError as error:
        raise typer.BadParameter(str(error)) from error


def configuration(
    one: Training, course: Course, files: list[Path], folder: Path
) -> TrainingConfig:
    """Return the configuration of a training: a small network, the same for all."""
    content: dict[str, dict[str, Any]] = {
        "data": {
            "train": [str(path.resolve()) for path in files[1:]],
            "validation": [str(files[0].resolve())],
            "validation_pairs": VALIDATION_PAIRS,
            "horizon_fs": one.horizon_fs,
            "max_pairs": one.n_pairs,
        },
        "network": {
            "cutoff": course.cutoff,
            "n_channels": 16,
            "n_layers": 3,
            "edge_mlp": [32, 32],
            "velocity_mlp": [32, 32],
        },
        "optimizer": {
            "steps": one.steps,
            "batch_size": course.batch_size,
            "learning_rate": 0.08,
            "warmup_steps": one.steps // 10,
            "ema_decay": 0.99,
        },
        "run": {
            "directory": str(folder.resolve()),
            "threads": 1,
            "seed": one.seed,
            "validate_every": one.steps,
            "checkpoint_minutes": 1.0,
        },
    }
    return TrainingConfig.from_dict(content, folder=folder)


def trained(
    one: Training, course: Course, files: list[Path], folder: Path
) -> dict[str, Any]:
    """Return the errors of a training, from its file where it is finished."""
    path = folder / f"{one.name}.json"
    if path.exists():
        return read_json(path)
    start = time.perf_counter()
    found = train(configuration(one, course, files, folder / one.name))
    content = asdict(one) | {
        "parameters": found.model.n_parameters,
        "minutes": (time.perf_counter() - start) / 60.0,
        "displacement_A": found.errors.displacement.mae,
        "displacement_percent": 100 * found.errors.displacement.relative_mae,
        "velocity_A_per_fs": found.errors.velocity.mae,
        "velocity_percent": 100 * found.errors.velocity.relative_mae,
        "machine": machine(),
    }
    write_json(path, content)
    print(
        f"{one.name}: {content['displacement_percent']:.2f} / "
        f"{content['velocity_percent']:.2f} %",
        flush=True,
    )
    return content


def averaged(
    rows: list[dict[str, Any]], key: str
) -> tuple[list[float], dict[str, list[float]]]:
    """Return the values of `key`, and the mean errors of the seeds at each."""
    values = sorted({row[key] for row in rows})
    names = ("displacement_A", "displacement_percent")
    names += ("velocity_A_per_fs", "velocity_percent")
    errors = {
        name: [
            float(np.mean([row[name] for row in rows if row[key] == value]))
            for value in values
        ]
        for name in names
    }
    return values, errors


def curves_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return both curves of a system with their power laws."""
    course, rows = result["course"], result["rows"]
    at_horizon = [row for row in rows if row["horizon_fs"] == course["horizon_fs"]]
    with_all = [row for row in rows if row["n_pairs"] == course["n_pairs"]]
    found: dict[str, Any] = {}
    for name, chosen, key in (
        ("pairs", at_horizon, "n_pairs"),
        ("horizon", with_all, "horizon_fs"),
    ):
        values, errors = averaged(chosen, key)
        fits = {label: power_law(values, error) for label, error in errors.items()}
        found[name] = {"x": values, "errors": errors, "fits": fits}
    return found


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[list[str], typer.Argument(help="paracetamol, quartz, water.")],
    steps: Annotated[int, typer.Option(min=10, help="Of each training.")] = 1500,
    seeds: Annotated[int, typer.Option(min=1, help="Of each point.")] = 1,
    pairs: Annotated[
        int | None, typer.Option(min=100, help="100 %. Default: the system's.")
    ] = None,
    picoseconds: Annotated[
        float | None, typer.Option(help="Of each run. Default: the system's.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs and trainings.")] = Path(
        "runs/learning_curves"
    ),
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Train small networks on less data and at other horizons."""
    for subject in [subject_of(name) for name in systems]:
        course = COURSES[subject.name]
        course = replace(
            course,
            n_pairs=pairs or course.n_pairs,
            length_ps=picoseconds or course.length_ps,
        )
        files = reference_runs(subject, course, out / subject.name)
        rows = [
            trained(one, course, files, out)
            for one in trainings(subject.name, course, steps, seeds)
        ]
        content = {"course": asdict(course), "rows": rows}
        write_json(docs / f"learning_curves-{subject.name}.json", content)
    summaries = {name: docs / f"learning_curves-{name}.json" for name in SUBJECTS}
    results = {
        name: read_json(path) for name, path in summaries.items() if path.exists()
    }
    curves = {name: curves_of(result) for name, result in results.items()}
    save_small(draw(curves), docs / "learning_curves.png")
    write_page(docs / "learning_curves.md", page(curves, results))
    print(docs / "learning_curves.md")


if __name__ == "__main__":
    typer.run(main)
