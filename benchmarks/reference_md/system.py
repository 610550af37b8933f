"""What the engine, the protocols and the checks need to know about a system."""

from dataclasses import dataclass, field

import numpy as np
from ase import units as ase_units
from ase.data import chemical_symbols
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


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
    energy_mean, energy_sd : float
        Canonical potential energy, eV/atom.
    energy_length : float
        Length of the run that gave these, ps.
    longest_bonds : dict
        Pair of symbols such as ``"C-H"`` to the longest length ever seen, Å.
    """

    terms: dict[str, float]
    drift: float
    drift_sd: float
    scatter: float
    nve_temperature_sd: float
    energy_mean: float
    energy_sd: float
    energy_length: float
    longest_bonds: dict[str, float]


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

    def bonds_by_pair(self) -> dict[str, NDArray[np.int64]]:
        """Return the bonds, (n, 2), of each pair of symbols, such as ``"C-H"``."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for i, j in self.bonds:
            symbols = sorted(chemical_symbols[self.numbers[a]] for a in (i, j))
            # H last, as in C-H, N-H and O-H.
            symbols.sort(key=lambda symbol: symbol == "H")
            groups.setdefault("-".join(symbols), []).append((i, j))
        return {pair: np.array(bonds) for pair, bonds in groups.items()}
