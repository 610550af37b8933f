"""Forecasts without a thermostat against MD from the same state, at constant energy.

    python benchmarks/reference_md/run.py water nve --seeds 5,6 --out data/water
    python benchmarks/studies/constant_energy.py paracetamol quartz water --data data

The paper's Figure S3, and beyond: from states of NVE runs that no training saw, the
error of many strides in a row beside that of MD from a start 1e-6 Å away, the total
energy by the reference force field, and the temperature. Writes
``docs/studies/constant_energy.md`` with its figure, and a JSON file of the curves per
system. The defaults take one to two minutes a system on one core; pages of all systems
are written from the JSON files, so that systems can be run one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import torch
import typer
from constant_energy_page import draw, page
from jaxtyping import Float, Int
from numpy.typing import NDArray
from study_pages import (
    machine,
    mean_of,
    plain,
    read_json,
    save_small,
    write_json,
    write_page,
)
from study_systems import DATA, STUDIES, SUBJECTS, Subject, nve_files, subject_of

from trajcast_ase import load_model
from trajcast_ase.analysis.energy import potential_energies
from trajcast_ase.conservation import Conservation
from trajcast_ase.kinetics import atom_energies, degrees_of_freedom
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.pairs import Pairs
from trajcast_ase.trajectory import Frames, read_frames
from trajcast_ase.units import KB

# isort: split
# After study_systems, which puts the folder of these modules on the path.
from energies import ForceField
from engine import Engine, Frame
from run import parse_seeds
from twin import shifted

SHIFT_A = 1e-6
"""Of each coordinate of the start of the twin, rms."""
ENERGY_POINTS = 60
"""At which the total energy is evaluated, about."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Runs from several starts, at equal times.

    Attributes
    ----------
    positions : (n_times, n_starts, n_atoms, 3), Å
        Not wrapped.
    velocities : (n_times, n_starts, n_atoms, 3), Å/fs
    """

    positions: Float[np.ndarray, "times starts atoms 3"]
    velocities: Float[np.ndarray, "times starts atoms 3"]


@dataclass(frozen=True, slots=True)
class Held:
    """A run of reference MD that the model never saw.

    Attributes
    ----------
    frames : Frames
    total_energy : (n_frames,), eV
    starts : (n_starts,)
        Frames from which forecasts start.
    """

    frames: Frames
    total_energy: Float[np.ndarray, " frames"]
    starts: Int[np.ndarray, " starts"]


def read_held(path: Path, n_starts: int, n_frames: int) -> Held:
    """Return a run with starts that leave `n_frames` frames after each.

    Raises
    ------
    typer.BadParameter
        The run is too short.
    """
    frames = read_frames(path)
    with h5py.File(path) as file:
        energy = file["potential_energy"][:] + file["kinetic_energy"][:]
    last = frames.n_frames - 1 - n_frames
    if last < n_starts - 1:
        raise typer.BadParameter(
            f"{path} is {frames.n_frames * frames.stride_fs:g} fs long, which leaves "
            f"no {n_starts} starts of {n_frames * frames.stride_fs:g} fs; lower "
            "--femtoseconds or --starts"
        )
    starts = np.unique(np.linspace(0, last, n_starts).round().astype(np.int64))
    return Held(frames, energy, starts)


def lag_of(frames: Frames, horizon_fs: float) -> int:
    """Return the number of frames in a horizon.

    Raises
    ------
    typer.BadParameter
        It is no whole number.
    """
    lag = round(horizon_fs / frames.stride_fs)
    if lag < 1 or abs(lag * frames.stride_fs - horizon_fs) > 1e-6:
        raise typer.BadParameter(
            f"{frames.source} has a frame every {frames.stride_fs:g} fs, of which "
            f"{horizon_fs:g} fs, the horizon, are no whole number; write it anew with "
            f"--stride {horizon_fs:g}"
        )
    return lag


def true_paths(held: Held, lag: int, n_strides: int) -> Paths:
    """Return what MD did from each start."""
    index = held.starts[None, :] + lag * np.arange(n_strides + 1)[:, None]
    return Paths(held.frames.positions[index], held.frames.velocities[index])


def forecast_paths(model: ForecastModel, held: Held, n_strides: int) -> Paths:
    """Return strides in a row from each start, all as one batch.

    Raises
    ------
    RuntimeError
        A forecast is not finite.
    """
    lag = lag_of(held.frames, model.horizon_fs)
    dataset = PairDataset([Pairs(held.frames, held.starts, lag)])
    state = dataset.batch(np.arange(len(held.starts)), device=model.device).state
    model.check_elements(state.atomic_numbers)
    shape = (len(held.starts), -1, 3)
    rows = [(state.positions, state.velocities)]
    with torch.no_grad():
        for k in range(n_strides):
            state = stride(model, state)
            if not bool(torch.isfinite(state.positions).all()):
                raise RuntimeError(
                    f"a forecast is not finite after {(k + 1) * model.horizon_fs:g} "
                    "fs; lower --femtoseconds"
                )
            rows.append((state.positions, state.velocities))
    moved, changed = (
        np.stack([row[k].cpu().numpy().reshape(shape) for row in rows])
        for k in range(2)
    )
    return Paths(moved, changed)


def twin_paths(
    engine: Engine, held: Held, n_strides: int, horizon_fs: float, seed: int
) -> Paths:
    """Return MD from each start, moved by 1e-6 Å."""
    n_steps = round(horizon_fs / engine.system.timestep)
    engine.commands("fix integrate all nve")
    moved, changed = [], []
    for number, start in enumerate(held.starts):
        first = Frame(
            held.frames.positions[start], held.frames.velocities[start], 0.0, 0.0
        )
        first = shifted(first, SHIFT_A, seed + number)
        engine.set_state(first.positions, first.velocities)
        engine.start()
        path = [first, *(engine.advance(n_steps) for _ in range(n_strides))]
        moved.append(np.stack([frame.positions for frame in path]))
        changed.append(np.stack([frame.velocities for frame in path]))
    engine.commands("unfix integrate")
    return Paths(np.stack(moved, axis=1), np.stack(changed, axis=1))


def mean_errors(
    paths: Paths, truth: Paths
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean absolute error of positions (Å) and velocities (Å/fs).

    (n_times, n_starts) each, per Cartesian component.
    """
    moved = np.abs(paths.positions - truth.positions).mean(axis=(2, 3))
    changed = np.abs(paths.velocities - truth.velocities).mean(axis=(2, 3))
    return moved, changed


