"""Roll a model out at 300 K and hold it against the bundled reference MD.

    python benchmarks/rollout.py paracetamol --picoseconds 1000
    python benchmarks/rollout.py quartz --picoseconds 600
    python benchmarks/rollout.py water --picoseconds 100

NVT with CSVR and the time constant of the paper, from the bundled structure. Writes to
the folder `--out`: ``rollout.h5`` (a frame of every stride, in the format of the
reference runs), ``rollout.json`` (settings, speed, machine) and the files of ``trajcast
validate``. A broken bond ends the run.
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
from ase import Atoms, units
from numpy.typing import NDArray

from trajcast_ase import CSVR, ForecastNoise, TrajCast, __version__, load_model
from trajcast_ase.analysis.bonds import longest_bonds
from trajcast_ase.data import paracetamol, quartz, water
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.progress import RolloutProgress
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.units import ns_per_day
from trajcast_ase.validation.inputs import bundled_reference, observe_both, read_run
from trajcast_ase.validation.observables import Observables
from trajcast_ase.validation.output import markdown, write_report
from trajcast_ase.validation.report import BREAKING, compare

STARTS = {"paracetamol": paracetamol, "quartz": quartz, "water": water}
MODELS = {
    "paracetamol": "paracetamol-7fs",
    "quartz": "quartz-30fs",
    "water": "water-5fs",
}
TAUT_FS = {"paracetamol": 70.0, "quartz": 75.0, "water": 50.0}
"""Thiemann et al., arXiv:2503.23794, Methods."""
TEMPERATURE_K = 300.0
CHECK_INTERVAL = 100
"""Strides between two checks of the bonds."""


@dataclass
class Recorder:
    """Keeps every frame in memory, and tells when a bond has broken."""

    limits: dict[str, float]
    pairs: NDArray[np.int64]
    positions: list[NDArray[np.float64]] = field(default_factory=list)
    velocities: list[NDArray[np.float64]] = field(default_factory=list)

    def record(self, dynamics: TrajCast) -> None:
        """Keep the present frame."""
        self.positions.append(dynamics.atoms.get_positions())
        self.velocities.append(velocities_from_atoms(dynamics.atoms))

    def is_broken(self, atoms: Atoms) -> bool:
        """Return whether a bond of the last frames is longer than its limit."""
        lengths = longest_bonds(
            np.stack(self.positions[-CHECK_INTERVAL:]),
            self.pairs,
            atoms.numbers,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
        )
        return any(length > self.limits[kind] for kind, length in lengths.items())


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
    dynamics: TrajCast, n_strides: int, reference: Observables
) -> tuple[Recorder, bool, float]:
    """Return the frames, whether a bond broke, and the wall time, s."""
    atoms = dynamics.atoms
    longest = reference.longest_bonds_A
    limits = {kind: BREAKING * length for kind, length in longest.items()}
    recorder = Recorder(limits, reference.topology.pairs)
    dynamics.attach(recorder.record, 1, dynamics)
    start = time.perf_counter()
    with RolloutProgress(n_strides, dynamics.model.horizon_fs) as progress:
        while dynamics.nsteps < n_strides:
            dynamics.run(min(CHECK_INTERVAL, n_strides - dynamics.nsteps))
            progress.update(dynamics.nsteps, dynamics.get_temperature())
            if recorder.is_broken(atoms):
                return recorder, True, time.perf_counter() - start
    return recorder, False, time.perf_counter() - start


def write_frames(
    path: Path, recorder: Recorder, atoms: Atoms, attributes: dict[str, Any]
) -> None:
    """Write the frames in the format of the reference runs."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "trajcast-md", "format_version": 1})
        file.attrs.update({"ensemble": "nvt", **attributes})
        file["numbers"] = atoms.numbers.astype(np.int64)
        file["masses"] = atoms.get_masses()
        file["cell"] = atoms.cell.array
        file["pbc"] = atoms.pbc
        file["positions"] = np.stack(recorder.positions)
        file["velocities"] = np.stack(recorder.velocities)
        file["time"] = np.arange(len(recorder.positions)) * attributes["stride_fs"]


def main(  # noqa: PLR0917  options of the command line
    system: Annotated[str, typer.Argument(help="paracetamol, quartz or water.")],
    model: Annotated[
        str | None, typer.Option(help="Bundled name or file. Default: the system's.")
    ] = None,
    picoseconds: Annotated[float, typer.Option(min=10.0)] = 100.0,
    skip: Annotated[
        float, typer.Option(help="Share of the run that is equilibration.")
    ] = 0.05,
    noise: Annotated[
        bool, typer.Option("--noise", help="With the model's calibrated noise.")
    ] = False,
    seed: int = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/rollout"),
) -> None:
    """Roll a model out and hold it against reference MD."""
    model = model or MODELS[system]
    network, reference = load_model(model, device=device), bundled_reference(system)
    rng, atoms = np.random.default_rng(seed), STARTS[system]()
    draw_momenta(atoms, TEMPERATURE_K, rng, network.conservation)
    dynamics = TrajCast(
        atoms,
        network,
        thermostat=CSVR(TEMPERATURE_K, TAUT_FS[system] * units.fs, rng),
        noise=ForecastNoise.of_model(model, rng) if noise else None,
    )
    n_strides = round(picoseconds * 1e3 / network.horizon_fs)
    recorder, broken, seconds = roll_out(dynamics, n_strides, reference)
    out.mkdir(parents=True, exist_ok=True)
    length_ps = dynamics.nsteps * network.horizon_fs * 1e-3
    speed = ns_per_day(seconds / dynamics.nsteps, network.horizon_fs)
    content: dict[str, Any] = {
        "model": network.name,
        "noise": noise,
        "seed": seed,
        "temperature_K": TEMPERATURE_K,
        "taut_fs": TAUT_FS[system],
        "length_ps": round(length_ps, 3),
        "skipped_ps": round(skip * length_ps, 3),
        "intact": not broken,
        "ns_per_day": round(speed, 3),
        "machine": machine(device),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (out / "rollout.json").write_text(text + "\n", encoding="utf-8")
    settings = {"stride_fs": network.horizon_fs, "temperature_K": TEMPERATURE_K}
    write_frames(out / "rollout.h5", recorder, atoms, settings)
    print(text)
    run = read_run(out / "rollout.h5", skip_ps=skip * length_ps)
    report = compare(*observe_both(run, reference))
    write_report(report, out)
    print(markdown(report))
    if broken:
        print(f"a bond broke after {length_ps:.1f} ps")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
