"""Measure what energy a stride gives to bonds, molecules and elements.

    python benchmarks/training/energy_gains.py water-5fs data/water/nve-5.h5

For pairs of a held-out run, the mean square of a forecast quantity over that of MD,
less one, in parts in a thousand: of the velocities of each element and of molecules'
centres, of the rates of bonds of each kind, and of their lengths about the mean. In a
harmonic motion the rate tells the gain of kinetic, the length that of potential energy.

A forecast that is exact but for noise gains the square of its relative error, one that
is the mean of what it cannot know loses as much. A bath takes ``stride / time
constant`` of the difference to its temperature in a stride, so that a motion that gains
``g`` is at ``T / (1 - g time constant / stride)``: with strides of 5 fs and a bath of
2 ps 1.3 parts in a thousand are a factor of two. What CSVR takes out, it takes from all
motions.

Prints a Markdown table. Minutes at most: one forecast for each pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from ase.data import chemical_symbols
from ase.geometry import find_mic

from trajcast_ase import load_model
from trajcast_ase.analysis.bonds import bond_kinds, bonded_pairs
from trajcast_ase.analysis.molecules import find_molecules
from trajcast_ase.network import Forecaster
from trajcast_ase.stride import conserved_forecast
from trajcast_ase.training.data import load_pairs
from trajcast_ase.training.dataset import Batch, PairDataset
from trajcast_ase.trajectory import Frames

Sample = tuple[str, np.ndarray, np.ndarray]
"""Name of a quantity, its values in MD, and as forecast."""


class Groups:
    """Bonds and molecules of the first frame."""

    def __init__(self, pairs: PairDataset) -> None:
        frames = pairs.parts[0].frames
        bonds = bonded_pairs(frames.atoms(0))
        kinds = bond_kinds(bonds, frames.atomic_numbers)
        self.bonds = {name: bonds[rows] for name, rows in kinds.items()}
        self.masses, self.numbers = frames.masses, frames.atomic_numbers
        self.cell, self.pbc = frames.cell, frames.pbc
        self.molecule_of = _molecules(frames)

    def samples(
        self, batch: Batch, moved: np.ndarray, later: np.ndarray
    ) -> Iterator[Sample]:
        """Yield the quantities of one pair, with the forecast `moved` and `later`."""
        true = batch.velocities.numpy()
        for number in np.unique(self.numbers):
            rows = self.numbers == number
            yield f"v of {chemical_symbols[number]}", true[rows], later[rows]
        if self.molecule_of is not None:
            yield "v of molecules", self._centres(true), self._centres(later)
        start = batch.state.positions.numpy()
        ends = start + batch.displacements.numpy(), start + moved
        for kind, bonds in self.bonds.items():
            (length, rate), (length_, rate_) = (
                self._stretch(end, v, bonds)
                for end, v in zip(ends, (true, later), strict=True)
            )
            yield f"rate of {kind}", rate, rate_
            yield f"length of {kind}", length, length_

    def _stretch(
        self, positions: np.ndarray, velocities: np.ndarray, bonds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        one, other = bonds.T
        vectors, lengths = find_mic(
            positions[other] - positions[one], self.cell, self.pbc
        )
        relative = velocities[other] - velocities[one]
        return lengths, (relative * vectors).sum(axis=1) / lengths

    def _centres(self, velocities: np.ndarray) -> np.ndarray:
        assert self.molecule_of is not None  # noqa: S101  for the type checker
        weights = np.bincount(self.molecule_of, self.masses)[:, None]
        sums = np.zeros((len(weights), 3))
        np.add.at(sums, self.molecule_of, self.masses[:, None] * velocities)
        return sums / weights


def _molecules(frames: Frames) -> np.ndarray | None:
    """Return the molecule of each atom, None where there is one or a network."""
    try:
        found = find_molecules(
            frames.positions[0],
            frames.atomic_numbers,
            cell=frames.cell,
            pbc=frames.pbc,
        )
    except ValueError:  # bonds without end
        return None
    if len(found.members) == 1:
        return None
    molecule_of = np.empty(len(frames.masses), dtype=np.int64)
    for molecule, members in enumerate(found.members):
        molecule_of[members] = molecule
    return molecule_of


def gains(
    model: Forecaster, pairs: PairDataset, count: int
) -> dict[str, tuple[float, float, float]]:
    """Return squared relative error, gain and its standard error of each quantity."""
    groups = Groups(pairs)
    chosen = np.linspace(0, len(pairs) - 1, count).round().astype(int)
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for index in chosen:
        batch = pairs.batch(np.array([index]))
        with torch.no_grad():
            moved, later = conserved_forecast(model, batch.state)
        for name, true, found in groups.samples(batch, moved.numpy(), later.numpy()):
            rows.setdefault(name, []).append((true, found))
    return {name: _gain(values, name) for name, values in rows.items()}


def _gain(
    values: list[tuple[np.ndarray, np.ndarray]], name: str
) -> tuple[float, float, float]:
    true, found = (np.stack([pair[k] for pair in values]) for k in (0, 1))
    if name.startswith("length"):
        true, found = true - true.mean(), found - true.mean()
    axes = tuple(range(1, true.ndim))
    scale = float((true**2).mean())
    each = ((found**2).mean(axis=axes) - (true**2).mean(axis=axes)) / scale
    error = float(((found - true) ** 2).mean()) / scale
    return error, float(each.mean()), float(each.std() / np.sqrt(len(each) - 1))


def main(
    model: Annotated[str, typer.Argument(help="Bundled name or path of a model.")],
    run: Annotated[Path, typer.Argument(help="Held-out NVE run.")],
    pairs: Annotated[int, typer.Option(min=10, help="Forecasts.")] = 400,
) -> None:
    """Print what one stride adds to the energy of each kind of motion."""
    network = load_model(model)
    data = PairDataset(load_pairs((str(run),), network.horizon_fs))
    print("| 10⁻³ | squared error | gain in a stride |")
    print("| --- | ---: | ---: |")
    for name, (error, gain, spread) in gains(network, data, pairs).items():
        print(
            f"| {name} | {1e3 * error:.3f} | {1e3 * gain:+.2f} ± {1e3 * spread:.2f} |"
        )


if __name__ == "__main__":
    typer.run(main)
