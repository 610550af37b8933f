"""How long ``trajcast run`` takes to end in order after a signal.

    python benchmarks/hostile/stops.py --stops 10 --out stops.json

Each run is a process of its own that gets SIGTERM or SIGINT at a random moment after
its first frames. It must exit with the status of the signal, and leave a checkpoint at
the last stride, with all frames up to there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import ase.io
import numpy as np
import typer
from ase.io import Trajectory

from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.checkpoint import read_checkpoint

LIMIT_S = 2.0
"""Of CPU, beside the present stride, which takes milliseconds."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ROWS = 5
"""Of the log, before a signal comes."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A run that was stopped.

    Attributes
    ----------
    signal : str
    seconds : float
        From the signal to the end of the process.
    cpu_s : float
        Of these, time of the processor.
    strides : int
        That the checkpoint has.
    """

    signal: str
    seconds: float
    cpu_s: float
    strides: int


def stopped(folder: Path, number: signal.Signals, delay: float) -> Stop:
    """Start a run, stop it, and look at what it left.

    Raises
    ------
    RuntimeError
        Another exit status, or frames and checkpoint that do not fit.
    """
    ase.io.write(folder / "start.xyz", paracetamol())
    arguments = ("start.xyz", "--model", "paracetamol-7fs", "--temperature", "300")
    more = ("--steps", "1000000", "--interval", "1", "--seed", "1", "--out", "run")
    run = subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "trajcast_ase", "run", *arguments, *more],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    log = folder / "run.log"
    while not log.exists() or len(log.read_bytes().splitlines()) < ROWS:
        if run.poll() is not None:
            raise RuntimeError(f"the run ended by itself with status {run.returncode}")
        time.sleep(0.05)
    time.sleep(delay)
    used, began = processor_s(run.pid), time.perf_counter()
    run.send_signal(number)
    _, status, usage = os.wait4(run.pid, 0)
    seconds = time.perf_counter() - began
    exit_status = os.waitstatus_to_exitcode(status)
    if exit_status != 128 + number:
        raise RuntimeError(f"status {exit_status} after {number.name}")
    strides = read_checkpoint(folder / "run.checkpoint")[0].nsteps
    with Trajectory(folder / "run.traj") as frames:
        if len(frames) != strides + 1:
            raise RuntimeError(f"{len(frames)} frames, {strides} strides are kept")
    return Stop(number.name, seconds, usage.ru_utime + usage.ru_stime - used, strides)


def processor_s(pid: int) -> float:
    """Return the time of the processor that a process of Linux has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(
    stops: Annotated[int, typer.Option(min=1)] = 10,
    seed: Annotated[int, typer.Option()] = 1,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Stop runs, print how long each took, and fail beyond the limit of CPU time."""
    rng, found = np.random.default_rng(seed), []
    for k in range(stops):
        with tempfile.TemporaryDirectory() as folder:
            delay = float(rng.uniform(0.0, 5.0))
            found.append(stopped(Path(folder), SIGNALS[k % len(SIGNALS)], delay))
        print(found[-1], flush=True)
    longest = max(one.cpu_s for one in found)  # load of others does not count
    print(f"{stops} stops, longest {longest:.2f} s of CPU")
    if out is not None:
        values = [asdict(one) for one in found]
        out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(longest > LIMIT_S)


if __name__ == "__main__":
    typer.run(main)
