"""Potential energies of the frames of any trajectory, by the force field of a system.

    python benchmarks/reference_md/energies.py paracetamol md.traj --stride-fs 7

A forecast has no potential energy. This reads the frames of a rollout, lets LAMMPS
evaluate them with the force field of the reference MD, and prints mean and standard
deviation per atom. ``--out`` saves the energies (eV) as a NumPy array.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase import Atoms
from engine import Engine
from run import SYSTEMS
from system import System

from trajcast_ase.analysis.energy import energy_distribution, potential_energies
from trajcast_ase.trajectory import Frames, TrajectoryError, read_frames

# Of the cell in files, Å; more would be another density.
CELL_TOLERANCE = 1e-4


class ForceField:
    """The force field of a system, to be asked for energies like a calculator."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_potential_energy(self, atoms: Atoms | None = None) -> float:
        """Return the potential energy of `atoms`, eV, at their positions."""
        if atoms is None:
            raise ValueError("a force field has no atoms of its own; give them")
        self.engine.set_state(atoms.positions, np.zeros_like(atoms.positions))
        self.engine.start()
        return self.engine.thermo("pe") * self.engine.system.units.energy


def check_frames(frames: Frames, system: System) -> None:
    """Refuse frames of another composition, atom order or cell.

    Raises
    ------
    ValueError
    """
    if not np.array_equal(frames.atomic_numbers, system.numbers):
        raise ValueError(
            f"{frames.source} does not hold the atoms of {system.name} in its order; "
            "reorder them as in its start geometry"
        )
    if not system.isolated and not np.allclose(
        frames.cell, system.cell, rtol=0.0, atol=CELL_TOLERANCE
    ):
        raise ValueError(
            f"{frames.source} has the cell {frames.cell.tolist()}, {system.name} "
            f"{system.cell.tolist()}; choose the system that was simulated"
        )


def energies_of(frames: Frames, system: System, every: int = 1) -> np.ndarray:
    """Return the potential energies of every so many frames, eV."""
    check_frames(frames, system)
    atoms = Atoms(system.numbers, cell=frames.cell, pbc=frames.pbc)
    with Engine(system) as engine:
        return potential_energies(frames.positions[::every], atoms, ForceField(engine))


def main(  # noqa: PLR0917  (typer calls it by name)
    name: Annotated[str, typer.Argument(help="System, such as paracetamol.")],
    trajectory: Annotated[Path, typer.Argument(help="HDF5, .traj or extxyz.")],
    stride_fs: Annotated[
        float | None, typer.Option(help="Between frames, where the file is silent, fs.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take one frame in so many.")] = 1,
    blocks: Annotated[int, typer.Option(min=2, help="For the error bars.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Save the energies, .npy.")] = None,
) -> None:
    """Print mean and standard deviation of the potential energy per atom."""
    systems = {system.name: system for system in (make() for make in SYSTEMS)}
    if name not in systems:
        typer.echo(f"error: no system {name!r}; choose of {list(systems)}", err=True)
        raise typer.Exit(2)
    system = systems[name]
    try:
        energies = energies_of(read_frames(trajectory, stride_fs), system, every)
        found = energy_distribution(energies, system.n_atoms, n_blocks=blocks)
    except (TrajectoryError, FileNotFoundError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    print(f"{len(energies)} frames, eV/atom, one standard error of {blocks} blocks")
    print(f"mean {found.mean.mean:.6f} ± {found.mean.error:.6f}")
    print(f"sd   {found.sd.mean:.6f} ± {found.sd.error:.6f}")
    if out is not None:
        np.save(out, energies)


if __name__ == "__main__":
    typer.run(main)
