"""Roll a paracetamol model out for a nanosecond and hold it against reference MD.

    python benchmarks/rollout.py --model paracetamol-7fs --picoseconds 1000

NVT at 300 K, CSVR with a time constant of 70 fs, from the bundled structure. Writes
``rollout.h5`` (frames of every stride, in the format of the reference runs),
``rollout.json`` (numbers with error bars, machine) and ``rollout.png`` to the folder
`--out`, and prints the numbers. A broken bond ends the run.
"""

import json
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import torch
import typer
from ase import units
from numpy.typing import NDArray
from scipy import stats

from trajcast_ase import CSVR, TrajCast, __version__, load_model
from trajcast_ase.analysis.blocks import Estimate
from trajcast_ase.analysis.bonds import bonded_pairs, longest_bonds
from trajcast_ase.analysis.compare import BREAKING, Comparison, Rollout, compare
from trajcast_ase.analysis.plots import rollout_figure, save_figure
from trajcast_ase.analysis.temperature import temperature
from trajcast_ase.data import Reference, paracetamol, paracetamol_reference
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.progress import RolloutProgress
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.units import ns_per_day

N_BLOCKS = 20
CHECK_INTERVAL = 100
"""Strides between two checks of the bonds."""


@dataclass
class Recorder:
    """Keeps every frame in memory, and tells when a bond has broken."""

    positions: list[NDArray[np.float64]] = field(default_factory=list)
    velocities: list[NDArray[np.float64]] = field(default_factory=list)

    def record(self, dynamics: TrajCast) -> None:
        """Keep the present frame."""
        self.positions.append(dynamics.atoms.get_positions())
        self.velocities.append(velocities_from_atoms(dynamics.atoms))

    def first_broken(self, reference: Reference) -> int | None:
        """Return the number of the first recent frame with a broken bond."""
        atoms = paracetamol()
        pairs = bonded_pairs(atoms)
        start = max(0, len(self.positions) - CHECK_INTERVAL - 1)
        for number, positions in enumerate(self.positions[start:], start):
            lengths = longest_bonds(positions[None], pairs, atoms.numbers)
            limits = reference.longest_bonds
            if any(
                length > BREAKING * limits[kind] for kind, length in lengths.items()
            ):
                return number
        return None


