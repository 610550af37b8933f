"""What ``trajcast run`` writes beside its trajectory, and what it goes on with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from trajcast_ase.cli.options import TrajectoryFormat

if TYPE_CHECKING:
    from trajcast_ase.cli.files import Files

SUFFIXES = {
    TrajectoryFormat.TRAJ: "",
    TrajectoryFormat.EXTXYZ: ".xyz",
    TrajectoryFormat.DCD: ".dcd",
    TrajectoryFormat.H5MD: ".h5md",
}
"""Of files beside ``.traj``."""
OF_SUFFIX = {
    ".traj": TrajectoryFormat.TRAJ,
    ".xyz": TrajectoryFormat.EXTXYZ,
    ".dcd": TrajectoryFormat.DCD,
    ".h5md": TrajectoryFormat.H5MD,
}


def named_format(
    start: Path, out: Path | None, kind: TrajectoryFormat | None
) -> tuple[Path, TrajectoryFormat | None]:
    """Return the prefix of all files, and the format that is wanted beside .traj.

    Raises
    ------
    ValueError
        The suffix of `out` is of another format.
    ImportError
        The library that writes the format is missing.
    """
    prefix = Path(f"{start.stem}-md") if out is None else out
    named = OF_SUFFIX.get(prefix.suffix)
    if named is not None:
        prefix = prefix.with_suffix("")
        if kind not in (None, named):
            raise ValueError(
                f"--out {out} names {named}, but --format is {kind}; give one of them"
            )
        kind = named
    if kind is not None:
        from trajcast_ase.conversion import check_writable  # noqa: PLC0415

        check_writable(kind.value)
    return prefix, kind


def check_append(
    *, restart: bool, overwrite: bool, ramp: str | None, numbers: range | None
) -> None:
    """Raise ValueError for options that --append excludes."""
    for given, text in (
        (restart, "--restart, which goes on exactly, with --steps counted in all"),
        (overwrite, "--overwrite"),
        (ramp is not None, "--ramp, which begins with a run: choose another --out"),
        (numbers is not None, "--replicas, which go on by --restart"),
    ):
        if given:
            raise ValueError(f"--append excludes {text}")


def strides_done(trajectory: Path, interval: int, horizon_fs: float) -> int:
    """Return the stride of the last frame of a trajectory.

    Raises
    ------
    ValueError
        It is none of a run with this interval and strides of `horizon_fs`.
    """
    from ase.io import Trajectory  # noqa: PLC0415

    from trajcast_ase.units import FS  # noqa: PLC0415

    with Trajectory(str(trajectory)) as frames:
        n_frames, settings = len(frames), frames.description or {}
    found, timestep = settings.get("interval"), settings.get("timestep")
    if found is None or timestep is None:
        raise ValueError(f"--append: {trajectory} was not written by trajcast run")
    if found != interval:
        raise ValueError(
            f"--append: {trajectory} has a frame every {found} strides; give "
            f"--interval {found}"
        )
    stride_fs = timestep / FS
    if not math.isclose(stride_fs, horizon_fs, rel_tol=1e-6):
        raise ValueError(
            f"--append: {trajectory} has strides of {stride_fs:g} fs, those of this "
            f"model are {horizon_fs:g} fs; choose another --out, with {trajectory} as "
            "the start"
        )
    return (n_frames - 1) * interval


def cut_log(log: Path, trajectory: Path) -> None:
    """Drop the last rows of a log that are later than the last frame.

    Strides between that and the end of the run are made again.

    Raises
    ------
    ValueError
        A row tells no time.
    """
    from ase.io import Trajectory  # noqa: PLC0415

    from trajcast_ase.files import write_atomically  # noqa: PLC0415
    from trajcast_ase.units import FS  # noqa: PLC0415

    if not log.exists():
        return
    with Trajectory(str(trajectory)) as frames:
        step_ps = 1e-3 * frames.description["timestep"] / FS
        n_strides = (len(frames) - 1) * frames.description["interval"]
    rows = log.read_text().splitlines(keepends=True)
    n_kept, latest_ps = len(rows), (n_strides + 0.5) * step_ps  # rows are rounded
    while n_kept > 1 and _time_ps(rows[n_kept - 1], log) > latest_ps:
        n_kept -= 1
    if n_kept < len(rows):
        write_atomically(log, "".join(rows[:n_kept]).encode())


def _time_ps(row: str, log: Path) -> float:
    try:
        return float(row.split(maxsplit=1)[0])
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"--append: the row {row.strip()!r} of {log} tells no time; remove it, or "
            "move the log away to begin another"
        ) from error


def write_copies(files: Files, kind: TrajectoryFormat | None) -> None:
    """Write each trajectory in another format."""
    if kind is None or not files.copy:
        return
    from trajcast_ase.cli.files import TRAJECTORY  # noqa: PLC0415  --help does without
    from trajcast_ase.conversion import convert  # noqa: PLC0415

    for source, target in zip(
        files.paths(TRAJECTORY), files.paths(files.copy), strict=True
    ):
        convert(source, target, kind.value)
