"""Held-out error and rows of the report against picoseconds of reference MD.

    python benchmarks/studies/few_data.py paracetamol quartz water

Networks of one size and equal steps learn from 5, 20, 80 and 320 ps of MD at constant
energy, taken in three ways: pairs end to end in one run, all overlapping pairs of its
finely stored frames, and all pairs of sixteen runs that are short instead of one that
is long. Each model runs under one thermostat and is held against canonical MD
(``DATA/SYSTEM/nvt-*.h5``). Makes its own NVE runs (``benchmarks/reference_md``, half an
hour for all systems); takes two to four minutes for each of six or eight trainings of a
system with its runs, on one core. What is finished is not repeated. Writes
``docs/studies/few_data.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import h5py
import typer
from long_runs import read_reference, starts_of, study
from study_pages import (
    describe_machine,
    machine,
    read_json,
    table,
    write_json,
    write_page,
)
from study_reports import passed
from study_runs import Plan, identity
from study_systems import DATA, STUDIES, TEMPERATURE_K, Subject, subject_of
from study_thermostats import parse_choice

from trajcast_ase import load_model
from trajcast_ase.distill.journal import JournalError
from trajcast_ase.dynamics.losses import LostReplicasError
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.loop import train

# isort: split
# After study_systems, which puts the folder of these modules on the path.
from protocol import Settings, record

PICOSECONDS = (5.0, 20.0, 80.0, 320.0)
N_RUNS = 16
HELD_OUT_SEED, FIRST_SEED = 301, 302
VALIDATION_PAIRS = 400
SETTLING_PS = 10.0
"""At most, before each reference run."""
END_TO_END, OVERLAPPING, SHORT_RUNS = "end to end", "overlapping", "short runs"
SETTING = "langevin:2+csvr"
TITLE = """# Few data

What a model learns from 5, 20, 80 and 320 ps of reference MD at constant energy. All
trainings of a system have one network, equal steps and equal batches. *End to end*: the
pairs of one run that share no time. *Overlapping*: all pairs of the same run, whose
frames are finer than the horizon. *Short runs*: all pairs of sixteen runs from
independent states, together as long. Errors: of a run that nothing learnt from. Rows:
of a report beside canonical MD, under a bath of 2 ps and CSVR.
Written by `benchmarks/studies/few_data.py`."""


@dataclass(frozen=True, slots=True)
class Course:
    """Reference runs and trainings of one system.

    Attributes
    ----------
    stride_fs : float, fs
        Between frames of the reference runs.
    steps, batch_size : int
    network : dict
    judged_ps : float, ps
        Of each of three runs of a model.
    compared_ps : float, ps
        Of MD, up to which the three ways are compared; beyond, the last alone.
    """

    stride_fs: float
    steps: int
    batch_size: int
    network: dict[str, Any]
    judged_ps: float
    compared_ps: float = 5.0


SHAPE = {
    "n_channels": 16,
    "n_layers": 3,
    "edge_mlp": [32, 32],
    "velocity_mlp": [32, 32],
}
COURSES = {
    "paracetamol": Course(1.0, 6000, 10, {"cutoff": 4.0, **SHAPE}, 60.0, 20.0),
    "quartz": Course(5.0, 4000, 1, {"cutoff": 4.5, **SHAPE}, 60.0),
    "water": Course(2.5, 2000, 1, {"cutoff": 5.0, **SHAPE}, 20.0),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One training: how much MD, and how its pairs are taken."""

    system: str
    picoseconds: float
    way: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        way = self.way.replace(" ", "-")
        return f"{self.system}-{self.picoseconds:g}ps-{way}"


def cases(system: str) -> list[Case]:
    """Return the trainings of a system."""
    found = []
    for picoseconds in PICOSECONDS:
        few = picoseconds <= COURSES[system].compared_ps
        ways = (END_TO_END, OVERLAPPING, SHORT_RUNS) if few else (SHORT_RUNS,)
        found += [Case(system, picoseconds, way) for way in ways]
    return found


def reference_runs(subject: Subject, course: Course, folder: Path) -> list[Path]:
    """Return NVE runs, the held-out one first; what is missing is made."""
    system = subject.reference()
    system = replace(system, thermalize=min(system.thermalize, SETTLING_PS))
    length = max(max(PICOSECONDS) / N_RUNS, course.compared_ps)
    seeds = (HELD_OUT_SEED, *range(FIRST_SEED, FIRST_SEED + N_RUNS))
    try:
        return [
            record(
                system,
                Settings(
                    "nve", seed, length, course.stride_fs, "canonical", system.damping
                ),
                folder,
            )
            for seed in seeds
        ]
    except JournalError as error:
        raise typer.BadParameter(str(error)) from error


def cut(source: Path, target: Path, n_frames: int, every: int) -> Path:
    """Write every `every`-th of the first frames of a run to a file of its own."""
    if target.exists():
        return target
    part = target.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(source) as old, h5py.File(part, "w") as new:
        n_old = len(old["time"])
        for name, values in old.items():
            in_time = values.ndim > 0 and len(values) == n_old
            new[name] = values[:n_frames:every] if in_time else values[()]
            for key, value in values.attrs.items():
                new[name].attrs[key] = value
        for key, value in old.attrs.items():
            new.attrs[key] = value
        if "stride_fs" in new.attrs:
            new.attrs["stride_fs"] = every * float(old.attrs["stride_fs"])
    part.replace(target)
    return target


