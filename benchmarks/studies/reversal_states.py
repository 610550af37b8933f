"""States for the ROC of going back: like the calibration, hotter, damaged, and ice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
import typer
from ase import Atoms

from trajcast_ase.guards.reversal import reversal_errors
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import state_from_atoms
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.training.reversal_fit import Missed
from trajcast_ase.trajectory import Frames, read_frames
from trajcast_ase.units import FS

RUNS = {
    "paracetamol": "nvt-11.h5",
    "quartz": "nvt-11.h5",
    "water": "nvt-1.h5",
}
"""Canonical runs at 300 K: the first half to calibrate, the second to be told apart."""
HOTTER_K = (400, 600, 1000)
LONGER_A = (0.1, 0.2, 0.3, 0.5)
ICE_DENSITY = 0.92
"""g/cm³, of ice Ic at zero pressure."""
ATOMS_OF_A_BATCH = 2000
OXYGEN_HYDROGEN_A = 1.03


def run_of(data: Path, name: str) -> Frames:
    """Return the canonical run at 300 K, or say how it is made."""
    path = data / name / RUNS[name]
    if not path.exists():
        seed = path.stem.split("-")[1]
        raise typer.BadParameter(
            f"there is no {path}; make it with python benchmarks/reference_md/run.py "
            f"{name} nvt --seeds {seed} --out {path.parent}"
        )
    return read_frames(path)


def hot_run(folder: Path, name: str, kelvin: int) -> Frames:
    """Return a run at another temperature, or say how it is made."""
    path = folder / f"{name}-{kelvin}" / "nvt-21.h5"
    if not path.exists():
        raise typer.BadParameter(
            f"there is no {path}; make it with python benchmarks/reference_md/run.py "
            f"{name} nvt --seeds 21 --temperature {kelvin} --thermalize 8 --length 12 "
            f"--out {path.parent} (it says that values are off: those of 300 K)"
        )
    return read_frames(path)


def spread(frames: Frames, number: int, start: float, stop: float) -> list[Atoms]:
    """Return frames, evenly spaced, between two fractions of a run."""
    first, last = (round(part * (frames.n_frames - 1)) for part in (start, stop))
    chosen = np.unique(np.linspace(first, last, number).round().astype(int))
    return [_moving(frames, int(index)) for index in chosen]


def _moving(frames: Frames, index: int) -> Atoms:
    """Return a frame with its velocities."""
    atoms = frames.atoms(index)
    atoms.set_momenta(frames.velocities[index] * frames.masses[:, None] / FS)
    return atoms


def missed_from(model: ForecastModel, systems: list[Atoms]) -> Missed:
    """Return what going forward and back misses, of states of any size."""
    rows, numbers, sizes = [], [], []
    left = iter(systems)
    while batch := list(islice(left, max(1, ATOMS_OF_A_BATCH // len(systems[0])))):
        state = state_from_atoms(batch, model.device)
        with torch.no_grad():
            errors = reversal_errors(model, state, stride(model, state))
        rows.append(torch.stack([errors.positions, errors.velocities]).cpu().numpy())
        numbers.append(state.atomic_numbers.cpu().numpy())
        sizes += state.sizes()
    positions, velocities = np.concatenate(rows, axis=1)
    return Missed(np.concatenate(numbers), positions, velocities, np.array(sizes))


def stretched(systems: list[Atoms], by: float, rng: np.random.Generator) -> list[Atoms]:
    """Return systems with one bond of one atom, to its nearest neighbour, longer."""
    return [
        _stretched(atoms.copy(), by, int(rng.integers(len(atoms)))) for atoms in systems
    ]


def _stretched(atoms: Atoms, by: float, index: int) -> Atoms:
    periodic = bool(atoms.pbc.any())
    distances = atoms.get_distances(index, range(len(atoms)), mic=periodic)
    distances[index] = np.inf
    partner = int(distances.argmin())
    along = atoms.get_distance(partner, index, mic=periodic, vector=True)
    atoms.positions[index] += by * along / np.linalg.norm(along)
    return atoms


def without_hydrogen(systems: list[Atoms], rng: np.random.Generator) -> list[Atoms]:
    """Return systems with one hydrogen taken out."""
    return [_without_one(atoms.copy(), rng) for atoms in systems]


def _without_one(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    del atoms[int(rng.choice(np.flatnonzero(atoms.numbers == 1)))]
    return atoms


def ice(rng: np.random.Generator, kelvin: float) -> Atoms:
    """Return 64 molecules of proton-ordered ice Ic, drawn about its lattice.

    The oxygens of diamond, 2x2x2 cells of eight; along each bond one hydrogen, that of
    the end on one of the two sublattices for two of the four directions. Displacements
    are normal, 0.05 Å of molecules as a whole and 0.02 Å of each hydrogen.
    """
    edge = (8 * 18.015 * 1.66053906660 / ICE_DENSITY) ** (1.0 / 3.0)
    corners = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) / 4
    directions = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
    cells = np.array(list(product(range(2), repeat=3)))
    positions = []
    for cell in cells:
        for corner in corners:
            for shift, sign, kept in ((0.0, 1.0, (0, 1)), (0.25, -1.0, (2, 3))):
                place = (cell + corner + shift) * edge + rng.normal(0, 0.05, 3)
                positions.append(place)
                for k in kept:
                    arm = sign * OXYGEN_HYDROGEN_A * directions[k]
                    positions.append(place + arm + rng.normal(0, 0.02, 3))
    atoms = Atoms("OHH" * 64, positions, cell=[2 * edge] * 3, pbc=True)
    draw_momenta(atoms, kelvin, rng)
    return atoms


Make = Callable[[int], list[Atoms]]


def unlike(
    name: str, frames: Frames, hot: Path, rng: np.random.Generator
) -> Iterator[tuple[str, Make]]:
    """Yield what a model of 300 K does not know, and how many of it are made."""
    for kelvin in HOTTER_K:
        yield (
            f"{kelvin} K",
            lambda n, kelvin=kelvin: spread(hot_run(hot, name, kelvin), n, 0.0, 1.0),
        )
    for by in LONGER_A:
        yield (
            f"one bond {by:g} Å longer",
            lambda n, by=by: stretched(spread(frames, n, 0.5, 1.0), by, rng),
        )
    if name != "quartz":
        yield (
            "a hydrogen missing",
            lambda n: without_hydrogen(spread(frames, n, 0.5, 1.0), rng),
        )
    if name == "water":
        yield "ice at 300 K", lambda n: [ice(rng, 300.0) for _ in range(n)]
        yield "ice at 200 K", lambda n: [ice(rng, 200.0) for _ in range(n)]
