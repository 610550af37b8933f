r"""Write what the package bundles of reference NVT runs: observables and a start.

    python benchmarks/reference_md/run.py water nvt --length 500
    python benchmarks/reference_md/observables.py runs/water/nvt-1.h5 --piece 10

    python benchmarks/reference_md/run.py paracetamol nvt --seeds 11-18
    python benchmarks/reference_md/observables.py runs/paracetamol/nvt-1[1-8].h5 \
        --piece 99.99
    python benchmarks/reference_md/observables.py runs/paracetamol/nvt-1[1-8].h5 \
        --piece 3 --skip 975.9 --name paracetamol-short  # of trajcast demo

The second command writes ``water-observables.json``, which ``trajcast validate
--reference water`` reads, and with ``--start`` also ``water.xyz`` to
``trajcast_ase/data``. Several runs are one reference.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import typer
from ase import Atoms
from ase.io import write

from trajcast_ase.validation.inputs import observe_runs, read_run
from trajcast_ase.validation.storage import save_observables

DATA_FOLDER = Path("trajcast_ase/data")


def typical_frame(file: h5py.File) -> Atoms:
    """Return the frame with the potential energy nearest to the mean.

    Molecules are centered, periodic systems wrapped into their cell.
    """
    energies = file["potential_energy"][:]
    index = int(np.argmin(np.abs(energies - energies.mean())))
    positions, cell, pbc = file["positions"][index], file["cell"][:], file["pbc"][:]
    atoms = Atoms(file["numbers"][:], positions=positions, cell=cell, pbc=pbc)
    if pbc.any():
        atoms.wrap()
    else:
        atoms.positions -= atoms.get_center_of_mass()
    return atoms


def main(
    trajectories: Annotated[list[Path], typer.Argument(help="NVT runs, HDF5.")],
    *,
    piece: Annotated[float, typer.Option(help="Length of a piece, ps.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = DATA_FOLDER,
    start: Annotated[
        bool, typer.Option("--start", help="Write a typical frame of the first run.")
    ] = False,
    skip: Annotated[
        float, typer.Option(help="Leave out this much of each run's start, ps.")
    ] = 0.0,
    name: Annotated[
        str | None, typer.Option(help="Of the files; default: of the system.")
    ] = None,
) -> None:
    """Write observables of reference runs, and a start."""
    runs = [read_run(trajectory, skip_ps=skip) for trajectory in trajectories]
    observables = observe_runs(runs, 1e3 * piece)
    with h5py.File(trajectories[0]) as file:
        atoms, name = typical_frame(file), name or file.attrs["system"]
        observables = replace(observables, source=str(file.attrs["source"]))
    paths = [out / f"{name}-observables.json"]
    save_observables(observables, paths[0])
    if start:
        paths.append(out / f"{name}.xyz")
        write(paths[-1], atoms, format="extxyz")
    print("wrote", ", ".join(map(str, paths)))


if __name__ == "__main__":
    typer.run(main)
