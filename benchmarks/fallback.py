"""A model that is trained too little: dead without forces, right with them.

    python benchmarks/fallback.py --cells 3 --strides 1200

Trains a small network for some seconds on copper (effective-medium theory, 300 K) and
runs it: with the default guards, which end the run, and with a guard of the total
energy and the forces of the same potential where it objects, for each limit of that
guard. Temperature and g(r) stand beside velocity Verlet with forces under the same
thermostat, three times as long; other runs of it, as long as the model's, tell what
chance does.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import atomic_numbers
from ase.io.trajectory import Trajectory
from ase.md.langevin import Langevin as AseLangevin
from ase.md.verlet import VelocityVerlet
from jaxtyping import Float

from trajcast_ase import ForceFallback, Langevin, TrajCast, load_model
from trajcast_ase.analysis.blocks import block_average
from trajcast_ase.analysis.rdf import RadialDistribution, rdf, rdf_overlap
from trajcast_ase.conservation import Conservation
from trajcast_ase.dynamics.domain import OutsideTrainingWarning
from trajcast_ase.dynamics.fallback import SenselessForecastError
from trajcast_ase.guards import EnergyChange, default_guards
from trajcast_ase.kinetics import temperature
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.loop import train

TEMPERATURE_K = 300.0
TIMESTEP_FS = 4.0
FRICTION = 1 / (200 * units.fs)
START = 2.2
"""Times the temperature: half goes into the potential, and the lattice is cold."""
SETTLING_FS = 1200.0
LONGER, N_OTHERS = 3, 2
"""Times the strides for the reference; other runs of MD, to see what chance does."""
PEAK_A = 3.0
"""The first peak of g(r) is below."""


def copper(seed: int, cells: int = 2) -> Atoms:
    """Return 4 cells³ atoms of copper at 300 K, half of the energy still to come."""
    atoms = bulk("Cu", cubic=True) * (cells, cells, cells)
    draw_momenta(
        atoms, START * TEMPERATURE_K, np.random.default_rng(seed), Conservation()
    )
    atoms.calc = EMT()
    return atoms


def write_reference(path: Path, seed: int, cells: int, picoseconds: float) -> None:
    """Write MD at constant energy, after its start has settled."""
    atoms = copper(seed, cells)
    dynamics = VelocityVerlet(atoms, TIMESTEP_FS * units.fs)
    dynamics.run(round(SETTLING_FS / TIMESTEP_FS))
    with Trajectory(path, "w", atoms) as writer:
        dynamics.attach(writer.write, 1)
        dynamics.run(round(1000 * picoseconds / TIMESTEP_FS))


def trained(
    folder: Path, *, steps: int, horizon_fs: float, seed: int, cells: int = 2
) -> Forecaster:
    """Return a network after so few steps that it is no good."""
    for k in range(2):
        write_reference(folder / f"nve-{k}.traj", seed + k, cells, picoseconds=2.0)
    sections = {
        "data": {
            "train": ("nve-0.traj",),
            "validation": ("nve-1.traj",),
            "horizon_fs": horizon_fs,
            "stride_fs": TIMESTEP_FS,
            "validation_pairs": 20,
        },
        "network": {
            "cutoff": 3.5,
            "n_channels": 8,
            "lmax": 1,
            "n_layers": 1,
            "edge_mlp": (16, 16),
            "velocity_mlp": (16, 16),
        },
        "optimizer": {"steps": steps, "batch_size": 4, "warmup_steps": 5},
        "run": {"name": "copper", "directory": "run", "threads": 1, "seed": seed},
    }
    train(TrainingConfig.from_dict(sections, folder=folder))
    return load_model(folder / "run" / "copper.trajcast")


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen of a run, a frame each horizon.

    Attributes
    ----------
    strides : int
    temperatures : (n_frames,), K
    positions : (n_frames, n_atoms, 3), Å
    by_forces : float
        Share of strides made by forces.
    seconds : float
    ending : str
        Why it ended early.
    """

    strides: int
    temperatures: Float[np.ndarray, " frames"]
    positions: Float[np.ndarray, "frames atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    by_forces: float
    seconds: float
    ending: str = ""

    def structure(self) -> RadialDistribution:
        """Return g(r)."""
        numbers = np.full(self.positions.shape[1], atomic_numbers["Cu"])
        return rdf(self.positions, numbers, cell=self.cell, pbc=True, n_bins=120)


class Recorder:
    """Keeps temperature and positions of Atoms when called."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self.temperatures: list[float] = []
        self.positions: list[np.ndarray] = []

    def __call__(self) -> None:
        """Keep the present ones."""
        self.temperatures.append(temperature(self.atoms, Conservation()))
        self.positions.append(self.atoms.positions.copy())

    def run(
        self, strides: int, by_forces: float, seconds: float, ending: str = ""
    ) -> Run:
        """Return what was kept."""
        kept = np.array(self.temperatures), np.array(self.positions)
        cell = self.atoms.cell.array
        return Run(strides, *kept, cell, by_forces, seconds, ending)


def settled(seed: int, cells: int) -> Atoms:
    """Return copper that has forgotten its lattice."""
    atoms = copper(seed, cells)
    VelocityVerlet(atoms, TIMESTEP_FS * units.fs).run(round(SETTLING_FS / TIMESTEP_FS))
    return atoms


def with_forces(strides: int, horizon_fs: float, seed: int, cells: int) -> Run:
    """Return conventional MD of as many horizons."""
    atoms = settled(seed, cells)
    recorder, start = Recorder(atoms), time.perf_counter()
    dynamics = AseLangevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=TEMPERATURE_K,
        friction=FRICTION,
        rng=np.random.default_rng(seed),
        fixcm=False,
    )
    each = round(horizon_fs / TIMESTEP_FS)
    dynamics.attach(recorder, each)
    dynamics.run(each * strides)
    return recorder.run(strides, 1.0, time.perf_counter() - start)


def with_forecasts(
    model: Forecaster, strides: int, seed: int, cells: int, limit_eV: float | None
) -> Run:
    """Return a run of the model; with a limit of energy changes forces help out."""
    atoms, rng = settled(seed, cells), np.random.default_rng(seed)
    bath = Langevin(TEMPERATURE_K, FRICTION, rng)
    guards, fallback = None, None
    if limit_eV is not None:
        energy = EnergyChange(EMT(), limit_eV)
        guards = [*default_guards(atoms, model, [bath]), energy]
        fallback = ForceFallback(TIMESTEP_FS * units.fs)
    recorder, start, ending = Recorder(atoms), time.perf_counter(), ""
    with warnings.catch_warnings():
        # 3 ps at constant energy are not quite at 300 K.
        warnings.simplefilter("ignore", OutsideTrainingWarning)
        dynamics = TrajCast(
            atoms, model, thermostat=bath, guards=guards, fallback=fallback
        )
    atoms.calc = EMT() if fallback else None  # no energies of frames
    dynamics.attach(recorder, 1)
    try:
        dynamics.run(strides)
    except SenselessForecastError as error:
        ending = str(error)
    share = dynamics.tally.by_forces / max(dynamics.nsteps, 1)
    return recorder.run(dynamics.nsteps, share, time.perf_counter() - start, ending)


def peak(run: Run) -> float:
    """Return the height of the first peak of g(r)."""
    found = run.structure()
    return float(found.g["Cu-Cu"][found.distance < PEAK_A].max())


def row(name: str, run: Run, reference: RadialDistribution | None) -> str:
    """Return a row of the table."""
    if run.ending:
        last = run.temperatures[-1]
        return f"| {name} | ended at stride {run.strides}, {last:.0f} K | | | | |"
    overlap = "" if reference is None else f"{_overlap(run, reference):.4f}"
    return (
        f"| {name} | {block_average(run.temperatures)} | {peak(run):.2f} | {overlap} | "
        f"{100 * run.by_forces:.0f} % | {run.seconds:.0f} |"
    )


def _overlap(run: Run, reference: RadialDistribution) -> float:
    return rdf_overlap(run.structure(), reference)["Cu-Cu"]


def main(  # noqa: PLR0917
    steps: Annotated[int, typer.Option(min=6, help="Of the training.")] = 150,
    strides: Annotated[int, typer.Option(min=100, help="Of each run.")] = 400,
    horizon: Annotated[float, typer.Option(help="Of the model, fs.")] = 28.0,
    limit: Annotated[
        list[float] | None, typer.Option(help="Of a change of energy, eV; repeat it.")
    ] = None,
    cells: Annotated[int, typer.Option(min=2, help="Along each edge.")] = 2,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Train too little, run without and with forces, and compare with MD."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = trained(
            Path(folder), steps=steps, horizon_fs=horizon, seed=seed, cells=cells
        )
        print(f"{steps} steps of training: {time.perf_counter() - start:.0f} s")
        errors = model.header.errors if model.header else {}
        for kind in ("displacement", "velocity"):
            print(f"error of a {kind}: {100 * errors[kind]['relative_mae']:.0f} %")
    alone = with_forecasts(model, strides, seed + 30, cells, None)
    reference = with_forces(LONGER * strides, horizon, seed + 10, cells)
    structure = reference.structure()
    print("| run | K | first peak of g(r) | overlap | by forces | s |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    print(row(f"MD, {LONGER} times as long", reference, None), flush=True)
    for other in range(N_OTHERS):
        again = with_forces(strides, horizon, seed + 20 + other, cells)
        print(row("MD, other numbers", again, structure), flush=True)
    print(row("model", alone, structure), flush=True)
    for limit_eV in limit or [0.05]:
        helped = with_forecasts(model, strides, seed + 30, cells, limit_eV)
        print(row(f"model and forces, {limit_eV:g} eV", helped, structure), flush=True)
    if alone.ending:
        print(alone.ending)


if __name__ == "__main__":
    typer.run(main)
