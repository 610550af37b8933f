"""What a user asks of distill, checked, and by which a later command is recognized."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from trajcast_ase.analysis.bonds import bonded_pairs
from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.distill.start import Start
from trajcast_ase.distill.workers import cores

UNITS_S = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")
_RANGE = re.compile(r"\s*[\d.]+\s*-\s*[\d.]+\s*")
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
    temperatures_K : tuple of float, K
        One, or both ends of a range with its middle; empty where it is not known.
    budget_s : float, s
    processes : int
        That make reference MD, or try networks, at once.
    seed : int
    fixed : Fixed
    start : Start or None
        Whose weights the training goes on from.
    """

    out: Path
    atoms: Atoms | None = None
    calculator: CalculatorSpec | None = None
    trajectories: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    temperatures_K: tuple[float, ...] = ()
    budget_s: float = DEFAULT_BUDGET_S
    processes: int = 1
    seed: int = 0
    fixed: Fixed = field(default_factory=Fixed)
    start: Start | None = None

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
        _check_temperatures(self)
        if self.start is not None:
            _check_start(self.start, self)
        if self.references and not self.trajectories:
            raise ValueError(
                "--reference belongs to --trajectories; from a structure distill makes "
                "its own"
            )
        if not 1 <= self.processes <= cores():
            raise ValueError(
                f"processes = {self.processes} must lie between 1 and the "
                f"{cores()} cores that this process may use; each makes MD on one"
            )

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
            "temperatures_K": list(self.temperatures_K),
            "seed": self.seed,
            "init": None if self.start is None else self.start.header.sha256,
            **asdict(self.fixed),
        }


def _check_temperatures(request: Request) -> None:
    kelvins = request.temperatures_K
    if any(not 0 < one < math.inf for one in kelvins):
        raise ValueError(
            f"--temperature {shown_range(kelvins)} must be positive and finite"
        )
    if len(kelvins) > 1 and request.trajectories:
        raise ValueError(
            f"--temperature {shown_range(kelvins)}: a range belongs to a structure, "
            "for which distill makes MD at each; give runs of one temperature"
        )


def _check_start(start: Start, request: Request) -> None:
    """Refuse a model of other elements, and options that it decides."""
    fixed = request.fixed
    decided = {
        "--horizon": fixed.horizon_fs,
        "--cutoff": fixed.cutoff_A,
        "--channels": fixed.n_channels,
        "--layers": fixed.n_layers,
    }
    given = [name for name, value in decided.items() if value is not None]
    if given:
        raise ValueError(
            f"{given[0]} and --init: horizon and network are those of {start.given}; "
            "leave one of the two out"
        )
    if fixed.timestep_fs is not None:
        step_fs, _ = start.grid(fixed.timestep_fs, 1)
        if abs(step_fs - fixed.timestep_fs) > 1e-6 * step_fs:
            raise ValueError(
                f"--timestep {fixed.timestep_fs:g} does not divide the horizon of "
                f"--init {start.given}, {start.header.horizon_fs:g} fs; give "
                f"{step_fs:.6g}, or leave it out"
            )
    if request.atoms is not None:
        start.check_elements(request.atoms.numbers.tolist())


def _check_structure(request: Request) -> None:
    atoms = request.atoms
    assert atoms is not None  # noqa: S101  checked by the caller
    if request.calculator is None:
        raise ValueError(
            "a structure needs --calculator, such as emt or tblite:GFN2-xTB"
        )
    if not request.temperatures_K:
        raise ValueError("a structure needs --temperature, in K")
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
    check_bonds(atoms, "the structure")


def check_bonds(atoms: Atoms, name: str) -> None:
    """Refuse at once a cell that the report of the last stage could not judge.

    Raises
    ------
    ValueError
    """
    try:
        bonded_pairs(atoms)
    except ValueError as error:
        raise ValueError(
            f"{name} is too small for a report, which compares bonds: {error}"
        ) from error


def _may_be_crystal(atoms: Atoms) -> bool:
    """Return whether a cell is given that nothing repeats."""
    return bool(abs(atoms.cell.volume) > 1e-6)  # noqa: PLR2004


def structure_hash(atoms: Atoms) -> str:
    """Return a SHA-256 of all that a calculator may look at.

    Elements, masses, positions, cell, and where there are some, initial charges and
    magnetic moments, and single values of ``info`` such as a total charge.
    """
    digest = hashlib.sha256()
    for array in (
        atoms.numbers,
        atoms.get_masses(),
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    for name in ("initial_charges", "initial_magmoms"):
        if atoms.has(name) and atoms.arrays[name].any():
            values = np.asarray(atoms.arrays[name], dtype=np.float64)
            digest.update(f"{name}{values.shape}".encode() + values.tobytes())
    for line in sorted(
        f"{key} = {value.item() if isinstance(value, np.generic) else value!r}\n"
        for key, value in atoms.info.items()
        if isinstance(value, bool | int | float | str | np.generic)
    ):
        digest.update(line.encode())
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


def parse_temperature(text: str) -> tuple[float, ...]:
    """Return the temperatures of a text: one, or a range's ends and middle, K.

    Raises
    ------
    ValueError
        It is no number, and no range such as ``280-350``.
    """
    parts = text.split("-") if _RANGE.fullmatch(text) else [text]
    try:
        return spread_temperatures([float(part) for part in parts])
    except ValueError as error:
        raise ValueError(
            f"--temperature {text!r} is no number of K and no range that ascends; "
            "write for example 300 or 280-350"
        ) from error


def spread_temperatures(kelvins: Sequence[float]) -> tuple[float, ...]:
    """Return one temperature, or both ends and the middle of a range, K.

    Raises
    ------
    ValueError
        Neither one nor two, or two that do not ascend.
    """
    if len(kelvins) == 1:
        return (float(kelvins[0]),)
    low, high = kelvins
    if not low < high:
        raise ValueError(f"the range {low:g}-{high:g} K does not ascend")
    return float(low), round(0.5 * (low + high), 3), float(high)


def shown_range(kelvins: Sequence[float]) -> str:
    """Return one temperature, or both ends of a range, as a user writes them."""
    if len(kelvins) == 1:
        return f"{kelvins[0]:g}"
    return f"{kelvins[0]:g}-{kelvins[-1]:g}"
