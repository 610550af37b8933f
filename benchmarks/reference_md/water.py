"""Liquid water, 64 molecules in a cube of 12.4172 Å, with SPC/Fw.

Wu, Tepper, Voth, J. Chem. Phys. 124, 024503 (2006): flexible, harmonic, Lennard-Jones
on the oxygens only, Coulomb by particle-particle particle-mesh. Energies in kcal/mol,
lengths in Å, angles in degrees. The cutoff of 9 Å exceeds half the box, which LAMMPS
allows for.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from scipy.spatial.transform import Rotation
from structure import angles, first_peak
from system import REAL, Energies, Expected, FloatArray, Known, System
from topology import Topology

MASSES = {"O": 15.9994, "H": 1.008}
CHARGES = (-0.82, 0.41, 0.41)
BOX = 12.4172
PER_EDGE = 4
"""Molecules along an edge of the box, in the start lattice."""

LENNARD_JONES = {"O": (0.1554253, 3.165492), "H": (0.0, 1.0)}
# K (r - r0)^2 and K (theta - theta0)^2: half the force constants of the publication
BOND_TERMS = {"O-H": (529.581, 1.012)}
ANGLE_TERMS = {"H-O-H": (37.95, 113.24)}

SETUP = """
# The vectorized styles are a sixth faster, with one thread too.
package omp 1
suffix omp
atom_style full
boundary p p p
pair_style lj/cut/coul/long 9.0
bond_style harmonic
angle_style harmonic
kspace_style pppm 1e-5
special_bonds lj/coul 0 0 0
read_data {data}
pair_modify shift yes
neighbor 1.0 bin
"""

EXPECTED = Expected(
    terms={"evdwl": -24.363554, "ecoul": 4052.073786, "elong": -4038.806890},
    drift=0.0,  # 50 ps: -0.23, -0.09, 0.40; the total energy wanders by its scatter
    drift_sd=0.3,
    scatter=0.02,
    nve_temperature_sd=3.5,
    energies=Energies(mean=-0.1448, sd=0.00327, length=150.0),
    longest_bonds={"O-H": 1.2},
)


def molecule() -> FloatArray:
    """Return O, H, H of a relaxed molecule, (3, 3) in Å, with the O at the origin."""
    ((_, length),), ((_, angle),) = BOND_TERMS.values(), ANGLE_TERMS.values()
    half = np.radians(angle) / 2.0
    across, along = length * np.sin(half), length * np.cos(half)
    return np.array([[0.0, 0.0, 0.0], [across, 0.0, along], [-across, 0.0, along]])


def lattice(per_edge: int, rng: np.random.Generator) -> FloatArray:
    """Return molecules in random orientations on a cubic lattice, (n_atoms, 3) in Å."""
    spacing = BOX / PER_EDGE
    sites = (np.indices((per_edge,) * 3).reshape(3, -1).T + 0.5) * spacing
    rotations = Rotation.from_quat(rng.normal(size=(len(sites), 4)))
    atoms = np.stack([rotations.apply(atom) for atom in molecule()], axis=1)
    positions: FloatArray = (sites[:, None] + atoms).reshape(-1, 3)
    return positions


def topology(n_molecules: int) -> Topology:
    """Return the molecules with the terms of the force field."""
    return Topology(
        classes=("O", "H", "H") * n_molecules,
        charges=CHARGES * n_molecules,
        bonds=[(o, o + k) for o in range(0, 3 * n_molecules, 3) for k in (1, 2)],
        masses=MASSES,
        pair_terms=LENNARD_JONES,
        bond_terms=BOND_TERMS,
        angle_terms=ANGLE_TERMS,
    )


def structure(n_molecules: int, cell: FloatArray) -> tuple[Known, ...]:
    """Return the known values of the structure at 300 K."""
    numbers = np.array((8, 1, 1) * n_molecules)

    def bonds(positions: FloatArray) -> FloatArray:
        molecules = positions.reshape(len(positions), -1, 3, 3)
        return molecules[:, :, 1:] - molecules[:, :, :1]

    def lengths(positions: FloatArray) -> FloatArray:
        values: FloatArray = np.linalg.norm(bonds(positions), axis=-1)
        return values

    def bends(positions: FloatArray) -> FloatArray:
        vectors = bonds(positions)
        return angles(vectors[:, :, 0], vectors[:, :, 1])

    peak = partial(
        first_peak, cell=cell, numbers=numbers, elements=(8, 8), span=(2.4, 3.2)
    )
    return (
        Known("O-H, Å", 1.031, 0.001, lambda x: float(lengths(x).mean())),
        # The stretches of an NVE run of 50 ps keep most of the energy they start with.
        Known("O-H sd, Å", 0.024, 0.002, lambda x: float(lengths(x).std())),
        Known("H-O-H, deg", 107.7, 0.15, lambda x: float(bends(x).mean())),
        Known("H-O-H sd, deg", 5.3, 0.15, lambda x: float(bends(x).std())),
        Known("O-O peak, Å", 2.73, 0.03, lambda x: peak(x)[0]),
        Known("O-O peak height", 3.16, 0.15, lambda x: peak(x)[1]),
    )


def water(repeat: int = 1) -> System:
    """Return liquid water at the density of 64 molecules in a 12.4172 Å cube.

    Parameters
    ----------
    repeat : int
        Boxes along each axis. A larger box starts from a lattice of its own.
    """
    n_molecules, edge = (PER_EDGE * repeat) ** 3, BOX * repeat
    liquid, cell = topology(n_molecules), edge * np.eye(3)
    draw = partial(lattice, PER_EDGE * repeat)
    positions = draw(np.random.default_rng(0))
    box = "\n".join(f"0 {edge} {axis}lo {axis}hi" for axis in "xyz")
    name, expected = "water", replace(EXPECTED, structure=structure(n_molecules, cell))
    if repeat > 1:
        name += f"-{repeat}x{repeat}x{repeat}"
        expected = expected.for_supercell(repeat**3)
    return System(
        name=name,
        force_field="SPC/Fw",
        numbers=liquid.numbers,
        masses=liquid.atom_masses,
        positions=positions,
        cell=cell,
        pbc=(True, True, True),
        bonds=tuple(liquid.bonds),
        units=REAL,
        setup=SETUP,
        data=liquid.data_file(positions, box),
        timestep=0.5,
        stride=5.0,
        damping=50.0,
        expected=expected,
        thermalize=20.0,
        sample=10.0,
        length=50.0,
        thermostat="csvr",
        draw=draw,
    )
