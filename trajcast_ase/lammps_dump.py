"""Text dumps of LAMMPS: every line checked, then read by ASE.

ASE's reader looks for the next ``ITEM: TIMESTEP`` and so leaves out damaged frames
without a word; it takes types for atomic numbers and any dump for one in metal units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from ase import Atoms
from ase.calculators.lammps import convert
from ase.data import atomic_numbers
from ase.io import iread
from jaxtyping import Float

from trajcast_ase.compressed import open_text
from trajcast_ase.units import FS

DUMP_FORMAT = "lammps-dump-text"
BOX_LINES = 3
POSITIONS = ("x", "xs", "xu", "xsu")
"""Columns in the order in which ASE takes them; an s stands for shares of the box."""
MASS_DIGITS = 6
"""In amu: that of ASE and g/mol differ by the constants of different years."""

LammpsUnits = Literal["real", "metal", "si", "cgs", "electron"]
UNIT_STYLES: tuple[str, ...] = get_args(LammpsUnits)


class DumpError(ValueError):
    """A LAMMPS dump that is damaged, or that leaves out what must be known."""


@dataclass(frozen=True, slots=True)
class DumpedFrames:
    """Frames of a dump in the order of the atoms' ids.

    Attributes
    ----------
    images : list of Atoms
    time_fs : (n_frames,), fs, or None
        Where the dump states it.
    """

    images: list[Atoms]
    time_fs: Float[np.ndarray, " frames"] | None


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands above the atoms of one frame."""

    units: str | None
    time: float | None
    step: int
    n_atoms: int


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the lines of the atoms of one frame say beside their motion.

    Attributes
    ----------
    ids : list of int
        Ascending.
    masses : list of float, or None
        In the order of the ids, in the units of the dump; None without such a column.
    scaled : bool
        Whether positions are shares of the box.
    """

    ids: list[int]
    masses: list[float] | None
    scaled: bool


class _Lines:
    """The lines of a file, with the number of the last one read."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.number = 0

    def next(self) -> str:
        """Return the next line without its end; None of them is empty."""
        self.number += 1
        line = next(self._lines, None)
        if line is None or not line.endswith("\n"):
            raise DumpError(
                f"the dump ends within a frame, at line {self.number}; cut the frame"
            )
        return line.rstrip("\n")

    def several(self, count: int) -> list[str]:
        """Return the next `count` lines."""
        found = list(islice(self._lines, count))
        self.number += len(found)
        if len(found) < count or not found[-1].endswith("\n"):
            raise DumpError(
                f"the dump ends within a frame, at line {self.number}; cut the frame"
            )
        return found

    def item(self, name: str, line: str) -> None:
        """Refuse `line` where ``ITEM: name`` has to stand."""
        if line.strip() != f"ITEM: {name}":
            raise DumpError(
                f"line {self.number} is {line[:60]!r} instead of 'ITEM: {name}'; cut "
                "the damaged frame"
            )

    def ended(self) -> str | None:
        """Return the next line, or None at the end of the file."""
        line = next(self._lines, None)
        self.number += 1
        return None if line is None else line.rstrip("\n")


def read_dump(path: Path, units: str | None) -> DumpedFrames:
    """Return the frames of a text dump.

    Parameters
    ----------
    path : Path
    units : str, optional
        Unit style of the LAMMPS input, where the dump does not state it.

    Raises
    ------
    DumpError
        Damaged lines, unknown units, atoms without ids or elements, other atoms or
        masses in another frame, or steps at uneven distances.
    """
    headers, columns = _scan(path)
    style = _unit_style(headers, units)
    images: list[Atoms] = list(
        iread(
            path,
            ":",
            format=DUMP_FORMAT,
            do_not_split_by_at_sign=True,
            units=style,
        )
    )
    found = [len(image) for image in images]
    if found != [header.n_atoms for header in headers]:
        raise DumpError("ASE reads other numbers of atoms than the dump states")
    if columns.scaled:  # of a box whose open sides may move; ASE leaves its origin out
        for image in images:
            image.positions += image.get_celldisp().ravel()
    if columns.masses is not None:
        masses = convert(np.array(columns.masses), "mass", style, "ASE")
        _set_masses(images, np.round(masses, MASS_DIGITS))
    _check_steps([header.step for header in headers])
    times = [header.time for header in headers if header.time is not None]
    if len(times) < len(headers):
        return DumpedFrames(images, None)
    in_ase_units = convert(np.array(times), "time", style, "ASE")
    return DumpedFrames(images, np.asarray(in_ase_units / FS))


def _set_masses(images: Iterable[Atoms], masses: Float[np.ndarray, " atoms"]) -> None:
    """Give the masses of the dump, amu, to frames that have their elements'."""
    for image in images:
        velocities = image.get_velocities() if image.has("momenta") else None
        image.set_masses(masses)
        if velocities is not None:
            image.set_velocities(velocities)


