"""Bare structures that the shown models of own systems start from, and engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from trajcast_ase.data import paracetamol as bundled_paracetamol

ARGON = {"sigma": 3.405, "epsilon": 0.010323, "rc": 8.5, "smooth": True}
"""Lennard-Jones in Å and eV; with a sharp end instead, energies drift."""


@dataclass(frozen=True)
class OwnSystem:
    """A structure, the calculator of its MD, and what is asked of the model."""

    name: str
    structure: Callable[[], Atoms]
    calculator: str
    temperature_K: float
    budget: str
    options: tuple[str, ...] = ()
    """``name=value``, for the calculator."""
    init: str = ""
    """Model of a cheaper engine whose weights the training goes on from."""
    times_faster: float = 10.0
    """Speed of the model over that of the calculator that is asked for."""


def ethanol() -> Atoms:
    """Anti ethanol from ASE's table of molecules."""
    return molecule("CH3CH2OH")


def paracetamol() -> Atoms:
    """Coordinates only, of the structure that comes with the package."""
    found = bundled_paracetamol()
    return Atoms(found.symbols, positions=found.positions)


def copper() -> Atoms:
    """Face-centred copper at EMT's own lattice constant, 108 atoms."""
    return bulk("Cu", "fcc", a=3.61, cubic=True).repeat((3, 3, 3))


def argon() -> Atoms:
    """Molten: 108 atoms at 1.37 g/cm³, heated to 400 K and brought to 95 K."""
    atoms = bulk("Ar", "fcc", a=5.78, cubic=True).repeat((3, 3, 3))
    atoms.calc = LennardJones(**ARGON)
    rng = np.random.default_rng(1)
    thermalize_momenta(atoms, temperature_K=800, rng=rng)
    for kelvin, steps in ((400, 600), (95, 400)):
        bath = Langevin(
            atoms, 5 * units.fs, temperature_K=kelvin, friction=0.01 / units.fs, rng=rng
        )
        bath.run(steps)
    atoms.wrap()
    return Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)


SYSTEMS = {
    system.name: system
    for system in (
        OwnSystem("ethanol", ethanol, "tblite:GFN2-xTB", 300.0, "2h"),
        OwnSystem("copper", copper, "emt", 300.0, "1h"),
        OwnSystem(
            "argon",
            argon,
            "lj",
            95.0,
            "45min",
            tuple(f"{key}={str(value).lower()}" for key, value in ARGON.items()),
        ),
        OwnSystem(
            "paracetamol",
            paracetamol,
            "tblite:GFN2-xTB",
            300.0,
            "6h",
            init="paracetamol-7fs",
            times_faster=30.0,
        ),
    )
}
