"""Paracetamol, C8H9NO2, isolated, with OPLS-AA.

Types, charges and torsions of phenol, amides and N-phenylacetamide in the July 2008
(BOSS 4.8) set; Jorgensen, Maxwell, Tirado-Rives, J. Am. Chem. Soc. 118, 11225 (1996).
Geometric combination rules, 1-4 interactions halved, no cutoff within the molecule,
one improper per planar center. Energies in kcal/mol, lengths in Å, angles in degrees.
"""

import numpy as np
from system import REAL, Energies, Expected, System
from topology import Topology

MASSES = {"C": 12.011, "H": 1.008, "N": 14.007, "O": 15.999}

CLASSES = (
    *("CT", "C", "O", "N", "CA", "CA", "CA", "CA", "OH", "CA", "CA"),
    *("HC", "HC", "HC", "H", "HA", "HA", "HO", "HA", "HA"),
)
CHARGES = (
    *(-0.180, 0.500, -0.500, -0.385, 0.085, -0.115, -0.115, 0.150, -0.585),
    *(-0.115, -0.115, 0.060, 0.060, 0.060, 0.300, 0.115, 0.115, 0.435, 0.115, 0.115),
)
BONDS = (
    *((0, 1), (0, 11), (0, 12), (0, 13), (1, 2), (1, 3), (3, 4), (3, 14), (4, 5)),
    *((4, 10), (5, 6), (5, 15), (6, 7), (6, 16), (7, 8), (7, 9), (8, 17), (9, 10)),
    *((9, 18), (10, 19)),
)

# epsilon, sigma; hydrogens without Lennard-Jones carry a nominal sigma.
LENNARD_JONES = {
    "CT": (0.066, 3.50),
    "C": (0.105, 3.75),
    "O": (0.210, 2.96),
    "N": (0.170, 3.25),
    "CA": (0.070, 3.55),
    "OH": (0.170, 3.07),
    "HC": (0.030, 2.50),
    "H": (0.0, 1.0),
    "HA": (0.030, 2.42),
    "HO": (0.0, 1.0),
}
# K (r - r0)^2: K, r0
BOND_TERMS = {
    "C-CT": (317.0, 1.522),
    "C-O": (570.0, 1.229),
    "C-N": (490.0, 1.335),
    "N-CA": (427.0, 1.381),
    "CA-CA": (469.0, 1.400),
    "CA-OH": (450.0, 1.364),
    "CT-HC": (340.0, 1.090),
    "N-H": (434.0, 1.010),
    "CA-HA": (367.0, 1.080),
    "OH-HO": (553.0, 0.945),
}
# K (theta - theta0)^2: K per rad^2, theta0
ANGLE_TERMS = {
    "CT-C-O": (80.0, 120.4),
    "CT-C-N": (70.0, 116.6),
    "O-C-N": (80.0, 122.9),
    "CA-OH-HO": (35.0, 113.0),
    "HC-CT-HC": (33.0, 107.8),
    "C-CT-HC": (35.0, 109.5),
    "C-N-H": (35.0, 119.8),
    "CA-N-H": (35.0, 119.8),
    "C-N-CA": (50.0, 121.9),
    "CA-CA-CA": (63.0, 120.0),
    "CA-CA-OH": (70.0, 120.0),
    "N-CA-CA": (70.0, 120.0),
    "CA-CA-HA": (35.0, 120.0),
}
# V1/2 (1 + cos f) + V2/2 (1 - cos 2f) + V3/2 (1 + cos 3f): V1, V2, V3, V4
DIHEDRAL_TERMS = {
    "O-C-CT-HC": (0.0, 0.0, 0.0, 0.0),
    "N-C-CT-HC": (0.0, 0.0, 0.0, 0.0),
    "O-C-N-H": (0.0, 4.900, 0.0, 0.0),
    "CT-C-N-H": (0.0, 4.900, 0.0, 0.0),
    "O-C-N-CA": (0.0, 6.089, 0.0, 0.0),
    "CT-C-N-CA": (2.300, 6.089, 0.0, 0.0),
    "C-N-CA-CA": (0.0, 2.100, 0.0, 0.0),
    "H-N-CA-CA": (0.0, 2.100, 0.0, 0.0),
    "CA-CA-OH-HO": (0.0, 1.682, 0.0, 0.0),
    "X-CA-CA-X": (0.0, 7.250, 0.0, 0.0),
}
# K (1 - cos 2f) with f the dihedral n1-n2-center-n3: K, d, n of LAMMPS' cvff
IMPROPER_TERMS = {"carbonyl": (10.5, -1, 2), "other": (2.5, -1, 2)}
IMPROPERS = (
    ((0, 3, 1, 2), "carbonyl"),
    ((1, 4, 3, 14), "other"),
    ((5, 10, 4, 3), "other"),
    ((4, 6, 5, 15), "other"),
    ((5, 7, 6, 16), "other"),
    ((6, 9, 7, 8), "other"),
    ((7, 10, 9, 18), "other"),
    ((4, 9, 10, 19), "other"),
)

