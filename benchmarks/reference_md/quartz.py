"""Alpha-quartz, 162 atoms (hexagonal 3x3x2), with BKS and truncated Coulomb.

van Beest, Kramer, van Santen, Phys. Rev. Lett. 64, 1955 (1990); Coulomb as the
undamped shifted-force sum, cut off at 10.17 Å, after Carre, Berthier, Horbach, Ispas,
Kob, J. Chem. Phys. 127, 114512 (2007). The Buckingham part has the same cutoff: with
5.5 Å, usual for the glass, the crystal is pushed to beta-quartz. Energies in eV,
lengths in Å.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal
from structure import angles, bond_vectors, first_peak
from system import METAL, Energies, Expected, FloatArray, Known, System

A, C = 4.983617, 5.43351
"""Cell at 300 K and 1.01325 bar with this force field, by the command ``cell``."""
SI_X = 0.4697
SITES = ((SI_X, 0.0, 2.0 / 3.0), (0.4135, 0.2669, 0.7858))
SILICON, OXYGEN = 14, 8
SPACE_GROUP = 154  # P3_2 21
REPEATS = (3, 3, 2)
MASSES = {"Si": 28.0855, "O": 15.9994}
CHARGES = {"Si": 2.4, "O": -1.2}
BOND_LENGTH = 1.8
"""Every Si has four O within it, Å."""

SETUP = f"""
# The vectorized styles are a sixth faster, with one thread too.
package omp 1
suffix omp
atom_style charge
boundary p p p
pair_style hybrid/overlay buck 10.17 coul/dsf 0.0 10.17
read_data {{data}}
mass 1 {MASSES["Si"]}
mass 2 {MASSES["O"]}
pair_coeff 1 1 buck 0.0 1.0 0.0
pair_coeff 1 2 buck 18003.7572 {1 / 4.87318!r} 133.5381
pair_coeff 2 2 buck 1388.7730 {1 / 2.76!r} 175.0
pair_coeff * * coul/dsf
pair_modify pair buck shift yes
neighbor 1.0 bin
"""

EXPECTED = Expected(
    terms={"evdwl": -96.192631, "ecoul": -3073.915599},
    drift=0.08,
    drift_sd=0.1,
    scatter=0.01,
    nve_temperature_sd=2.5,
    energies=Energies(mean=-19.5680, sd=0.00249, length=240.0),
    longest_bonds={"O-Si": 1.8},
)


def crystal_atoms(repeat: int) -> Atoms:
    """Return alpha-quartz, 162 atoms times the cube of `repeat`."""
    cell = [A, A, C, 90.0, 90.0, 120.0]
    unit = crystal(["Si", "O"], SITES, spacegroup=SPACE_GROUP, cellpar=cell)
    atoms = Atoms(unit.numbers, positions=unit.positions, cell=unit.cell, pbc=True)
    atoms *= tuple(n * repeat for n in REPEATS)
    atoms.set_masses([MASSES[symbol] for symbol in atoms.symbols])
    atoms.set_initial_charges([CHARGES[symbol] for symbol in atoms.symbols])
    return atoms


def data_file(atoms: Atoms) -> str:
    """Return the text of a LAMMPS data file for atom style ``charge``."""
    text = io.StringIO()
    write_lammps_data(
        text, atoms, specorder=["Si", "O"], units="metal", atom_style="charge"
    )
    return text.getvalue()


def bonds(atoms: Atoms) -> tuple[tuple[int, int], ...]:
    """Return the Si-O bonds, Si first."""
    i, j = neighbor_list("ij", atoms, BOND_LENGTH)
    silicon = atoms.numbers[i] == SILICON
    return tuple(zip(i[silicon].tolist(), j[silicon].tolist(), strict=True))


def silicon_x(positions: FloatArray, start: Atoms) -> float:
    """Return the free fractional coordinate of Si; 0.5 would be beta-quartz.

    The three Si of a cell are at (x, 0, 2/3), (0, x, 1/3) and (-x, -x, 0).
    """
    lengths = start.cell.lengths()
    unit = start.cell[:] / np.round(lengths / [A, A, C])[:, None]
    moved = positions.mean(axis=0) - start.positions
    moved -= np.average(moved, axis=0, weights=start.get_masses())
    shifts = (moved @ np.linalg.inv(unit)).reshape(-1, 9, 3)[:, :3].mean(axis=0)
    (x, _, _), (_, y, _), third = shifts
    return SI_X + float(x + y - (third[0] + third[1]) / 2.0) / 3.0


def bridge_angle(positions: FloatArray, start: Atoms) -> float:
    """Return the mean Si-O-Si angle of the mean structure, deg."""
    pairs = np.array(sorted(bonds(start), key=lambda bond: bond[1]))
    vectors = bond_vectors(pairs, positions.mean(axis=0), start)
    return float(angles(vectors[0::2], vectors[1::2]).mean())


def structure(atoms: Atoms) -> tuple[Known, ...]:
    """Return the known values of the structure at 300 K."""

    def peak(first: int, second: int, near: float) -> Callable[[FloatArray], float]:
        def measure(positions: FloatArray) -> float:
            return first_peak(positions, atoms.cell[:], atoms.numbers, pair, span)[0]

        pair, span = (first, second), (near - 0.2, near + 0.2)
        return measure

    return (
        Known("Si-O-Si, deg", 150.7, 0.3, partial(bridge_angle, start=atoms)),
        Known("Si x", 0.4735, 0.0005, partial(silicon_x, start=atoms)),
        Known("Si-O peak, Å", 1.59, 0.02, peak(SILICON, OXYGEN, 1.6)),
        Known("O-O peak, Å", 2.61, 0.03, peak(OXYGEN, OXYGEN, 2.6)),
        Known("Si-Si peak, Å", 3.09, 0.03, peak(SILICON, SILICON, 3.1)),
    )


def quartz(repeat: int = 1) -> System:
    """Return alpha-quartz.

    Parameters
    ----------
    repeat : int
        Cells of 162 atoms along each axis.
    """
    atoms = crystal_atoms(repeat)
    name, expected = "quartz", replace(EXPECTED, structure=structure(atoms))
    if repeat > 1:
        name += f"-{repeat}x{repeat}x{repeat}"
        expected = expected.for_supercell(repeat**3)
    return System(
        name=name,
        force_field="BKS, Coulomb and Buckingham cut off at 10.17 Å",
        numbers=atoms.numbers,
        masses=atoms.get_masses(),
        positions=atoms.positions,
        cell=atoms.cell[:],
        pbc=(True, True, True),
        bonds=bonds(atoms),
        units=METAL,
        setup=SETUP,
        data=data_file(atoms),
        timestep=1.0,
        stride=30.0,
        damping=100.0,
        expected=expected,
        thermalize=20.0,
        sample=20.0,
        thermostat="csvr",
        barostat="x 1.01325 1.01325 1.0 y 1.01325 1.01325 1.0 "
        "z 1.01325 1.01325 1.0 couple xy",
    )
