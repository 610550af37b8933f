"""The line counts of (ext)xyz files, checked before ASE reads as many lines as told."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from trajcast_ase.compressed import open_text

XYZ_FORMATS = ("extxyz", "xyz")


class CountError(ValueError):
    """An xyz file whose number of atoms is not that of its lines."""


def check_counts(path: Path) -> None:
    """Refuse a file in which a frame has fewer lines than it says.

    Raises
    ------
    CountError
        The text names the line.
    """
    number = 0
    with open_text(path, encoding="utf-8") as file:
        while (line := file.readline()).strip():
            number += 1
            if line.startswith("VEC"):  # cell vectors may follow the atoms
                continue
            told = line.strip()
            if not (told.isascii() and told.isdigit() and len(told) < 10):  # noqa: PLR2004
                raise CountError(
                    f"line {number} is {told[:60]!r} instead of a number of atoms; cut "
                    "the damaged frame"
                )
            found = sum(1 for _ in islice(file, int(told) + 1))
            if found <= int(told):
                raise CountError(
                    f"line {number} tells {told} atoms, but {max(found - 1, 0)} "
                    "follow; cut the damaged frame"
                )
            number += found
