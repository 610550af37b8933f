"""Write what the package bundles of a reference NVT run: observables and a start.

    python benchmarks/reference_md/run.py paracetamol nvt
    python benchmarks/reference_md/observables.py runs/paracetamol/nvt-1.h5

The second command writes ``paracetamol-reference.json`` and ``paracetamol.xyz`` to
``trajcast_ase/data``.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import typer
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray

from trajcast_ase.analysis.bonds import bonded_pairs, longest_bonds
from trajcast_ase.analysis.temperature import (
    block_average,
    element_temperatures,
    temperature,
)
from trajcast_ase.analysis.vdos import Spectrum, overlap, vdos

N_BLOCKS = 50
PIECE_PS = 40.0
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
    """Return the frame with the potential energy nearest to the mean, centered."""
    energies = file["potential_energy"][:]
    index = int(np.argmin(np.abs(energies - energies.mean())))
    atoms = Atoms(file["numbers"][:], positions=file["positions"][index])
    atoms.positions -= atoms.get_center_of_mass()
    return atoms


def scatter(
    velocities: NDArray[np.float64], masses: NDArray[np.float64], whole: Spectrum
) -> dict[str, Any]:
    """Return how far spectra of short pieces of the run lie from that of all of it."""
    n_piece = round(PIECE_PS * 1e3 / whole.stride_fs)
    numbers = np.ones(len(masses), dtype=np.int64)  # totals only
    pieces = [
        vdos(velocities[i : i + n_piece], whole.stride_fs, masses, numbers)
        for i in range(0, len(velocities) - n_piece + 1, n_piece)
    ]
    overlaps = np.array([overlap(piece, whole) for piece in pieces])
    return {
        "piece_ps": PIECE_PS,
        "n_pieces": len(pieces),
        "overlap_mean": round(float(overlaps.mean()), 4),
        "overlap_sd": round(float(overlaps.std(ddof=1)), 4),
        "total_sd_cm": rounded(np.std([p.total for p in pieces], axis=0, ddof=1)),
    }


def observables(file: h5py.File, atoms: Atoms) -> dict[str, Any]:
    """Return the numbers of a run that a rollout is compared with."""
    velocities = file["velocities"][:]
    masses, numbers = file["masses"][:], file["numbers"][:]
    stride, n_dof = float(file.attrs["stride_fs"]), 3 * len(masses) - 6
    spectrum = vdos(velocities, stride, masses, numbers)
    elements = element_temperatures(velocities, masses, numbers, n_dof)
    bonds = longest_bonds(file["positions"][:], bonded_pairs(atoms), numbers)
    return {
        "system": file.attrs["system"],
        "source": file.attrs["source"],
        "temperature_K": float(file.attrs["temperature_K"]),
        "n_dof": n_dof,
        "length_ps": round(stride * (len(velocities) - 1) * 1e-3, 3),
        "n_blocks": N_BLOCKS,
        "temperature": estimate(temperature(velocities, masses, n_dof)),
        "element_temperatures": {name: estimate(t) for name, t in elements.items()},
        "potential_energy_eV": estimate(file["potential_energy"][:]),
        "longest_bonds_A": {kind: round(length, 3) for kind, length in bonds.items()},
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


def main(
    trajectory: Annotated[Path, typer.Argument(help="An NVT run, HDF5.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = DATA_FOLDER,
) -> None:
    """Write observables and a typical frame of a reference run."""
    with h5py.File(trajectory) as file:
        atoms = typical_frame(file)
        numbers = observables(file, atoms)
    name = numbers["system"]
    text = json.dumps(numbers, indent=1, ensure_ascii=False)
    (out / f"{name}-reference.json").write_text(text + "\n", encoding="utf-8")
    write(out / f"{name}.xyz", atoms, format="extxyz")
    print(f"wrote {out / name}-reference.json and {out / name}.xyz")


if __name__ == "__main__":
    typer.run(main)