def machine(device: str) -> dict[str, Any]:
    """Return what the speed depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "processor": names[0] if names else platform.processor(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "trajcast_ase": __version__,
    }


def roll_out(
    dynamics: TrajCast, n_strides: int, reference: Reference
) -> tuple[Recorder, int | None, float]:
    """Return the frames, the number of a broken one, and the wall time, s."""
    recorder = Recorder()
    dynamics.attach(recorder.record, 1, dynamics)
    start = time.perf_counter()
    with RolloutProgress(n_strides, dynamics.model.horizon_fs) as progress:
        while dynamics.nsteps < n_strides:
            dynamics.run(min(CHECK_INTERVAL, n_strides - dynamics.nsteps))
            progress.update(dynamics.nsteps, dynamics.get_temperature())
            broken = recorder.first_broken(reference)
            if broken is not None:
                return recorder, broken, time.perf_counter() - start
    return recorder, None, time.perf_counter() - start


def write_frames(path: Path, rollout: Rollout, attributes: dict[str, Any]) -> None:
    """Write the frames in the format of the reference runs."""
    atoms = paracetamol()
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "trajcast-md", "format_version": 1})
        file.attrs.update({"stride_fs": rollout.stride_fs, **attributes})
        file["numbers"] = atoms.numbers.astype(np.int64)
        file["masses"] = atoms.get_masses()
        file["cell"] = atoms.cell.array
        file["pbc"] = atoms.pbc
        file["positions"] = rollout.positions
        file["velocities"] = rollout.velocities
        file["time"] = rollout.time_ps * 1e3


def pair(estimate: Estimate) -> dict[str, float]:
    """Return an estimate as plain numbers."""
    return {"mean": round(estimate.mean, 3), "error": round(estimate.error, 3)}


def rounded(lengths: dict[str, float]) -> dict[str, float]:
    """Return lengths in Å with three decimals."""
    return {kind: round(length, 3) for kind, length in lengths.items()}


def report(
    numbers: Comparison, rollout: Rollout, reference: Reference
) -> dict[str, Any]:
    """Return the numbers of the rollout beside those of the reference."""
    n_dof, wanted = reference.n_dof, reference.temperature_K
    kelvin = temperature(
        rollout.velocities[rollout.n_settled :], paracetamol().get_masses(), n_dof
    )
    gamma = stats.gamma(a=n_dof / 2, scale=2 * wanted / n_dof)
    return {
        "n_dof": n_dof,
        "temperature_K": pair(numbers.temperature),
        "reference_temperature_K": pair(reference.temperature),
        "temperature_sd_over_canonical": round(float(kelvin.std() / gamma.std()), 4),
        "temperature_ks_distance": round(
            float(stats.kstest(kelvin, gamma.cdf).statistic), 4
        ),
        "element_temperatures_K": {
            name: pair(value) for name, value in numbers.element_temperatures.items()
        },
        "reference_element_temperatures_K": {
            name: pair(value) for name, value in reference.element_temperatures.items()
        },
        "longest_bonds_A": rounded(numbers.longest_bonds),
        "reference_longest_bonds_A": reference.longest_bonds,
        "bond_limits_A": rounded(numbers.bond_limits),
        "intact": numbers.intact,
        "spectrum_overlap": round(numbers.spectrum_overlap, 4),
        "spectrum_overlap_of_reference_pieces": {
            "piece_ps": reference.scatter.piece_ps,
            "mean": reference.scatter.overlap_mean,
            "sd": reference.scatter.overlap_sd,
        },
    }


def draw(path: Path, numbers: Comparison, rollout: Rollout, title: str) -> None:
    """Write the figure of the demonstration for this rollout."""
    reference = paracetamol_reference()
    figure = rollout_figure(
        rollout.time_ps,
        temperature(rollout.velocities, paracetamol().get_masses(), reference.n_dof),
        numbers.spectrum,
        reference.spectrum,
        reference.scatter.for_length(rollout.settled_ps),
        temperature_K=reference.temperature_K,
        n_dof=reference.n_dof,
        title=title,
    )
    save_figure(figure, path)


def main(  # noqa: PLR0917  options of the command line
    model: Annotated[
        str, typer.Option(help="Bundled name, or a .trajcast file.")
    ] = "paracetamol-7fs",
    picoseconds: Annotated[float, typer.Option(min=10.0)] = 1000.0,
    taut: Annotated[float, typer.Option(help="Of the thermostat, fs.")] = 70.0,
    seed: int = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/rollout"),
) -> None:
    """Roll a paracetamol model out and hold it against reference MD."""
    network, reference = load_model(model, device=device), paracetamol_reference()
    rng, atoms = np.random.default_rng(seed), paracetamol()
    draw_momenta(atoms, reference.temperature_K, rng, network.conservation)
    thermostat = CSVR(reference.temperature_K, taut * units.fs, rng)
    dynamics = TrajCast(atoms, network, thermostat=thermostat)
    n_strides = round(picoseconds * 1e3 / network.horizon_fs)
    recorder, broken, seconds = roll_out(dynamics, n_strides, reference)
    rollout = Rollout(
        np.stack(recorder.positions), np.stack(recorder.velocities), network.horizon_fs
    )
    out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "model": model,
        "seed": seed,
        "taut_fs": taut,
        "length_ps": round(float(rollout.time_ps[-1]), 3),
    }
    write_frames(out / "rollout.h5", rollout, content | {"ensemble": "nvt"})
    speed = ns_per_day(seconds / dynamics.nsteps, network.horizon_fs)
    content |= {"ns_per_day": round(speed, 3), "machine": machine(device)}
    if broken is None:
        numbers = compare(rollout, paracetamol(), reference, n_blocks=N_BLOCKS)
        content |= {"n_blocks": N_BLOCKS, **report(numbers, rollout, reference)}
        draw(out / "rollout.png", numbers, rollout, f"{model}, {picoseconds:g} ps")
    else:
        content |= {"intact": False, "broken_at_ps": float(rollout.time_ps[broken])}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (out / "rollout.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    if broken is not None:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
