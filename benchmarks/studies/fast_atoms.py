"""What one atom does that is faster than any of the training data.

    python benchmarks/studies/fast_atoms.py paracetamol quartz water --data data

In states of canonical MD one atom is given a multiple of its element's rms speed, and
one stride of the model is held against MD with forces: as the model is, where a faster
atom enters as one of the largest speed of the training data, and without that limit.
Writes ``docs/studies/fast_atoms.md``. A minute on one core; needs LAMMPS.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from ase import Atoms, units
from ase.data import chemical_symbols
from jaxtyping import Float
from reversal_states import run_of
from study_pages import describe_machine, machine, table, write_page
from study_systems import DATA, STUDIES, Subject, atoms_of, subject_of

from trajcast_ase import TrajCast, load_model
from trajcast_ase.network import Forecaster

# isort: split
# After study_systems, which puts the folder of this module on the path.
from engine import Engine

MULTIPLES = (2.0, 3.0, 3.5, 4.0, 5.0)
"""Of the rms speed of the element."""
ABOUT = """# Atoms faster than any of the training data

In thermal equilibrium one atom in seven million is faster than 3.4 times the rms speed
of its element, so that a run of some nanoseconds meets a speed that the training never
saw. There the products of a network, which multiply features of one layer after the
other, grow without bounds. Model files therefore state the largest speed of each
element in the training data, and a faster atom enters as one of this speed.

Here one atom has a multiple of the rms speed, in a random direction, in states of
canonical MD. Numbers are the error of the velocity after one stride, beside MD with
forces: of the atom that is most wrong, in units of its element's rms speed; medians of
{states} states. Written by `benchmarks/studies/fast_atoms.py`; {machine}."""


def unlimited(model: Forecaster) -> Forecaster:
    """Return the same network without limits of speeds."""
    free = Forecaster(dataclasses.replace(model.config, largest_speeds=()))
    free.load_state_dict(model.state_dict())
    return free.to(model.dtype)


def with_speed(
    atoms: Atoms, atom: int, speed: float, rng: np.random.Generator
) -> Float[np.ndarray, "atoms 3"]:
    """Return velocities, Å/fs, one of them of this speed; the mean does not move."""
    velocities = atoms.get_velocities() * units.fs
    direction = rng.normal(size=3)
    velocities[atom] = speed * direction / np.linalg.norm(direction)
    masses = atoms.get_masses()
    velocities -= masses @ velocities / masses.sum()
    return np.asarray(velocities)


def velocities_after(
    atoms: Atoms, velocities: Float[np.ndarray, "atoms 3"], model: Forecaster
) -> Float[np.ndarray, "atoms 3"]:
    """Return the velocities that a model forecasts, Å/fs."""
    copy = atoms.copy()
    copy.set_velocities(velocities / units.fs)
    TrajCast(copy, model, thermostat=None, guards=[]).run(1)
    return np.asarray(copy.get_velocities()) * units.fs


def errors_of(
    subject: Subject, starts: list[Atoms], number: int, models: list[Forecaster]
) -> Float[np.ndarray, "multiples models"]:
    """Return the median error of each model with one fast atom of an element."""
    system, rng = subject.reference(), np.random.default_rng(number)
    scales = models[0].thermal_speeds(torch.as_tensor(starts[0].numbers)).numpy()
    steps = round(models[0].horizon_fs / system.timestep)
    mine = float(scales[starts[0].numbers == number][0])
    errors = np.zeros((len(MULTIPLES), len(models), len(starts)))
    with Engine(system) as engine:
        engine.commands("fix integrate all nve")
        for k, multiple in enumerate(MULTIPLES):
            for s, atoms in enumerate(starts):
                atom = int(rng.choice(np.flatnonzero(atoms.numbers == number)))
                velocities = with_speed(atoms, atom, multiple * mine, rng)
                engine.set_state(atoms.positions, velocities)
                engine.start()
                true = engine.advance(steps).velocities
                for m, model in enumerate(models):
                    wrong = velocities_after(atoms, velocities, model) - true
                    errors[k, m, s] = (np.linalg.norm(wrong, axis=1) / scales).max()
    return np.asarray(np.median(errors, axis=2))


def rows_of(subject: Subject, data: Path, states: int) -> list[list[str]]:
    """Return the rows of a system: each element, with and without limits."""
    model = load_model(subject.model)
    models = [model, unlimited(model)]
    frames = run_of(data, subject.name)
    starts = []
    for index in np.linspace(frames.n_frames // 2, frames.n_frames - 1, states):
        atoms = atoms_of(frames, int(index))
        atoms.set_velocities(frames.velocities[int(index)] / units.fs)
        starts.append(atoms)
    rows = []
    for number, scale, largest in zip(
        model.config.elements,
        model.config.velocity_scales,
        model.config.largest_speeds,
        strict=True,
    ):
        found = errors_of(subject, starts, number, models)
        symbol = chemical_symbols[number]
        for m, kind in enumerate((f"largest {largest / scale:.2f}", "no limit")):
            name = f"{subject.model}, {symbol}, {kind}"
            rows.append([name, *(f"{error:.2g}" for error in found[:, m])])
            print(rows[-1], flush=True)
    return rows


def main(
    systems: Annotated[list[str], typer.Argument(help="paracetamol, quartz, water.")],
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nvt-SEED.h5.")] = DATA,
    states: Annotated[int, typer.Option(min=1, help="Of each system.")] = 11,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Hold strides with one fast atom against MD with forces."""
    torch.set_num_threads(1)
    rows = [row for name in systems for row in rows_of(subject_of(name), data, states)]
    header = ["one atom at ... times the rms speed", *(f"{m:g}" for m in MULTIPLES)]
    about = ABOUT.format(states=states, machine=describe_machine(machine()))
    write_page(out / "fast_atoms.md", [about, table(header, rows)])
    print(out / "fast_atoms.md")


if __name__ == "__main__":
    typer.run(main)