def kinetic_energies(paths: Paths, masses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the kinetic energy, (n_times, n_starts), eV."""
    return np.asarray(atom_energies(paths.velocities, masses).sum(axis=-1))


def total_energies(
    engine: Engine, paths: Paths, times: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the total energy at some times by the force field, (n, n_starts), eV."""
    system = engine.system
    atoms, field = system.atoms(), ForceField(engine)
    kinetic = kinetic_energies(paths, system.masses)[times]
    potential = [
        potential_energies(paths.positions[times, start], atoms, field)
        for start in range(paths.positions.shape[1])
    ]
    return np.asarray(kinetic + np.stack(potential, axis=1))


def slopes(
    time_fs: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the slope of each column of (n_times, n_starts) per ps."""
    return np.asarray(np.polyfit(time_fs * 1e-3, values, 1)[0])


def curve(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return mean and standard error over the starts of (n_times, n_starts)."""
    error = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return {"mean": values.mean(axis=1), "error": error}


def measure(
    subject: Subject,
    model: ForecastModel,
    helds: list[Held],
    n_strides: int,
    seed: int,
) -> dict[str, Any]:
    """Return the curves and drifts of forecasts, MD and its twin."""
    system, horizon = subject.reference(), model.horizon_fs
    n_atoms, n_dof = system.n_atoms, degrees_of_freedom(system.atoms(), Conservation())
    time = horizon * np.arange(n_strides + 1)
    every = max(1, n_strides // ENERGY_POINTS)
    some = np.arange(0, n_strides + 1, every)
    found: dict[str, list[NDArray[np.float64]]] = {}
    with Engine(system) as engine:
        for held in helds:
            lag = lag_of(held.frames, horizon)
            truth = true_paths(held, lag, n_strides)
            ours = forecast_paths(model, held, n_strides)
            twin = twin_paths(engine, held, n_strides, horizon, seed)
            at = held.starts[None, :] + lag * some[:, None]
            for name, values in (
                ("error", mean_errors(ours, truth)),
                ("twin", mean_errors(twin, truth)),
            ):
                found.setdefault(f"{name}_A", []).append(values[0])
                found.setdefault(f"{name}_A_per_fs", []).append(values[1])
            for name, paths in (("run", ours), ("md", truth)):
                kelvin = 2 * kinetic_energies(paths, system.masses) / (n_dof * KB)
                found.setdefault(f"{name}_K", []).append(kelvin)
            energies = total_energies(engine, ours, some)
            found.setdefault("run_meV", []).append(1e3 * energies / n_atoms)
            found.setdefault("md_meV", []).append(1e3 * held.total_energy[at] / n_atoms)
    whole = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    for name in ("run_meV", "md_meV"):  # relative to the start
        whole[name] = whole[name] - whole[name][0]
    drifts = {
        name: plain_estimate(slopes(time[some], whole[name]))
        for name in ("run_meV", "md_meV")
    }
    # Of the same starts, so that what both do alike cancels.
    apart = slopes(time, whole["run_K"] - whole["md_K"])
    drifts["difference_K"] = plain_estimate(apart)
    return {
        "time_fs": time,
        "energy_time_fs": time[some],
        "n_starts": whole["error_A"].shape[1],
        "curves": {name: curve(values) for name, values in whole.items()},
        "drift_per_ps": drifts,
    }


def plain_estimate(values: NDArray[np.float64]) -> dict[str, float]:
    """Return mean, standard error and standard deviation over the starts."""
    estimate = mean_of(values)
    return {
        "mean": estimate.mean,
        "error": estimate.error,
        "sd": float(values.std(ddof=1)),
    }


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[list[str], typer.Argument(help="paracetamol, quartz, water.")],
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nve-SEED.h5.")] = DATA,
    seeds: Annotated[
        str | None, typer.Option(help="Held-out runs. Default: those of the system.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Bundled name or file. Default: the system's.")
    ] = None,
    starts: Annotated[int, typer.Option(min=2, help="In each run.")] = 5,
    femtoseconds: Annotated[float, typer.Option(min=100.0)] = 2000.0,
    seed: Annotated[int, typer.Option(help="Of the shift of the twin.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Hold forecasts at constant energy against MD from the same states."""
    for subject in [subject_of(name) for name in systems]:
        paths = nve_files(data, subject.name, parse_seeds(seeds or subject.held_out))
        network = load_model(model or subject.model, device=device)
        n_strides = round(femtoseconds / network.horizon_fs)
        n_frames = n_strides * lag_of(read_frames(paths[0]), network.horizon_fs)
        helds = [read_held(path, starts, n_frames) for path in paths]
        found = measure(subject, network, helds, n_strides, seed)
        settings = {
            "model": network.name,
            "runs": [path.name for path in paths],
            "machine": machine(device),
        }
        write_json(out / f"constant_energy-{subject.name}.json", settings | found)
        print(subject.name, plain(found["drift_per_ps"]))
    files = {name: out / f"constant_energy-{name}.json" for name in SUBJECTS}
    results = {name: read_json(file) for name, file in files.items() if file.exists()}
    save_small(draw(results), out / "constant_energy.png")
    write_page(out / "constant_energy.md", page(results))
    print(out / "constant_energy.md")


if __name__ == "__main__":
    typer.run(main)
