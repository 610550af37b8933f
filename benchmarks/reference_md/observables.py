r"""Write what the package bundles of reference NVT runs: observables and a start.

    python benchmarks/reference_md/run.py water nvt --length 500
    python benchmarks/reference_md/observables.py runs/water/nvt-1.h5 --piece 10

    python benchmarks/reference_md/run.py paracetamol nvt --seeds 11-18
    python benchmarks/reference_md/observables.py runs/paracetamol/nvt-1[1-8].h5 \
        --piece 99.99

The second command writes ``water-observables.json``, which ``trajcast validate
--reference water`` reads, and with ``--start`` also ``water.xyz`` to
``trajcast_ase/data``. Several runs are one reference.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import typer
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray

from trajcast_ase.analysis.blocks import block_average
from trajcast_ase.analysis.bonds import bonded_pairs, longest_bonds
from trajcast_ase.analysis.temperature import element_temperatures, temperature
from trajcast_ase.analysis.vdos import Spectrum, overlap, vdos
from trajcast_ase.validation.inputs import observe_runs, read_run
from trajcast_ase.validation.storage import save_observables

N_BLOCKS = 50
PIECE_PS = 40.0
FEWEST_PIECES = 12
"""Shorter pieces are cut of runs that hold fewer of 40 ps."""
DATA_FOLDER = Path("trajcast_ase/data")


def rounded(values: NDArray[np.float64]) -> list[float]:
    """Return values with five significant digits."""
    return [float(f"{value:.5g}") for value in values]


def estimate(values: NDArray[np.float64]) -> dict[str, float]:
    """Return mean, standard error and standard deviation of a series."""
    result = block_average(values, N_BLOCKS)
    numbers = {"mean": result.mean, "error": result.error, "sd": values.std()}
    return {name: float(f"{value:.5g}") for name, value in numbers.items()}


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


def scatter(
    velocities: NDArray[np.float64], masses: NDArray[np.float64], whole: Spectrum
) -> dict[str, Any]:
    """Return how far spectra of short pieces of the run lie from that of all of it."""
    length = (len(velocities) - 1) * whole.stride_fs * 1e-3
    piece = min(PIECE_PS, length / FEWEST_PIECES)
    n_piece = round(piece * 1e3 / whole.stride_fs)
    numbers = np.ones(len(masses), dtype=np.int64)  # totals only
    pieces = [
        vdos(velocities[i : i + n_piece], whole.stride_fs, masses, numbers)
        for i in range(0, len(velocities) - n_piece + 1, n_piece)
    ]
    overlaps = np.array([overlap(piece, whole) for piece in pieces])
    return {
        "piece_ps": round(piece, 3),
        "n_pieces": len(pieces),
        "overlap_mean": round(float(overlaps.mean()), 4),
        "overlap_sd": round(float(overlaps.std(ddof=1)), 4),
        "total_sd_cm": rounded(np.std([p.total for p in pieces], axis=0, ddof=1)),
    }


def thermal(file: h5py.File, n_dof: int) -> dict[str, Any]:
    """Return temperatures, energies and the spectrum of a run."""
    velocities = file["velocities"][:]
    masses, numbers = file["masses"][:], file["numbers"][:]
    stride = float(file.attrs["stride_fs"])
    spectrum = vdos(velocities, stride, masses, numbers)
    elements = element_temperatures(velocities, masses, numbers, n_dof)
    return {
        "n_dof": n_dof,
        "length_ps": round(stride * (len(velocities) - 1) * 1e-3, 3),
        "n_blocks": N_BLOCKS,
        "temperature": estimate(temperature(velocities, masses, n_dof)),
        "element_temperatures": {name: estimate(t) for name, t in elements.items()},
        "potential_energy_eV": estimate(file["potential_energy"][:]),
        "vdos": {
            "stride_fs": spectrum.stride_fs,
            "window_fs": spectrum.window_fs,
            "n_windows": spectrum.n_windows,
            "frequency_cm": rounded(spectrum.frequency_cm),
            "by_element_cm": {
                name: rounded(density) for name, density in spectrum.by_element.items()
            },
        },
        "vdos_scatter": scatter(velocities, masses, spectrum),
    }


def demo_reference(file: h5py.File, atoms: Atoms, n_dof: int) -> dict[str, Any]:
    """Return the numbers that ``trajcast demo`` draws beside its run."""
    longest = longest_bonds(
        file["positions"][:],
        bonded_pairs(atoms),
        atoms.numbers,
        cell=file["cell"][:],
        pbc=file["pbc"][:],
    )
    return {
        "system": file.attrs["system"],
        "source": file.attrs["source"],
        "temperature_K": float(file.attrs["temperature_K"]),
        **thermal(file, n_dof),
        "longest_bonds_A": {kind: round(length, 3) for kind, length in longest.items()},
    }


def main(
    trajectories: Annotated[list[Path], typer.Argument(help="NVT runs, HDF5.")],
    piece: Annotated[float, typer.Option(help="Length of a piece, ps.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = DATA_FOLDER,
    start: Annotated[
        bool, typer.Option("--start", help="Write a typical frame of the first run.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Write the numbers of trajcast demo too.")
    ] = False,
) -> None:
    """Write observables of reference runs, and a start."""
    runs = [read_run(trajectory) for trajectory in trajectories]
    observables = observe_runs(runs, 1e3 * piece)
    with h5py.File(trajectories[0]) as file:
        atoms, name = typical_frame(file), file.attrs["system"]
        observables = replace(observables, source=str(file.attrs["source"]))
        numbers = demo_reference(file, atoms, observables.n_dof) if demo else None
    paths = [out / f"{name}-observables.json"]
    save_observables(observables, paths[0])
    if start:
        paths.append(out / f"{name}.xyz")
        write(paths[-1], atoms, format="extxyz")
    if numbers is not None:
        paths.append(out / f"{name}-reference.json")
        text = json.dumps(numbers, indent=1, ensure_ascii=False)
        paths[-1].write_text(text + "\n", encoding="utf-8")
    print("wrote", ", ".join(map(str, paths)))


if __name__ == "__main__":
    typer.run(main)
