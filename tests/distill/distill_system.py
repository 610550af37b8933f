"""A small system with a quick calculator: four copper atoms held by springs."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

DISTANCE = 2.5
STIFFNESS = 2.0


class Springs(Calculator):
    """Springs between all pairs of atoms; `fault` spoils what it gives."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  ASE's way

    def __init__(self, fault: str = "", **kwargs):
        super().__init__(**kwargs)
        self.fault = fault
        self.n_calls = 0

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        self.n_calls += 1
        vectors = self.atoms.positions[:, None] - self.atoms.positions[None]
        lengths = np.sqrt((vectors**2).sum(-1)) + np.eye(len(self.atoms)) * DISTANCE
        stretch = lengths - DISTANCE
        self.results["energy"] = float(0.25 * STIFFNESS * (stretch**2).sum())
        forces = -STIFFNESS * (stretch / lengths)[..., None] * vectors
        self.results["forces"] = forces.sum(axis=1)
        if self.fault == "nan":
            self.results["forces"][0] = np.nan
        if self.fault == "energy only":
            del self.results["forces"]
        if self.fault == "raises":
            raise RuntimeError("SCF did not converge")


def tetrahedron():
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return Atoms("Cu4", corners * DISTANCE / np.sqrt(8.0))
