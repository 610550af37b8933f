"""First stage where the user has trajectories: they are checked and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.job import Job
from trajcast_ase.distill.journal import write_frames
from trajcast_ase.distill.reference_md import FOLDER, STAGE
from trajcast_ase.distill.request import Request, check_bonds
from trajcast_ase.distill.timestep import fastest_period
from trajcast_ase.kinetics import run_dof, run_temperature
from trajcast_ase.training.motion import check_motion
from trajcast_ase.trajectory import Frames, TrajectoryError, read_frames
from trajcast_ase.validation.inputs import read_run

ALIKE, SPREADS = 0.1, 4.0
"""Of the temperatures of runs at constant energy: relative difference, and in units of
1 / sqrt(degrees of freedom), by which runs from one canonical ensemble scatter."""
ENOUGH_FILES = 5
"""To be split as they are; fewer are cut in time."""
CUTS = (0.65, 0.75)
"""Of the time: until here for training, then for choices, then for the report."""
SAME_STRIDE_FS = 1e-6
LEAST_FRAMES = 200


def take_trajectories(job: Job) -> None:
    """Check and split given trajectories, and keep what was found in the state.

    Raises
    ------
    TrajectoryError
        They cannot serve together.
    ValueError
        Their cell is too small for a report.
    """
    runs = [read_frames(path) for path in job.request.trajectories]
    for frames in runs:
        check_motion(frames)
    _check_alike(runs)
    check_bonds(runs[0].atoms(0), job.request.trajectories[0])
    if job.request.start is not None:
        job.request.start.check_elements(runs[0].atomic_numbers.tolist())
        job.request.start.candidate(runs[0].stride_fs)  # raises for other strides
    if job.request.temperatures_K:
        (temperature,) = job.request.temperatures_K
    else:
        mean = float(np.mean([run_temperature(frames) for frames in runs]))
        temperature = round(mean, 1)
    parts = _split(runs, whole=not job.request.references)
    folder = job.request.out / FOLDER
    job.state.save()  # before other files, which are ours from now on
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        role: _write(chosen, role, folder, temperature)
        for role, chosen in parts.items()
    }
    if job.request.references:
        names["report"] = _references(job.request, runs[0], folder, temperature)
    first = runs[0]
    facts = Facts(
        train=names["train"],
        validation=names["choice"],
        bath=names["report"][:1],
        report=names["report"][1:] if len(names["report"]) > 1 else names["report"],
        has_thermostat=bool(job.request.references),
        temperatures_K=(temperature,),
        stride_fs=first.stride_fs,
        fastest_period_fs=fastest_period(
            first.velocities, first.stride_fs, first.atoms(0)
        ),
        timestep_fs=None,
        seconds_per_step=None,
        calculator_ns_per_day=None,
        notes=(),
    )
    total = sum(frames.n_frames for frames in runs) * first.stride_fs * 1e-3
    how = "by file" if len(runs) >= ENOUGH_FILES else "in time"
    line = (
        f"{total:.4g} ps in {len(runs)} given trajectories at {temperature:g} K, split "
        f"{how}; the report is held against "
        + ("the canonical runs given" if job.request.references else "the last of them")
    )
    files = [job.request.out / name for group in names.values() for name in group]
    job.state.finish(STAGE, facts.to_plain(), line, files)
    job.say(STAGE, line)


def _check_alike(runs: Sequence[Frames]) -> None:
    """Refuse runs of other systems, strides or temperatures."""
    first = runs[0]
    wanted = run_temperature(first)
    tolerance = max(ALIKE, SPREADS / np.sqrt(max(1, run_dof(first))))
    for frames in runs[1:]:
        same_atoms = np.array_equal(frames.atomic_numbers, first.atomic_numbers)
        if not same_atoms or not np.allclose(frames.cell, first.cell, atol=1e-6):
            raise TrajectoryError(
                f"{frames.source} has another composition, order of atoms or cell than "
                f"{first.source}; distill learns one system, so give runs of one"
            )
        if abs(frames.stride_fs - first.stride_fs) > SAME_STRIDE_FS:
            raise TrajectoryError(
                f"{frames.source} has a frame every {frames.stride_fs:g} fs, "
                f"{first.source} every {first.stride_fs:g} fs; give runs of one stride"
            )
        found = run_temperature(frames)
        if abs(found / wanted - 1) > tolerance:
            raise TrajectoryError(
                f"{frames.source} has {found:.0f} K on average, {first.source} "
                f"{wanted:.0f} K; distill makes a model for one temperature, so give "
                "runs of one"
            )


def _split(runs: list[Frames], *, whole: bool) -> dict[str, list[Frames]]:
    """Return the runs for training, choices and (if `whole`) the report."""
    n_report = max(1, len(runs) // 5) if whole else 0
    if len(runs) >= ENOUGH_FILES:
        n_train = len(runs) - 1 - n_report
        parts = {"train": runs[:n_train], "choice": runs[n_train : n_train + 1]}
        return parts | ({"report": runs[n_train + 1 :]} if whole else {})
    ends = CUTS if whole else (0.85, 1.0)
    parts = {"train": [], "choice": [], "report": []}
    for frames in runs:
        if frames.n_frames < LEAST_FRAMES:
            raise TrajectoryError(
                f"{frames.source} has {frames.n_frames} frames; at least "
                f"{LEAST_FRAMES} are needed where fewer than {ENOUGH_FILES} files are "
                "split in time"
            )
        cuts = [round(end * frames.n_frames) for end in ends]
        parts["train"].append(_cut(frames, 0, cuts[0]))
        parts["choice"].append(_cut(frames, cuts[0], cuts[1]))
        parts["report"].append(_cut(frames, cuts[1], frames.n_frames))
    return parts if whole else {role: parts[role] for role in ("train", "choice")}


def _cut(frames: Frames, start: int, stop: int) -> Frames:
    kicks = frames.kicks
    if kicks is not None:
        kicks = kicks[(kicks >= start) & (kicks < stop)] - start
    return replace(
        frames,
        positions=frames.positions[start:stop],
        velocities=frames.velocities[start:stop],
        kicks=kicks,
    )


def _write(
    runs: Sequence[Frames], role: str, folder: Path, temperature_K: float
) -> tuple[str, ...]:
    names = []
    for number, frames in enumerate(runs, 1):
        name = f"{role}-{number}.h5"
        attributes: dict[str, str | int | float] = {
            "ensemble": "nvt" if role == "report" else "nve",
            "temperature_K": temperature_K,
            "source": frames.source,
        }
        write_frames(folder / name, frames, attributes)
        names.append(f"{FOLDER}/{name}")
    return tuple(names)


def _references(
    request: Request, first: Frames, folder: Path, temperature_K: float
) -> tuple[str, ...]:
    """Return copies of given canonical runs, with the stride of the others."""
    runs = []
    for path in request.references:
        frames = read_run(path).frames
        _check_alike([first, frames])
        runs.append(frames)
    return _write(runs, "report", folder, temperature_K)
