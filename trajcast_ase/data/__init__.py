"""Bundled start structures; beside them the observables of reference MD.

Both are written by ``benchmarks/reference_md/observables.py`` from canonical runs;
:func:`trajcast_ase.validation.inputs.bundled_reference` reads the observables.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import cast

from ase import Atoms
from ase.io import read


def ethanol() -> Atoms:
    """Return the bundled ethanol molecule, a frame of a GFN2-xTB run at 300 K.

    It has no momenta: draw them before a run.
    """
    return _structure("ethanol")


def paracetamol() -> Atoms:
    """Return the bundled paracetamol molecule, a frame of the reference run at 300 K.

    It has no momenta: draw them before a run.
    """
    return _structure("paracetamol")


def quartz() -> Atoms:
    """Return 162 atoms of alpha-quartz, a frame of the reference run at 300 K.

    The cell is hexagonal, 3 x 3 x 2 unit cells; there are no momenta.
    """
    return _structure("quartz")


def water() -> Atoms:
    """Return 64 molecules of liquid water, a frame of the reference run at 300 K.

    The cell is cubic, 12.4172 Å; there are no momenta.
    """
    return _structure("water")


def _structure(name: str) -> Atoms:
    with as_file(files(__name__) / f"{name}.xyz") as path:
        return cast("Atoms", read(path, format="extxyz"))
