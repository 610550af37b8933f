"""What SIGKILL at random moments does to runs and trainings.

    python benchmarks/hostile/kills.py --kills 200 --out kills.json

Each life is a process that goes on from what the one before has left, and is killed
after a random time. What it leaves must be readable and that of an undisturbed run up
to there; a run that comes to its end must be the undisturbed one byte for byte, and the
next begins. Lives are forked from a process that has imported everything, since
starting Python takes longer than most of them.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from kill_jobs import Found, Job, expect, jobs

EARLY = 0.2
"""Part of the kills whose moment counts from birth, and not from the first output."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A life that was killed.

    Attributes
    ----------
    run : int
        Number of the run that it belongs to.
    moment_s : float
        Time that it had, most of them since they began to write.
    found : Found
    """

    run: int
    moment_s: float
    found: Found


@dataclass(frozen=True, slots=True)
class Life:
    """A process that lived.

    Attributes
    ----------
    finished : bool
        Whether it came to its end before it was killed.
    writing_s : float
        How long it wrote files; 0 if it came to none.
    """

    finished: bool
    writing_s: float


def lived(
    live: Callable[[], None],
    seconds: float | None,
    writes: Callable[[], bool] | None = None,
) -> Life:
    """Fork a life, kill it after some time, and return what it came to.

    Parameters
    ----------
    live : callable
    seconds : float or None
        After which it is killed; None lets it live.
    writes : callable, optional
        Whether it has begun to write: then the seconds begin. Default: at its birth.

    Raises
    ------
    RuntimeError
        It failed of itself.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # A checkpoint that the kill has kept from being written is told of.
            warnings.simplefilter("ignore")
            live()
            status = 0
        except BaseException:  # noqa: BLE001  told by the status
            traceback.print_exc()
        finally:
            os._exit(status)
    peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while writes and not writes() and os.waitid(os.P_PID, child, peek) is None:
        time.sleep(0.001)
    began = time.perf_counter()
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a life failed with status {status}")
    return Life(status == 0, time.perf_counter() - began)


def written(folder: Path) -> Callable[[], bool]:
    """Return a function that tells whether output in a folder has changed since."""

    def look() -> dict[str, int]:
        with os.scandir(folder) as entries:
            return {
                one.name: one.stat().st_mtime_ns
                for one in entries
                if one.name.endswith((".traj", ".log", ".csv"))
            }

    before = look()

    def changed() -> bool:
        with suppress(FileNotFoundError):  # renamed while it was looked at
            return look() != before
        return True

    return changed


def killed(
    job: Job, kills: int, seconds: float, rng: np.random.Generator
) -> list[Kill]:
    """Return what `kills` kills of a job left, fewer if they take too many `seconds`.

    Raises
    ------
    KillError
        What a kill has left may not be.
    """
    end = time.monotonic() + seconds
    found: list[Kill] = []
    with tempfile.TemporaryDirectory() as place:
        whole, again = Path(place, "whole"), Path(place, "again")
        whole.mkdir()
        again.mkdir()
        if job.forks:
            job.live(whole)  # here, so that lives find everything ready
        else:
            lived(lambda: job.live(whole), None)
        writes = written(job.output(again))
        longest = lived(lambda: job.live(again), None, writes).writing_s
        job.same(again, whole)
        run, finished = 0, True
        while (
            not (last := len(found) >= kills or time.monotonic() > end) or not finished
        ):
            if finished:
                run += 1
                step, folder = -1, Path(place, f"run-{run}")
                folder.mkdir()
            early = rng.random() < EARLY
            moment = float(rng.uniform(0.0, 0.8 * longest))
            life = lived(
                lambda: job.live(folder),  # noqa: B023
                None if last else moment,
                None if early else written(job.output(folder)),
            )
            finished = life.finished
            left = job.look(folder, whole)
            expect(left.step >= step, "a step that was kept is lost")
            expect(left.written <= max(left.step, 0) + job.loss, "more is lost")
            step = left.step
            if finished:
                job.same(folder, whole)
            else:
                found.append(Kill(run, moment, left))
    return found


def row(name: str, found: list[Kill], seconds: float) -> str:
    """Return a row of the table."""
    left = [one.found for one in found]
    return (
        f"| {name} | {len(found)} | {found[-1].run} | "
        f"{sum(one.step < 0 for one in left)} | "
        f"{sum(one.stood_in for one in left)} | "
        f"{sum(one.written > max(one.step, 0) for one in left)} | {seconds:.0f} |"
    )


def main(
    kills: Annotated[int, typer.Option(min=1, help="Of each kind of job.")] = 200,
    minutes: Annotated[float, typer.Option(help="Of each kind, at most.")] = 60.0,
    only: Annotated[str, typer.Option(help="Names, with commas; all.")] = "",
    seed: Annotated[int, typer.Option()] = 1,
    out: Annotated[Path | None, typer.Option(help="JSON to add to.")] = None,
) -> None:
    """Kill, and print one row for each kind of job."""
    torch.set_num_threads(1)
    print(
        "| job | kills | runs | before the first checkpoint | "
        "the checkpoint before stood in | frames behind it | s |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    moments: dict[str, list[dict[str, Any]]] = {}
    if out is not None and out.exists():
        moments = json.loads(out.read_text(encoding="utf-8"))
    for name, job in jobs().items():
        if only and name not in only.split(","):
            continue
        began = time.perf_counter()
        found = killed(job, kills, 60 * minutes, np.random.default_rng(seed))
        print(row(name, found, time.perf_counter() - began), flush=True)
        moments.setdefault(name, []).extend({"seed": seed} | asdict(k) for k in found)
    if out is not None:
        out.write_text(json.dumps(moments) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
