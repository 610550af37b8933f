"""The systems that the studies share: models, seeds of runs, reference MD."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer
from ase import Atoms

from trajcast_ase.data import ethanol, paracetamol, quartz, water
from trajcast_ase.distill.journal import JournalError
from trajcast_ase.trajectory import Frames

REFERENCE_MD = Path(__file__).parents[1] / "reference_md"
if str(REFERENCE_MD) not in sys.path:
    sys.path.insert(0, str(REFERENCE_MD))

import paracetamol as paracetamol_md  # noqa: E402
import quartz as quartz_md  # noqa: E402
import water as water_md  # noqa: E402
from protocol import Settings, record  # noqa: E402
from system import System  # noqa: E402

TEMPERATURE_K = 300.0
DATA = Path("data")
STUDIES = Path("docs/studies")


@dataclass(frozen=True, slots=True)
class Subject:
    """A system with its model.

    Attributes
    ----------
    name : str
    model : str
        Name of the bundled model.
    structure : callable
        Gives the bundled structure, without momenta.
    reference : callable
        Gives the system of ``benchmarks/reference_md``.
    taut_fs : float, fs
        Time constant of CSVR in the paper (Thiemann et al., arXiv:2503.23794, Methods),
        for systems that are not in it ten strides, as there.
    held_out : str
        Seeds of NVE runs that neither training nor selection of the model saw.
    diffusing : str
        Element whose diffusion is measured; empty for none.
    """

    name: str
    model: str
    structure: Callable[[], Atoms]
    reference: Callable[[], System]
    taut_fs: float
    held_out: str
    diffusing: str = ""


PARACETAMOL = Subject(
    "paracetamol",
    "paracetamol-7fs",
    paracetamol,
    paracetamol_md.paracetamol,
    70.0,
    "2-3",
)
QUARTZ = Subject("quartz", "quartz-30fs", quartz, quartz_md.quartz, 75.0, "5-6")
WATER = Subject("water", "water-5fs", water, water_md.water, 50.0, "5-6", "O")
SUBJECTS = {one.name: one for one in (PARACETAMOL, QUARTZ, WATER)}


def not_of_lammps() -> System:
    """Refuse studies that make MD with LAMMPS of a system that has none."""
    raise typer.BadParameter(
        "ethanol has no MD with LAMMPS; benchmarks/own_systems/reference.py makes its"
    )


ETHANOL = Subject("ethanol", "ethanol-gfn2", ethanol, not_of_lammps, 65.0, "")
WITH_OWN = {**SUBJECTS, "ethanol": ETHANOL}
"""With the shipped model that ``trajcast distill`` made, which is not in the paper."""

LARGER: dict[str, tuple[Subject, Callable[[], System]]] = {
    "quartz-1296": (QUARTZ, partial(quartz_md.quartz, 2)),
    "quartz-4374": (QUARTZ, partial(quartz_md.quartz, 3)),
    "water-1536": (WATER, partial(water_md.water, 2)),
}
"""Cells that no model was trained on, each with the small one of its model."""


def subject_of(name: str, among: Mapping[str, Subject] = SUBJECTS) -> Subject:
    """Return a system by its name, or refuse the option of the command line."""
    if name not in among:
        raise typer.BadParameter(f"no system {name!r}; choose of {', '.join(among)}")
    return among[name]


def nve_files(data: Path, name: str, seeds: list[int]) -> list[Path]:
    """Return the NVE runs of a system, or say how they are made."""
    paths = [data / name / f"nve-{seed}.h5" for seed in seeds]
    for path, seed in zip(paths, seeds, strict=True):
        if not path.exists():
            raise typer.BadParameter(
                f"there is no {path}; make it with python "
                f"benchmarks/reference_md/run.py {name} nve --seeds {seed} "
                f"--out {path.parent}"
            )
    return paths


def reference_nvt(
    system: System, seed: int, picoseconds: float, folder: Path, stride: float
) -> Path:
    """Return an NVT run of reference MD, which is made or continued if need be.

    Parameters
    ----------
    system : System
    seed : int
    picoseconds : float, ps
    folder : path
    stride : float, fs

    Raises
    ------
    typer.BadParameter
        The folder holds such a run of another length or stride.
    """
    settings = Settings("nvt", seed, picoseconds, stride, "canonical", system.damping)
    try:
        return record(system, settings, folder)
    except JournalError as error:
        raise typer.BadParameter(str(error)) from error


def atoms_of(frames: Frames, index: int = 0) -> Atoms:
    """Return the structure of one frame, without momenta."""
    atoms = Atoms(
        frames.atomic_numbers,
        positions=frames.positions[index],
        cell=frames.cell,
        pbc=frames.pbc,
    )
    atoms.set_masses(frames.masses)
    return atoms
