"""What a user asks of distill, checked, and by which a later command is recognized."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from trajcast_ase.distill.calculators import CalculatorSpec

UNITS_S = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")
DEFAULT_BUDGET_S = 7200.0


@dataclass(frozen=True, slots=True)
class Fixed:
    """Choices that the user made; None leaves a choice to measurement.

    Attributes
    ----------
    timestep_fs : float or None, fs
        Of the reference MD.
    horizon_fs : float or None, fs
        Rounded to whole frames of the reference MD.
    cutoff_A : float or None, Å
    n_channels, n_layers : int or None
    langevin_fs : float or None, fs
        Time constant of the bath of the model.
    """

    timestep_fs: float | None = None
    horizon_fs: float | None = None
    cutoff_A: float | None = None
    n_channels: int | None = None
    n_layers: int | None = None
    langevin_fs: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} = {value} must be positive and finite")


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that was asked for.

    Attributes
    ----------
    out : Path
        Folder of all files.
    atoms : Atoms or None
        The structure; None with trajectories.
    calculator : CalculatorSpec or None
    trajectories, references : tuple of str
        Files of NVE runs, and of canonical runs that the report is held against.
    temperature_K : float or None, K
    budget_s : float, s
    processes : int
        That make reference MD at once.
    seed : int
    fixed : Fixed
    """

    out: Path
    atoms: Atoms | None = None
    calculator: CalculatorSpec | None = None
    trajectories: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    temperature_K: float | None = None
    budget_s: float = DEFAULT_BUDGET_S
    processes: int = 1
    seed: int = 0
    fixed: Fixed = field(default_factory=Fixed)

    def __post_init__(self) -> None:
        if (self.atoms is None) == (not self.trajectories):
            raise ValueError(
                "give either a structure with --calculator, or --trajectories"
            )
        if self.atoms is not None:
            _check_structure(self)
        elif self.calculator is not None:
            raise ValueError(
                "--calculator makes reference MD from a structure; with --trajectories "
                "there is none to make, so leave it out"
            )
        if self.references and not self.trajectories:
            raise ValueError(
                "--reference belongs to --trajectories; from a structure distill makes "
                "its own"
            )
        if self.processes < 1:
            raise ValueError(f"processes = {self.processes} must be at least 1")

    def identity(self) -> dict[str, Any]:
        """Return what a later command must share with the one that it continues.

        Budget and processes may change.
        """
        atoms, calculator = self.atoms, self.calculator
        return {
            "structure": None if atoms is None else structure_hash(atoms),
            "calculator": None if calculator is None else calculator.name,
            "trajectories": list(self.trajectories),
            "reference": list(self.references),
            "temperature_K": self.temperature_K,
            "seed": self.seed,
            **asdict(self.fixed),
        }


def _check_structure(request: Request) -> None:
    atoms = request.atoms
    assert atoms is not None  # noqa: S101  checked by the caller
    if request.calculator is None:
        raise ValueError(
            "a structure needs --calculator, such as emt or tblite:GFN2-xTB"
        )
    if request.temperature_K is None:
        raise ValueError("a structure needs --temperature, in K")
    if not 0 < request.temperature_K < math.inf:
        raise ValueError(
            f"--temperature {request.temperature_K:g} must be positive and finite"
        )
    if len(atoms) < 2:  # noqa: PLR2004
        raise ValueError("the structure has fewer than two atoms: nothing moves")
    if atoms.constraints:
        raise ValueError(
            "the structure has constraints, which distill does not learn; remove them "
            "(del atoms.constraints)"
        )
    if atoms.pbc.any() and abs(atoms.cell.volume) < 1e-6:  # noqa: PLR2004
        raise ValueError(
            "the structure is periodic but has no cell; set the cell of the crystal or "
            "liquid, or pbc to False for a molecule"
        )
    if not atoms.pbc.any() and _may_be_crystal(atoms):
        raise ValueError(
            f"{atoms.symbols} has a cell but no periodic axis; set pbc to True, or "
            "remove the cell"
        )


def _may_be_crystal(atoms: Atoms) -> bool:
    """Return whether a cell is given that nothing repeats."""
    return bool(abs(atoms.cell.volume) > 1e-6)  # noqa: PLR2004


def structure_hash(atoms: Atoms) -> str:
    """Return a SHA-256 of elements, masses, positions and cell."""
    digest = hashlib.sha256()
    for array in (
        atoms.numbers,
        atoms.get_masses(),
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def parse_budget(text: str) -> float:
    """Return the seconds of a budget such as ``2h``, ``90min`` or ``1h 30min``.

    Raises
    ------
    ValueError
        It is none.
    """
    parts = _BUDGET.findall(text)
    rest = _BUDGET.sub("", text).strip()
    seconds = sum(float(value) * UNITS_S[unit] for value, unit in parts)
    if rest or seconds <= 0:
        raise ValueError(
            f"--budget {text!r} is no time; write for example 2h, 90min or 1h 30min"
        )
    return seconds


def parse_temperature(text: str) -> float:
    """Return a temperature, K.

    Raises
    ------
    ValueError
        It is no number, or a range.
    """
    if re.fullmatch(r"\s*[\d.]+\s*-\s*[\d.]+\s*", text):
        raise ValueError(
            f"--temperature {text}: a range of temperatures is not supported; give one "
            "temperature, and distill a model for each"
        )
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(
            f"--temperature {text!r} is no number of K; write for example 300"
        ) from error


def shown(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    if seconds < 5400:  # noqa: PLR2004
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
