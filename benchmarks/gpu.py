"""All that a GPU can show, in one command of less than ten minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --out /tmp/trial

In turn: the tests that need a card, those of runs and neighbors on a device, and the
ASE contract with strides on the device; whole strides and replicas, held against their
marks (``speed/gpu_strides.py``); training steps (``speed/gpu_training.py``); the
network alone beside its rivals, launched one by one and as a graph (``speed/gpu.py``);
one table and one figure of all (``gpu_all.md``, ``gpu_strides.png``).

Each has a limit of time and leaves the tables that it has by then. What fails is a row
that says why, and the others go on; a part that loses the card (an illegal address,
say) goes on in a new process with what is left. Everything is written to the folder
`--out` as it comes, with what was run, how it ended and how long it took in
``summary.json``. There and on the screen stands whether Triton agreed with float64 and
was faster than torch, and strides on the device than those of the host
(``speed/gpu_verdict.py``). Exits with 1 where something failed. On a CPU it tries
itself on what is small. Wants ``pip install '.[test]'``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Annotated, Any

import torch
import typer

sys.path.append(str(Path(__file__).parent / "speed"))  # last: it has a run.py, too

from gpu_verdict import judged
from journal import LOST

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
TESTS_OF_A_CARD = (
    "tests/network/test_triton_gpu.py",
    "tests/device/test_gpu.py",
    "tests/training/test_gpu_training.py",
)
WORKERS = 4
"""Of tests, where pytest-xdist is installed: kernels are compiled side by side."""
TIME_IS_UP = 124
GRACE_S = 5.0
"""To say what is known by then, and where it hangs."""
PATIENCE_S = 300.0
"""For a part of a trial, whose machine may have other work."""


@dataclass(frozen=True, slots=True)
class Part:
    """A command, and the seconds that it may take.

    One that measures can go on where it was stopped.
    """

    name: str
    arguments: tuple[str, ...]
    limit_s: float
    measures: bool = False


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
    tests = ("-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider")
    tests += ("--device", device)
    if find_spec("xdist") is not None and device != "cpu":
        tests += ("-n", str(WORKERS))
    strides, training, network, summary = (
        str(SPEED / f"{name}.py")
        for name in ("gpu_strides", "gpu_training", "gpu", "gpu_summary")
    )
    last = Part("table and figure", (summary, "--out", str(out)), 30.0)
    if device == "cpu":
        few = ("--systems", "paracetamol", "--networks", "shipped")
        small = ("--backends", "reference", "--strides", "2", "--replicas", "")
        tiny = ("--systems", "paracetamol", "--networks", "paper")
        two = ("--steps", "2")
        tiny += ("--atoms", "2", "--runs", "1")
        trial = [
            Part("tests", (*tests, "tests/device/test_device_neighbors.py"), 0.0),
            Part("strides", (strides, *folder, *few, *small), 0.0, measures=True),
            Part("training", (training, *folder, *few, *two), 0.0, measures=True),
            Part("network", (network, *folder, *tiny), 0.0, measures=True),
            last,
        ]
        return [replace(part, limit_s=PATIENCE_S) for part in trial]
    return [
        Part("tests that need a card", (*tests, *TESTS_OF_A_CARD), 90.0),
        Part("tests on the device", (*tests, "tests/device"), 60.0),
        Part("tests of the contract", (*tests, *CONTRACT, "-k", "device"), 40.0),
        Part("strides", (strides, *folder), 160.0, measures=True),
        Part("training", (training, *folder), 45.0, measures=True),
        Part("network", (network, *folder), 110.0, measures=True),
        last,
    ]


def carried_out(part: Part, out: Path) -> Ending:
    """Run a part, with its output in a file; anew with what is left of it."""
    started = time.monotonic()
    path = out / f"{part.name.replace(' ', '_')}.txt"
    command = [sys.executable, *part.arguments]
    with path.open("w", encoding="utf-8") as file:
        while True:
            left = part.limit_s - (time.monotonic() - started)
            status = ended(command, file, left)
            if status != LOST or not part.measures:
                break
            command = [sys.executable, *part.arguments, "--go-on"]
    seconds = time.monotonic() - started
    return Ending(part.name, " ".join(command[1:]), status, round(seconds, 1))


def ended(command: list[str], file: IO[str], limit_s: float) -> int:
    """Return how a command ended, which is interrupted after its time."""
    process = subprocess.Popen(  # noqa: S603  our own scripts
        command,
        stdout=file,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        process_group=0,  # its own processes end with it
    )
    try:
        return process.wait(max(limit_s, 0.0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # pytest then tells what has failed
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        return TIME_IS_UP
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def check(device: str) -> None:
    """Raise BadParameter where nothing could be measured."""
    if device != "cpu" and not torch.cuda.is_available():
        raise typer.BadParameter(
            "PyTorch finds no CUDA device here; run this where there is one, or try it "
            "with --device cpu"
        )
    if find_spec("e3nn") is None:
        raise typer.BadParameter(
            "networks of the paper's size are made with e3nn; pip install '.[test]'"
        )


def main(
    device: Annotated[str, typer.Option(help="cuda, or cpu for a trial.")] = "cuda",
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/gpu"),
) -> None:
    """Test and time everything on a GPU."""
    check(device)
    # Also where somebody ends all of this, its parts end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    for earlier in out.glob("gpu*"):
        earlier.unlink()
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
