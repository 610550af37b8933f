"""Time a step of the network and of whole runs, beside rivals in the same process.

    python benchmarks/speed.py --systems paracetamol,quartz-162,water-192
    python benchmarks/speed.py --networks shipped --rivals reference --threads 2
    python benchmarks/speed.py --training --rivals e3nn,reference

Systems are supercells of the bundled ones. The network "paper" has the size of
Thiemann et al., arXiv:2503.23794, and random weights; "shipped" are the bundled models.
Rivals take turns with ours: "e3nn" is the published formulation with the same weights,
checked to give the same output, "compile" is that under torch.compile, "reference" our
torch path. A step is a bare stride: neighbors, network, conservation.

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
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from speed_measure import Row, measure, memory, others, training
from speed_output import (
    CSV_COLUMNS,
    PART_COLUMNS,
    STEP_COLUMNS,
    SWEEP,
    TRAINING_COLUMNS,
    draw,
    exponents,
    table,
    write_csv,
)
from speed_parts import Clock, Settings
from speed_systems import CASES, LIMITS, Case, Network

from trajcast_ase import __version__

SWEEP_SYSTEM = "quartz-162"
SWEEP_CUTOFFS = (3.5, 4.5, 5.5, 6.5)
"""Å; 13 to 94 neighbors in quartz."""


def in_own_process(job: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the job's result from a fresh process, whose memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(job, *arguments, **options).result()


def machine(settings: Settings) -> str:
    """Return a line on what the speed depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    processor = names[0] if names else platform.processor()
    cuda = settings.device.startswith("cuda")
    gpu = f", {torch.cuda.get_device_name()}" if cuda else ""
    return (
        f"{processor}{gpu}, {os.cpu_count()} cores, {settings.threads} thread(s), "
        f"torch {torch.__version__}, trajcast_ase {__version__}, float32, "
        f"{settings.clock} time, {settings.n_runs} runs: median and quartiles"
    )


def chosen(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas."""
    names = tuple(name for name in text.split(",") if name)
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"{option} knows no {name!r}; choose of {', '.join(known)}"
            )
    return names


def measured(case: Case, network: Network, settings: Settings) -> list[Row]:
    """Return the rows of a system and network, with peak memories."""
    rows: list[Row] = in_own_process(measure, case, network, settings)
    for row in rows:
        # Compiled code would be compiled anew, for minutes.
        if "step_ms" in row and row["contestant"] != "compile":
            row["peak_MiB"] = in_own_process(
                memory, case, network, row["contestant"], settings
            )
    return rows


def swept(settings: Settings) -> Iterator[Row]:
    """Yield rows of the paper-size network with several cutoffs."""
    rivals = tuple(rival for rival in settings.rivals if rival != "compile")
    for cutoff in SWEEP_CUTOFFS:
        case = replace(
            CASES[SWEEP_SYSTEM],
            name=f"{SWEEP_SYSTEM}, {cutoff} Å",
            family=SWEEP,
            cutoff=cutoff,
        )
        few = replace(settings, rivals=rivals)
        yield from in_own_process(measure, case, "paper", few, with_parts=False)


def all_rows(
    cases: list[Case], networks: tuple[str, ...], settings: Settings
) -> Iterator[list[Row]]:
    """Yield the rows of each job."""
    for case in cases:
        for network in networks:
            yield measured(case, network, settings)
        yield in_own_process(others, case, settings)
    if "paper" in networks and any(case.name == SWEEP_SYSTEM for case in cases):
        yield list(swept(settings))


def report_steps(rows: list[Row], settings: Settings, out: Path) -> str:
    """Write the files of a run and return the tables."""
    ours = [row for row in rows if "neighbors_ms" in row]
    text = "\n\n".join(
        (
            machine(settings),
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


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[str, typer.Option(help="Names, or all.")] = "all",
    networks: Annotated[str, typer.Option(help="paper, shipped.")] = "paper,shipped",
    rivals: Annotated[
        str, typer.Option(help="e3nn, compile, reference, or nothing.")
    ] = "e3nn,compile,reference",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    clock: Annotated[str, typer.Option(help="wall or cpu.")] = "wall",
    runs: Annotated[int, typer.Option(min=1, help="Turns that count.")] = 20,
    train: Annotated[
        bool, typer.Option("--training", help="Optimizer steps instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/speed"),
) -> None:
    """Time steps and whole runs, or optimizer steps, beside rivals."""
    names = ",".join(CASES) if systems == "all" else systems
    cases = [CASES[name] for name in chosen(names, tuple(CASES), "--systems")]
    kinds = chosen(networks, get_args(Network), "--networks")
    (clock,) = chosen(clock, get_args(Clock), "--clock")
    rivals_chosen = chosen(rivals, tuple(LIMITS), "--rivals")
    settings = Settings(rivals_chosen, device, threads, clock, runs)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    text = ""
    if train:
        for case in (case for case in cases if case.repeat == 1):
            for kind in kinds:
                rows += in_own_process(training, case, kind, settings)
                text = report_training(rows, settings, out)
    else:
        for found in all_rows(cases, kinds, settings):
            print(table(found, STEP_COLUMNS), flush=True)
            rows += found
            # Anew after each job: a long run that is stopped leaves what it has.
            text = report_steps(rows, settings, out)
    print(text)


if __name__ == "__main__":
    typer.run(main)
