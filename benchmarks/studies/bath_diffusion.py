"""What a Langevin bath does to the diffusion of water: MD with forces, no model.

    python benchmarks/studies/bath_diffusion.py --times 2,10 --seeds 2 --data data

SPC/Fw water under LAMMPS with CSVR and a Langevin bath of some time constants, ps, from
states of the reference run, whose own diffusion (CSVR alone) stands first. Two minutes
for each run of 200 ps on an idle core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from study_observables import diffusion_of, pooled_msd
from study_systems import DATA, WATER

from trajcast_ase.trajectory import Frames, read_frames

# isort: split
# After study_systems, which puts the folder of this module on the path.
from engine import Engine
from protocol import keep_momenta_zero

STRIDE_FS = 10.0
EQUILIBRATION_PS = 5.0


def run(start: Frames, time_ps: float, picoseconds: float, seed: int) -> Frames:
    """Return MD under a Langevin bath and CSVR, from a frame of another run."""
    system = WATER.reference()
    kelvin = system.temperature
    steps = round(STRIDE_FS / system.timestep)
    first = start.n_frames // 2 + 1000 * seed
    positions, velocities = [], []
    with Engine(system) as engine:
        engine.set_state(start.positions[first], start.velocities[first])
        engine.commands(
            "fix integrate all nve",
            f"fix bath all langevin {kelvin} {kelvin} {1e3 * time_ps} {777 + seed} "
            "zero yes",
            f"fix csvr all temp/csvr {kelvin} {kelvin} {system.damping} {555 + seed}",
            "fix_modify csvr temp thermo_temp",
            keep_momenta_zero(system),
        )
        engine.start()
        engine.advance(round(1e3 * EQUILIBRATION_PS / system.timestep))
        for _ in range(round(1e3 * picoseconds / STRIDE_FS)):
            frame = engine.advance(steps)
            positions.append(frame.positions)
            velocities.append(frame.velocities)
    return Frames(
        positions=np.array(positions),
        velocities=np.array(velocities),
        atomic_numbers=start.atomic_numbers,
        masses=start.masses,
        cell=start.cell,
        pbc=start.pbc,
        stride_fs=STRIDE_FS,
        source=f"Langevin {time_ps:g} ps, seed {seed}",
    )


def main(
    times: Annotated[str, typer.Option(help="Time constants, ps.")] = "2,10",
    seeds: Annotated[int, typer.Option(min=1)] = 2,
    picoseconds: Annotated[float, typer.Option(min=50.0)] = 200.0,
    data: Annotated[Path, typer.Option(help="Folder of water/nvt-1.h5.")] = DATA,
) -> None:
    """Measure diffusion under each bath."""
    reference = read_frames(data / "water" / "nvt-1.h5")
    found = diffusion_of(pooled_msd([reference]), WATER.diffusing)
    print(f"CSVR alone: {found.coefficient} 1e-9 m²/s")
    for time_ps in map(float, times.split(",")):
        runs = [run(reference, time_ps, picoseconds, 1 + k) for k in range(seeds)]
        for one in runs:
            coefficient = diffusion_of(pooled_msd([one]), WATER.diffusing).coefficient
            print(f"{one.source}: {coefficient} 1e-9 m²/s", flush=True)


if __name__ == "__main__":
    typer.run(main)
