"""How near atoms come in MD, in sums of covalent radii: what `LeastDistance` allows.

    python benchmarks/studies/least_distances.py --data data --out least_distances.json

Reads frames of the reference MD of the bundled systems where `--data` has it, makes
short MD of argon (Lennard-Jones), copper (EMT) and, with tblite, of molecules with
short bonds (GFN2-xTB), and looks at the equilibrium geometries of the G2 set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.collections import g2
from ase.data import atomic_numbers, covalent_radii
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.units import fs

from trajcast_ase.guards.distances import NEAREST, least_distances
from trajcast_ase.state import state_from_atoms
from trajcast_ase.trajectory import read_frames

REACH_A = 4.5
"""Beyond it nobody is near."""
ARGON_A, ARGON_EV = 3.405, 0.010321
SHORT_BONDS = ("N2", "CO", "HCN", "C2H2", "H2O")


def ratios(frames: Iterable[Atoms]) -> dict[str, float]:
    """Return the least distance by pair of elements, in sums of covalent radii."""
    found: dict[str, float] = {}
    for atoms in frames:
        for pair, length in least_distances(state_from_atoms(atoms), REACH_A).items():
            radii = sum(covalent_radii[atomic_numbers[one]] for one in pair.split("-"))
            found[pair] = min(found.get(pair, np.inf), length / float(radii))
    return found


def stored(folder: Path, every: int) -> Iterator[Atoms]:
    """Yield every n-th frame of the runs in a folder."""
    for path in sorted(folder.glob("n*-*.h5")):
        frames = read_frames(path)
        yield from (frames.atoms(k) for k in range(0, frames.n_frames, every))


def made(
    atoms: Atoms, calculator: Calculator, kelvin: float, step_fs: float, steps: int
) -> Iterator[Atoms]:
    """Yield frames of MD at a temperature, after a fifth of it."""
    rng = np.random.default_rng(1)
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * kelvin, rng=rng)
    dynamics = Langevin(
        atoms, step_fs * fs, temperature_K=kelvin, friction=0.01 / fs, rng=rng
    )
    for _ in dynamics.irun(steps):
        if dynamics.nsteps > steps // 5:
            yield atoms


def argon() -> Atoms:
    """Return argon at the density of the liquid at 94 K."""
    return bulk("Ar", "fcc", a=5.78, cubic=True) * (3, 3, 3)


def systems(data: Path | None, every: int, steps: int) -> Iterator[tuple[str, dict]]:
    """Yield what each system comes to."""
    for folder in sorted(data.iterdir()) if data is not None else []:
        yield f"{folder.name}, reference MD", ratios(stored(folder, every))
    pair = LennardJones(sigma=ARGON_A, epsilon=ARGON_EV, rc=8.0)
    yield "liquid argon, 94 K, Lennard-Jones", ratios(made(argon(), pair, 94, 5, steps))
    for kelvin in (300.0, 1200.0):
        copper = bulk("Cu", cubic=True) * (2, 2, 2)
        found = ratios(made(copper, EMT(), kelvin, 3, steps))
        yield f"copper, {kelvin:g} K, EMT", found
    if find_spec("tblite") is not None:
        from tblite.ase import TBLite  # noqa: PLC0415  an extra

        for name in SHORT_BONDS:
            for kelvin in (300.0, 1000.0):
                xtb = TBLite(method="GFN2-xTB", verbosity=0)
                found = ratios(made(molecule(name), xtb, kelvin, 0.5, 2 * steps))
                yield f"{name}, {kelvin:g} K, GFN2-xTB", found
    yield "molecules of the G2 set at rest", ratios(molecule(name) for name in g2.names)


def main(
    data: Annotated[
        Path | None, typer.Option(help="Folder with a folder of reference MD each.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Frames of it to a look.")] = 50,
    steps: Annotated[int, typer.Option(min=10, help="Of the MD made here.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Print the smallest ratio of each system, and write all."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    table = {}
    print("| system | nearest pair | in sums of covalent radii |")
    print("| --- | --- | ---: |")
    for name, found in systems(data, every, steps):
        table[name] = {pair: round(value, 4) for pair, value in found.items()}
        nearest = min(found, key=lambda pair: found[pair])
        print(f"| {name} | {nearest} | {found[nearest]:.3f} |", flush=True)
    least = min(min(found.values()) for found in table.values())
    print(f"least of all {least:.3f}; the guard's limit is {NEAREST:g}")
    if out is not None:
        out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
