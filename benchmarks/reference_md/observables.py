"""Write what the package bundles of a reference NVT run: observables and a start.

    python benchmarks/reference_md/run.py water nvt --length 150
    python benchmarks/reference_md/observables.py runs/water/nvt-1.h5 --diffusing O

The second command writes ``water-reference.json`` and ``water.xyz`` to
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

from trajcast_ase.analysis.blocks import Estimate, block_average
from trajcast_ase.analysis.bonds import bonded_pairs, longest_bonds
from trajcast_ase.analysis.distribution import Distribution
from trajcast_ase.analysis.msd import diffusion, msd
from trajcast_ase.analysis.rdf import rdf
from trajcast_ase.analysis.structure import angle_distributions, bond_distributions
from trajcast_ase.analysis.temperature import element_temperatures, temperature
from trajcast_ase.analysis.vdos import Spectrum, overlap, vdos

N_BLOCKS = 50
PIECE_PS = 40.0
FEWEST_PIECES = 12
"""Shorter pieces are cut of runs that hold fewer of 40 ps."""
STRUCTURE_FRAMES = 2000
"""Of which radial and angular distributions are computed."""
R_MAX = 6.0
"""Of radial distributions, Å."""
FIT_WINDOW_FS = (2000.0, 10000.0)
"""Of the mean square displacement, for diffusion."""
DATA_FOLDER = Path("trajcast_ase/data")


def rounded(values: NDArray[np.float64]) -> list[float]:
    """Return values with five significant digits."""
    return [float(f"{value:.5g}") for value in values]


def estimate(values: NDArray[np.float64]) -> dict[str, float]:
    """Return mean, standard error and standard deviation of a series."""
    result = block_average(values, N_BLOCKS)
    numbers = {"mean": result.mean, "error": result.error, "sd": values.std()}
    return {name: float(f"{value:.5g}") for name, value in numbers.items()}


def error_bar(value: Estimate) -> dict[str, float]:
    """Return a mean and its standard error."""
    return {name: float(f"{getattr(value, name):.5g}") for name in ("mean", "error")}


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


def thermal(file: h5py.File) -> dict[str, Any]:
    """Return temperatures, energies and the spectrum of a run."""
    velocities = file["velocities"][:]
    masses, numbers = file["masses"][:], file["numbers"][:]
    stride = float(file.attrs["stride_fs"])
    n_dof = 3 * len(masses) - (3 if file["pbc"][:].any() else 6)
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


def moments(distributions: dict[str, Distribution]) -> dict[str, Any]:
    """Return mean and standard deviation of distributions, with their errors."""
    return {
        name: {"mean": error_bar(values.mean), "sd": error_bar(values.sd)}
        for name, values in distributions.items()
    }


def structure(file: h5py.File, atoms: Atoms) -> dict[str, Any]:
    """Return bonds and angles of a run and, of a periodic one, the RDF."""
    numbers, cell, pbc = file["numbers"][:], file["cell"][:], file["pbc"][:]
    positions, pairs = file["positions"][:], bonded_pairs(atoms)
    longest = longest_bonds(positions, pairs, numbers, cell=cell, pbc=pbc)
    positions = positions[:: max(1, len(positions) // STRUCTURE_FRAMES)]
    box = {"cell": cell, "pbc": pbc}
    bonds = bond_distributions(positions, pairs, numbers, **box)
    angles = angle_distributions(positions, pairs, numbers, **box)
    values: dict[str, Any] = {
        "longest_bonds_A": {kind: round(length, 3) for kind, length in longest.items()},
        "bonds_A": moments(bonds),
        "angles_deg": moments(angles),
    }
    if pbc.all():
        result = rdf(positions, numbers, r_max=R_MAX, **box)
        values["rdf"] = {
            "r_max_A": R_MAX,
            "distance_A": rounded(result.distance),
            "g": {pair: rounded(g) for pair, g in result.g.items()},
            "g_error": {pair: rounded(g) for pair, g in result.g_error.items()},
        }
    return values


def diffusing_element(file: h5py.File, element: str) -> dict[str, Any]:
    """Return the diffusion coefficient of an element, without size correction."""
    curve = msd(
        file["positions"][:],
        float(file.attrs["stride_fs"]),
        file["numbers"][:],
        masses=file["masses"][:],
        max_lag_fs=FIT_WINDOW_FS[1],
    )
    fit = diffusion(curve, element, FIT_WINDOW_FS)
    return {
        "element": element,
        "coefficient_1e-9_m2_s": error_bar(fit.coefficient),
        "fit_window_fs": list(fit.fit_window_fs),
    }


def observables(
    file: h5py.File, atoms: Atoms, diffusing: str | None = None
) -> dict[str, Any]:
    """Return the numbers of a run that a rollout is compared with."""
    values = {
        "system": file.attrs["system"],
        "source": file.attrs["source"],
        "temperature_K": float(file.attrs["temperature_K"]),
        **thermal(file),
        **structure(file, atoms),
    }
    if diffusing:
        values["diffusion"] = diffusing_element(file, diffusing)
    return values


def main(
    trajectory: Annotated[Path, typer.Argument(help="An NVT run, HDF5.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = DATA_FOLDER,
    diffusing: Annotated[
        str | None, typer.Option(help="Element of a liquid, whose diffusion is fitted.")
    ] = None,
) -> None:
    """Write observables and a typical frame of a reference run."""
    with h5py.File(trajectory) as file:
        atoms = typical_frame(file)
        numbers = observables(file, atoms, diffusing)
    name = numbers["system"]
    text = json.dumps(numbers, indent=1, ensure_ascii=False)
    (out / f"{name}-reference.json").write_text(text + "\n", encoding="utf-8")
    write(out / f"{name}.xyz", atoms, format="extxyz")
    print(f"wrote {out / name}-reference.json and {out / name}.xyz")


if __name__ == "__main__":
    typer.run(main)
