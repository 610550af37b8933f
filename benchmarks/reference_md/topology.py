"""Bonded topology and force field tables to the text of a LAMMPS data file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray
from system import FloatArray

Terms = Mapping[str, tuple[float, ...]]
Member = tuple[tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class Topology:
    """Atom classes and bonds with the terms of a force field.

    The keys of the terms are classes joined by hyphens, in either direction, such as
    ``"CA-CA-HA"``; ``X`` stands for any outer class of a dihedral. The values are the
    coefficients in the order of the LAMMPS style.

    Parameters
    ----------
    classes : (n_atoms,)
        Force field class of each atom; its first letter is the element.
    charges : (n_atoms,), e
    bonds : pairs of atoms, from 0
    masses : dict
        Of each element, amu.
    pair_terms, bond_terms, angle_terms, dihedral_terms, improper_terms : dict
    impropers : pairs of four atoms and the name of a term
    """

    classes: Sequence[str]
    charges: Sequence[float]
    bonds: Sequence[tuple[int, int]]
    masses: Mapping[str, float]
    pair_terms: Terms
    bond_terms: Terms = field(default_factory=dict)
    angle_terms: Terms = field(default_factory=dict)
    dihedral_terms: Terms = field(default_factory=dict)
    improper_terms: Terms = field(default_factory=dict)
    impropers: Sequence[Member] = ()

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers, (n_atoms,)."""
        return np.array([atomic_numbers[name[0]] for name in self.classes])

    @property
    def atom_masses(self) -> FloatArray:
        """Mass of each atom, (n_atoms,), amu."""
        return np.array([self.masses[name[0]] for name in self.classes])

    def neighbors(self) -> list[list[int]]:
        """Return the atoms bonded to each atom."""
        bonded: list[list[int]] = [[] for _ in self.classes]
        for i, j in self.bonds:
            bonded[i].append(j)
            bonded[j].append(i)
        return bonded

    def angles(self) -> list[tuple[int, ...]]:
        """Return each pair of bonds that share an atom, as end-center-end."""
        return [
            (i, center, j)
            for center, ends in enumerate(self.neighbors())
            for i, j in combinations(ends, 2)
        ]

    def dihedrals(self) -> list[tuple[int, ...]]:
        """Return each chain of three bonds, if the force field has such terms."""
        if not self.dihedral_terms:
            return []
        bonded = self.neighbors()
        return [
            (i, j, k, m)
            for j, k in self.bonds
            for i in bonded[j]
            for m in bonded[k]
            if i != k and m != j
        ]

    def assign(self, chains: Iterable[tuple[int, ...]], terms: Terms) -> list[Member]:
        """Return each chain of atoms with the name of its term."""
        return [(atoms, self._term(atoms, terms)) for atoms in chains]

    def _term(self, atoms: tuple[int, ...], terms: Terms) -> str:
        classes = [self.classes[atom] for atom in atoms]
        names = ["-".join(classes), "-".join(reversed(classes))]
        names.append("-".join(["X", *classes[1:-1], "X"]))
        return next(name for name in names if name in terms)

    def data_file(self, positions: FloatArray, box: str) -> str:
        """Return the text of a data file for atom style ``full``.

        Parameters
        ----------
        positions : (n_atoms, 3), Å
        box : str
            Header lines with the bounds.
        """
        bonded = [
            ("Bond", self.bond_terms, self.assign(self.bonds, self.bond_terms)),
            ("Angle", self.angle_terms, self.assign(self.angles(), self.angle_terms)),
            (
                "Dihedral",
                self.dihedral_terms,
                self.assign(self.dihedrals(), self.dihedral_terms),
            ),
            ("Improper", self.improper_terms, self.impropers),
        ]
        text = [
            "LAMMPS data file",
            "",
            f"{len(self.classes)} atoms",
            f"{len(self.pair_terms)} atom types",
            *(count_lines(*kind) for kind in bonded),
            box,
            *self._atom_sections(positions),
            *(bonded_sections(*kind) for kind in bonded),
        ]
        return "\n".join(text)

    def _atom_sections(self, positions: FloatArray) -> list[str]:
        types = {name: number for number, name in enumerate(self.pair_terms, start=1)}
        atoms = (
            (1, types[name], charge, *position)
            for name, charge, position in zip(
                self.classes, self.charges, positions, strict=True
            )
        )
        return [
            section("Masses", ((self.masses[name[0]],) for name in self.pair_terms)),
            section("Pair Coeffs", self.pair_terms.values()),
            section("Atoms", atoms),
        ]


def count_lines(kind: str, terms: Terms, members: Sequence[Member]) -> str:
    """Return the header lines with the number of terms of one kind."""
    kind = kind.lower()
    return f"{len(members)} {kind}s\n{len(terms)} {kind} types"


def bonded_sections(kind: str, terms: Terms, members: Sequence[Member]) -> str:
    """Return the sections of one kind of bonded term."""
    index = {name: number for number, name in enumerate(terms, start=1)}
    rows = ((index[name], *(atom + 1 for atom in atoms)) for atoms, name in members)
    return section(f"{kind} Coeffs", terms.values()) + section(f"{kind}s", rows)


def section(title: str, rows: Iterable[Iterable[float]]) -> str:
    """Return a section with numbered rows, or nothing if there are none."""
    lines = [
        " ".join(map(str, (number, *row))) for number, row in enumerate(rows, start=1)
    ]
    return "\n".join(["", title, "", *lines, ""]) if lines else ""
