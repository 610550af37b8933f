"""MD of an own system with its calculator, beside what ``trajcast distill`` makes.

    python benchmarks/own_systems/reference.py ethanol --seed 11 --out data/ethanol
    python benchmarks/own_systems/reference.py ethanol --seed 101 --nve 64 --length 10 \
        --stride 0.5 --out data/ethanol

The first makes a canonical run, to hold a shipped model against, under the weak baths
that distill makes its references with (Langevin 5 ps, CSVR 0.5 ps); the second makes
runs at constant energy, to train on, from snapshots of such a run that lie 2 ps apart.
Both begin with the bare structure and 10 ps under a strong bath. Writes
``OUT/nvt-SEED.h5`` or ``OUT/nve-SEED-NUMBER.h5``; the same command goes on where it was
interrupted. 250 ps of ethanol at GFN2-xTB take ten minutes of a core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, cast

import h5py
import typer
from ase.calculators.calculator import Calculator
from structures import SYSTEMS, OwnSystem

from trajcast_ase.distill.calculators import CalculatorSpec, parse_options
from trajcast_ase.distill.chains import Chain
from trajcast_ase.distill.segments import Segment, Setup, run_segments

EQUILIBRATION_PS, PAUSE_PS = 10.0, 2.0
LINE_S = 60.0


def canonical(seed: int, n_frames: int, stride_fs: float, kelvin: float) -> Chain:
    """Return equilibration and one canonical run."""
    first = _equilibration(seed, stride_fs, kelvin)
    run = Segment(f"nvt-{seed}", first.name, "weak", n_frames, 10 * seed + 1, kelvin)
    return first, run


def constant_energy(
    seed: int, n_runs: int, n_frames: int, stride_fs: float, kelvin: float
) -> Chain:
    """Return equilibration, and runs at constant energy from snapshots."""
    chain = [_equilibration(seed, stride_fs, kelvin)]
    before, pause = chain[0].name, round(PAUSE_PS * 1e3 / stride_fs) + 1
    for number in range(1, n_runs + 1):
        name, own = f"pause-{seed}-{number:03d}", 1000 * seed + number
        run = f"nve-{seed}-{number:03d}"
        chain += [
            Segment(name, before, "weak", pause, own, kelvin),
            Segment(run, name, "nve", n_frames, own, kelvin),
        ]
        before = name
    return tuple(chain)


def _equilibration(seed: int, stride_fs: float, kelvin: float) -> Segment:
    n_frames = round(EQUILIBRATION_PS * 1e3 / stride_fs) + 1
    name = f"equilibration-{seed}"
    return Segment(name, None, "strong", n_frames, 10 * seed, kelvin)


def calculator(system: OwnSystem) -> Calculator:
    """Return the calculator of a system."""
    spec = CalculatorSpec(system.calculator, parse_options(system.options))
    return cast("Calculator", spec.make())


def said(stride_fs: float) -> Callable[[int], None]:
    """Return what tells once a minute how much was made."""
    made, last = 0, time.monotonic()

    def tick(n_frames: int) -> None:
        nonlocal made, last
        made += n_frames
        if time.monotonic() - last > LINE_S:
            last = time.monotonic()
            print(f"{made * stride_fs * 1e-3:.1f} ps made", flush=True)

    return tick


def main(  # noqa: PLR0917  options of the command line
    name: str,
    seed: Annotated[int, typer.Option(min=0, help="Of velocities and baths.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    nve: Annotated[
        int, typer.Option(min=0, help="Runs at constant energy instead.")
    ] = 0,
    length: Annotated[float, typer.Option(min=1.0, help="Of a run, ps.")] = 250.0,
    stride: Annotated[float, typer.Option(help="Between frames, fs.")] = 6.5,
    timestep: Annotated[float, typer.Option(help="fs")] = 0.5,
) -> None:
    """Make a canonical run."""
    if name not in SYSTEMS:
        raise typer.BadParameter(f"{name}: it is one of {', '.join(SYSTEMS)}")
    steps = round(stride / timestep)
    if steps < 1 or abs(steps * timestep - stride) > 1e-9:
        raise typer.BadParameter(
            f"a stride of {stride:g} fs is no multiple of --timestep {timestep:g}"
        )
    out.mkdir(parents=True, exist_ok=True)
    system = SYSTEMS[name]
    setup = Setup(system.structure(), timestep, steps, out)
    n_frames, kelvin = round(length * 1e3 / stride) + 1, system.temperature_K
    chain = (
        constant_energy(seed, nve, n_frames, stride, kelvin)
        if nve
        else canonical(seed, n_frames, stride, kelvin)
    )
    paths = [setup.path(one.name) for one in chain if one.name.startswith("nv")]
    if not all(path.exists() for path in paths):
        run_segments(setup, chain, calculator(system), said(stride), lambda: False)
    for path in paths:
        with h5py.File(path, "a") as file:
            file.attrs["system"] = name
            file.attrs["source"] = f"{system.calculator}, ASE, {timestep:g} fs"
    for one in chain:
        if setup.path(one.name) not in paths:
            setup.path(one.name).unlink(missing_ok=True)
    print(f"{paths[0]}, {len(paths)} in all")


if __name__ == "__main__":
    typer.run(main)