POSITIONS = np.array(
    [
        [-3.664525, -0.577407, -0.016281],
        [-2.211483, -0.895487, -0.268769],
        [-1.881852, -1.971611, -0.754190],
        [-1.379145, 0.152683, 0.079989],
        [0.026225, 0.205111, -0.023511],
        [0.814473, -0.844042, -0.503283],
        [2.206475, -0.714443, -0.574474],
        [2.808401, 0.468470, -0.163577],
        [4.159600, 0.635764, -0.216428],
        [2.042555, 1.521375, 0.316468],
        [0.653408, 1.389832, 0.386570],
        [-4.064251, -0.013876, -0.863349],
        [-4.225748, -1.509371, 0.097711],
        [-3.784100, 0.004003, 0.902486],
        [-1.824692, 0.984643, 0.445514],
        [0.376704, -1.781624, -0.831439],
        [2.793123, -1.546202, -0.951734],
        [4.556977, -0.176717, -0.571138],
        [2.523570, 2.441618, 0.635202],
        [0.074286, 2.227281, 0.765748],
    ]
)

SETUP = """
atom_style full
boundary f f f
pair_style lj/cut/coul/cut 20.0
bond_style harmonic
angle_style harmonic
dihedral_style opls
improper_style cvff
special_bonds lj/coul 0 0 0.5
read_data {data}
pair_modify mix geometric
# Every pair, in the order of the atoms: a resumed run repeats each sum bit by bit.
neighbor 2.0 nsq
"""

EXPECTED = Expected(
    terms={
        "ebond": 2.150810,
        "eangle": 2.790897,
        "edihed": 0.008081,
        "eimp": 0.012746,
        "evdwl": 8.419071,
        "ecoul": -22.473765,
    },
    drift=-0.09,
    drift_sd=0.15,
    scatter=0.04,
    nve_temperature_sd=4.5,
    energies=Energies(mean=0.00749, sd=0.00675, length=3000.0),
    longest_bonds={"C-H": 1.25, "O-H": 1.06, "N-H": 1.13, "C-C": 1.70},
)


BOX = "\n".join(f"-40 40 {axis}lo {axis}hi" for axis in "xyz")


def topology() -> Topology:
    """Return the molecule with the terms of the force field."""
    return Topology(
        classes=CLASSES,
        charges=CHARGES,
        bonds=BONDS,
        masses=MASSES,
        pair_terms=LENNARD_JONES,
        bond_terms=BOND_TERMS,
        angle_terms=ANGLE_TERMS,
        dihedral_terms=DIHEDRAL_TERMS,
        improper_terms=IMPROPER_TERMS,
        impropers=IMPROPERS,
    )


def paracetamol() -> System:
    """Return isolated paracetamol with OPLS-AA."""
    molecule = topology()
    return System(
        name="paracetamol",
        force_field="OPLS-AA (BOSS 4.8, July 2008)",
        numbers=molecule.numbers,
        masses=molecule.atom_masses,
        positions=POSITIONS,
        cell=np.zeros((3, 3)),
        pbc=(False, False, False),
        bonds=BONDS,
        units=REAL,
        setup=SETUP,
        data=molecule.data_file(POSITIONS, BOX),
        timestep=0.5,
        stride=7.0,
        damping=50.0,
        expected=EXPECTED,
    )