def _scan(path: Path) -> tuple[list[_Header], _Columns]:
    """Return the headers of all frames, and their columns, by a look at every line."""
    headers: list[_Header] = []
    atoms: _Columns | None = None
    with open_text(path, encoding="ascii") as file:
        lines = _Lines(file)
        while (line := lines.ended()) is not None:
            header = _header(lines, line, first=not headers)
            columns = _columns(lines, header)
            if atoms is not None and columns != atoms:
                same_ids = columns.ids == atoms.ids
                what = "masses or columns" if same_ids else "atom ids"
                raise DumpError(
                    f"the frame that ends at line {lines.number} has other {what} "
                    "than the first; dump one group of atoms that stay"
                )
            atoms = columns
            headers.append(header)
    if atoms is None:
        raise DumpError("the dump is empty; write it during the MD")
    return headers, atoms


def _header(lines: _Lines, line: str, *, first: bool) -> _Header:
    """Return the header that begins with `line`."""
    units, time = None, None
    if first and line == "ITEM: UNITS":
        units, line = lines.next().strip(), lines.next()
    if line == "ITEM: TIME":
        time, line = float(lines.next()), lines.next()
    lines.item("TIMESTEP", line)
    step = int(lines.next())
    lines.item("NUMBER OF ATOMS", lines.next())
    n_atoms = int(lines.next())
    box = lines.next()
    if not box.startswith("ITEM: BOX BOUNDS ") or n_atoms < 1:
        raise DumpError(f"line {lines.number} is {box[:60]!r} and tells no box")
    widths = {len(line.split()) for line in lines.several(BOX_LINES)}
    # Two bounds; and a tilt; or vectors and origin of a general triclinic box.
    if len(widths) > 1 or not widths <= {2, 3, 4}:
        raise DumpError(f"the box above line {lines.number} is damaged; cut the frame")
    return _Header(units, time, step, n_atoms)


def _columns(lines: _Lines, header: _Header) -> _Columns:
    """Return the ids and masses of the atoms of one frame."""
    title = lines.next()
    if not title.startswith("ITEM: ATOMS "):
        raise DumpError(f"line {lines.number} is {title[:60]!r} instead of ITEM: ATOMS")
    columns = title.split()[2:]
    for needed, way in (
        ("id", "without ids the order of the atoms is not known"),
        ("element", "types are no elements: 'dump_modify ... element O H' names them"),
    ):
        if columns.count(needed) != 1:
            raise DumpError(f"the dump has no column {needed!r}; {way}")
    if len(set(columns)) < len(columns):
        raise DumpError(f"line {lines.number} names a column twice")
    place = columns.index("id")
    rows = [line.split() for line in lines.several(header.n_atoms)]
    if any(len(row) != len(columns) for row in rows):
        raise DumpError(
            f"an atom above line {lines.number} has not {len(columns)} columns; cut "
            "the damaged frame"
        )
    rows.sort(key=lambda row: int(row[place]))
    ids = [int(row[place]) for row in rows]
    if len(set(ids)) < len(ids):
        raise DumpError(
            f"an atom id stands twice in the frame that ends at line {lines.number}"
        )
    named = columns.index("element")
    unknown = {row[named] for row in rows}.difference(atomic_numbers)
    if unknown:
        raise DumpError(
            f"{min(unknown)!r} above line {lines.number} is no element; name it in "
            "'dump_modify ... element' (isotopes by their element, with a column "
            "'mass')"
        )
    masses = None
    if "mass" in columns:
        weight = columns.index("mass")
        masses = [float(row[weight]) for row in rows]
    read = next((name for name in POSITIONS if name in columns), "")
    return _Columns(ids, masses, scaled="s" in read)


def _unit_style(headers: list[_Header], given: str | None) -> str:
    """Return the unit style, stated or given."""
    stated = headers[0].units if headers else None
    if stated is not None and given not in (None, stated):
        raise DumpError(
            f"the dump states units {stated!r}, but {given!r} was given; drop the "
            "latter"
        )
    style = stated if stated is not None else given
    if style is None:
        raise DumpError(
            "the dump does not state its units; give the unit style of the LAMMPS "
            "input (lammps_units = 'real', --lammps-units real), or write it with "
            "'dump_modify ... units yes'"
        )
    if style not in UNIT_STYLES:
        raise DumpError(
            f"units {style!r} are not read; convert the dump to one of "
            f"{', '.join(UNIT_STYLES)}"
        )
    return style


def _check_steps(steps: list[int]) -> None:
    """Refuse frames that are not the same number of MD steps apart."""
    apart = np.diff(steps)
    uneven = (apart != apart[:1]) | (apart <= 0)
    if uneven.any():
        first = int(np.argmax(uneven))
        raise DumpError(
            f"frames {first} and {first + 1} are steps {steps[first]} and "
            f"{steps[first + 1]}, others {apart[0]} steps apart; cut the dump there"
        )