def training_files(
    one: Case, course: Course, horizon_fs: float, runs: list[Path], folder: Path
) -> list[Path]:
    """Return the files of a training, cut from the runs."""
    several = one.way == SHORT_RUNS
    sources = runs if several else runs[:1]
    every = round(horizon_fs / course.stride_fs) if one.way == END_TO_END else 1
    n_frames = round(one.picoseconds * 1e3 / len(sources) / course.stride_fs) + 1
    return [
        cut(path, folder / one.name / path.name, n_frames, every) for path in sources
    ]


def trained(
    one: Case,
    course: Course,
    horizon_fs: float,
    files: list[Path],
    *,
    held_out: Path,
    folder: Path,
    loss: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the errors of a training, from its file where it is finished.

    Another `loss` than the one of the study is given by options of ``[optimizer]``.
    """
    path = folder / one.name / "errors.json"
    if path.exists():
        return read_json(path)
    config = TrainingConfig.from_dict(
        {
            "data": {
                "train": [str(file.resolve()) for file in files],
                "validation": [str(held_out.resolve())],
                "validation_pairs": VALIDATION_PAIRS,
                "horizon_fs": horizon_fs,
            },
            "network": course.network,
            "optimizer": {
                "steps": course.steps,
                "batch_size": course.batch_size,
                "learning_rate": 0.08,
                "ema_decay": 0.998,
                **(loss or {"mass_weighting": 0.0}),
            },
            "run": {
                "name": one.name,
                "directory": str((folder / one.name / "training").resolve()),
                "threads": 1,
                "seed": seed,
                "validate_every": course.steps,
                "checkpoint_minutes": 1.0,
            },
        },
        folder=folder,
    )
    found = train(config)
    content = asdict(one) | {
        "displacement_percent": 100 * found.errors.displacement.relative_mae,
        "velocity_percent": 100 * found.errors.velocity.relative_mae,
        "by_element": {
            symbol: [100 * target.relative_mae for target in targets]
            for symbol, targets in found.errors.by_element.items()
        },
        "machine": machine(),
    }
    write_json(path, content)
    return content


def judged(
    one: Case, subject: Subject, course: Course, data: Path, folder: Path
) -> str:
    """Return how many rows of a report runs of a model pass."""
    model = load_model(folder / one.name / "training" / f"{one.name}.trajcast")
    choice = parse_choice(SETTING, model, subject.taut_fs)
    makers = choice.thermostats(TEMPERATURE_K)
    skip = 0.1
    plan = Plan(
        model=model,
        thermostats=lambda _: makers,
        picoseconds=course.judged_ps,
        seed=1,
        settings=identity(model) | {"setting": choice.words},
        noise=False,
        chunk_ps=10.0,
    )
    reference = read_reference(subject, data, (1 - skip) * course.judged_ps)
    starts = starts_of(subject, model, 3, 1)
    where = folder / one.name / "runs"
    try:
        report = study(choice, subject, model, reference, plan, starts, where, skip)
    except LostReplicasError:
        return "broke down"
    return f"{passed(report)}{', ended early' if report['ended'] else ''}"


def page(rows: list[dict[str, Any]]) -> list[str]:
    """Return the sections of the page."""
    header = ("system", "ps of MD", "pairs", "displacement", "velocity", "rows")
    lines = [
        [
            row["system"],
            f"{row['picoseconds']:g}",
            row["way"],
            f"{row['displacement_percent']:.2f} %",
            f"{row['velocity_percent']:.2f} %",
            row["rows"],
        ]
        for row in rows
    ]
    where = describe_machine(rows[0]["machine"])
    return [TITLE, table(header, lines), f"Trainings and runs on {where}."]


def main(
    systems: Annotated[list[str], typer.Argument(help="paracetamol, quartz, water.")],
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nvt-*.h5.")] = DATA,
    out: Annotated[Path, typer.Option(help="Folder of everything.")] = Path("runs/few"),
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Train on little MD, and judge what came of it."""
    path = docs / "few_data.json"
    for subject in [subject_of(name) for name in systems]:
        course, folder = COURSES[subject.name], out / subject.name
        horizon = load_model(subject.model).horizon_fs
        held_out, *runs = reference_runs(subject, course, folder / "nve")
        for one in cases(subject.name):
            files = training_files(one, course, horizon, runs, folder)
            row = trained(one, course, horizon, files, held_out=held_out, folder=folder)
            row |= {"rows": judged(one, subject, course, data, folder)}
            before = read_json(path)["rows"] if path.exists() else []
            kept = [each for each in before if Case(**key_of(each)) != one]
            rows = sorted([*kept, row], key=lambda each: (each["system"], *order(each)))
            write_json(path, {"rows": rows})
            write_page(docs / "few_data.md", page(rows))
            print(one.name, row["velocity_percent"], row["rows"], flush=True)


def key_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return what tells a row from others."""
    return {name: row[name] for name in ("system", "picoseconds", "way")}


def order(row: dict[str, Any]) -> tuple[float, int]:
    """Return where a row stands among those of its system."""
    return row["picoseconds"], (END_TO_END, OVERLAPPING, SHORT_RUNS).index(row["way"])


if __name__ == "__main__":
    typer.run(main)
