"""What the engine, the protocols and the checks need to know about a system."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
from ase import Atoms
from ase import units as ase_units
from ase.data import chemical_symbols
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Thermostat = Literal["nose-hoover", "csvr"]


@dataclass(frozen=True, slots=True)
class UnitSystem:
    """A LAMMPS unit style.

    Parameters
    ----------
    name : str
        Argument of the LAMMPS command ``units``.
    time : float
        One unit of time in fs.
    energy : float
        One unit of energy in eV.
    """

    name: str
    time: float
    energy: float


REAL = UnitSystem("real", time=1.0, energy=ase_units.kcal / ase_units.mol)
METAL = UnitSystem("metal", time=1000.0, energy=1.0)


@dataclass(frozen=True, slots=True)
class Energies:
    """Canonical potential energy, eV/atom, and the length of the run it is from, ps."""

    mean: float
    sd: float
    length: float


@dataclass(frozen=True, slots=True)
class Known:
    """A value of the structure, averaged over frames.

    Parameters
    ----------
    name : str
        With the unit.
    value, tolerance : float
        The tolerance covers the digits of the known value, its own statistical error,
        and what the few K by which NVE runs differ do to it.
    measure : callable
        From positions of some frames, (n_frames, n_atoms, 3) in Å, to the value.
    """

    name: str
    value: float
    tolerance: float
    measure: Callable[[FloatArray], float]


@dataclass(frozen=True, slots=True)
class Expected:
    """Values that a correct force field and a correct run give.

    Parameters
    ----------
    terms : dict
        Thermo keyword to energy of the start geometry, in units of the system.
    drift, drift_sd : float
        Slope of the total energy in NVE and its spread among runs, meV/atom/ns.
    scatter : float
        Standard deviation of the total energy about that slope, meV/atom.
    nve_temperature_sd : float
        Spread of the mean temperature of NVE runs started at the mean energy, K.
    energies : Energies or None
        None where no long run has given them.
    longest_bonds : dict
        Pair of symbols such as ``"C-H"`` to the longest length ever seen, Å.
    structure : tuple of Known
    """

    terms: dict[str, float]
    drift: float
    drift_sd: float
    scatter: float
    nve_temperature_sd: float
    energies: Energies | None
    longest_bonds: dict[str, float]
    structure: tuple[Known, ...] = ()

    def for_supercell(self, n_cells: int) -> Self:
        """Return what a supercell of so many cells gives.

        Fluctuations per atom fall with the square root of the size; energies are left
        out, as their dependence on the size is no part of what is known.
        """
        return replace(
            self,
            terms={},
            scatter=self.scatter / n_cells**0.5,
            nve_temperature_sd=self.nve_temperature_sd / n_cells**0.5,
            energies=None,
        )


@dataclass(frozen=True, slots=True)
class System:
    """A system with its force field and the settings of its protocol.

    Parameters
    ----------
    name, force_field : str
    numbers : (n_atoms,)
        Atomic numbers.
    masses : (n_atoms,), amu
    positions : (n_atoms, 3), Å
        Start geometry.
    cell : (3, 3), Å
        Zeros for an isolated molecule.
    pbc : (bool, bool, bool)
    bonds : tuple of pairs
        Bonded atoms, from 0.
    units : UnitSystem
    setup : str
        LAMMPS commands up to the pair styles; ``{data}`` is the path of the data file.
    data : str
        Text of the LAMMPS data file.
    timestep, stride : float
        Of the integrator and between frames, fs.
    damping : float
        Of the thermostats, fs.
    expected : Expected
    temperature, start_temperature : float
        Of the thermostats and of the first velocities, K.
    thermalize, sample, length : float
        Thermostatted start, sampling of the mean energy, and NVE run, ps.
    thermostat : "nose-hoover" or "csvr"
        Of the search for the mean energy. A crystal, which is nearly harmonic, is not
        ergodic under a Nose-Hoover chain.
    barostat : str
        Arguments of LAMMPS' ``fix npt`` after the thermostat, for systems whose cell
        is found at constant pressure.
    draw : callable or None
        From random numbers to start positions, (n_atoms, 3) in Å; None if every run
        starts from `positions`.
    """

    name: str
    force_field: str
    numbers: NDArray[np.int64]
    masses: FloatArray
    positions: FloatArray
    cell: FloatArray
    pbc: tuple[bool, bool, bool]
    bonds: tuple[tuple[int, int], ...]
    units: UnitSystem
    setup: str
    data: str = field(repr=False)
    timestep: float
    stride: float
    damping: float
    expected: Expected
    temperature: float = 300.0
    start_temperature: float = 600.0
    thermalize: float = 25.0
    sample: float = 100.0
    length: float = 100.0
    thermostat: Thermostat = "nose-hoover"
    barostat: str = ""
    draw: Callable[[np.random.Generator], FloatArray] | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def isolated(self) -> bool:
        """Whether the angular momentum is conserved, too."""
        return not any(self.pbc)

    @property
    def n_dof(self) -> int:
        """Degrees of freedom left by the conserved momenta."""
        return 3 * self.n_atoms - (6 if self.isolated else 3)

    def atoms(self) -> Atoms:
        """Return the start geometry."""
        atoms = Atoms(self.numbers, self.positions, cell=self.cell, pbc=self.pbc)
        atoms.set_masses(self.masses)
        return atoms

    def bonds_by_pair(self) -> dict[str, NDArray[np.int64]]:
        """Return the bonds, (n, 2), of each pair of symbols, such as ``"C-H"``."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for i, j in self.bonds:
            symbols = sorted(chemical_symbols[self.numbers[a]] for a in (i, j))
            # H last, as in C-H, N-H and O-H.
            symbols.sort(key=lambda symbol: symbol == "H")
            groups.setdefault("-".join(symbols), []).append((i, j))
        return {pair: np.array(bonds) for pair, bonds in groups.items()}
