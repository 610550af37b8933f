"""All that a GPU can show, in one command of less than ten minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --out /tmp/trial

In turn: the tests that need a card, those of runs and neighbors on a device, and the
ASE contract with strides on the device; whole strides and replicas, held against their
marks (``speed/gpu_strides.py``); training steps (``speed/gpu_training.py``); the
network alone beside its rivals, launched one by one and as a graph (``speed/gpu.py``);
one table and one figure of all (``gpu_all.md``, ``gpu_strides.png``). Each has a limit
of time and leaves the tables that it has by then. Everything is written to the folder
`--out`, with what was run, how it ended and how long it took in ``summary.json``. There
and on the screen stands whether Triton agreed with float64 and was faster than torch,
and strides on the device than those of the host (``speed/gpu_verdict.py``). Exits with
1 where something failed. On a CPU it tries itself on what is small.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.append(str(Path(__file__).parent / "speed"))  # last: it has a run.py, too

from gpu_verdict import judged

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "benchmarks" / "speed"
CONTRACT = tuple(
    f"tests/{name}.py"
    for name in (
        "dynamics/test_driver",
        "dynamics/test_mirror",
        "dynamics/test_replicas",
        "test_constraints",
    )
)
TIME_IS_UP = 124
PATIENCE_S = 300.0
"""For a part of a trial, whose machine may have other work."""


@dataclass(frozen=True, slots=True)
class Part:
    """A command, and the seconds that it may take."""

    name: str
    arguments: tuple[str, ...]
    limit_s: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How a part ended: its exit status, 124 where the time was up."""

    name: str
    command: str
    status: int
    seconds: float


def parts(device: str, out: Path) -> list[Part]:
    """Return what is run."""
    folder = ("--device", device, "--out", str(out))
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--device", device)
    strides, training, network, summary = (
        str(SPEED / f"{name}.py")
        for name in ("gpu_strides", "gpu_training", "gpu", "gpu_summary")
    )
    last = Part("table and figure", (summary, "--out", str(out)), 30.0)
    if device == "cpu":
        few = ("--systems", "paracetamol", "--networks", "shipped")
        small = ("--backends", "reference", "--strides", "2", "--replicas", "")
        tiny = ("--systems", "paracetamol", "--networks", "paper")
        tiny += ("--atoms", "2", "--runs", "1")
        trial = [
            Part("tests", (*tests, "tests/device/test_device_neighbors.py"), 0.0),
            Part("strides", (strides, *folder, *few, *small), 0.0),
            Part("training", (training, *folder, *few, "--steps", "2"), 0.0),
            Part("network", (network, *folder, *tiny), 0.0),
            last,
        ]
        return [replace(part, limit_s=PATIENCE_S) for part in trial]
    return [
        Part("tests that need a card", (*tests, "-m", "gpu", "tests"), 100.0),
        Part("tests on the device", (*tests, "tests/device"), 70.0),
        Part("tests of the contract", (*tests, *CONTRACT, "-k", "device"), 45.0),
        Part("strides", (strides, *folder), 180.0),
        Part("training", (training, *folder), 50.0),
        Part("network", (network, *folder), 120.0),
        last,
    ]


def carried_out(part: Part, out: Path) -> Ending:
    """Run a part, with its output in a file."""
    started = time.monotonic()
    path = out / f"{part.name.replace(' ', '_')}.txt"
    command = [sys.executable, *part.arguments]
    with path.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(  # noqa: S603  our own scripts
                command,
                check=False,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                timeout=part.limit_s,
            )
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = TIME_IS_UP
    seconds = time.monotonic() - started
    return Ending(part.name, " ".join(command[1:]), status, round(seconds, 1))


def main(
    device: Annotated[str, typer.Option(help="cuda, or cpu for a trial.")] = "cuda",
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/gpu"),
) -> None:
    """Test and time everything on a GPU."""
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    for name in ("gpu.csv", "gpu_strides.csv"):  # of an earlier run
        (out / name).unlink(missing_ok=True)
    endings: list[Ending] = []
    found: dict[str, Any] = {"says": []}
    for part in parts(device, out):
        ending = carried_out(part, out)
        words = {0: "done", TIME_IS_UP: "time is up"}.get(ending.status, "FAILED")
        typer.echo(f"{part.name}: {words} after {ending.seconds:.0f} s")
        endings.append(ending)
        found = {"parts": [asdict(one) for one in endings]} | judged(out)
        (out / "summary.json").write_text(
            json.dumps(found, indent=1) + "\n", encoding="utf-8"
        )
    typer.echo("\n".join(found["says"]))
    if any(one.status not in {0, TIME_IS_UP} for one in endings):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
