"""Systems, calculators and recorders for the tests of the driver."""

from __future__ import annotations

# pytest imports this while it handles garbage of ASE before 3.27 (files left open),
# and fails if more garbage is found during that import.
import tracemalloc  # noqa: F401

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes

from trajcast_ase.testing import HarmonicCrystal

HORIZON = 7.0
STRIDE = HORIZON * units.fs


def draw_momenta(
    atoms: Atoms, rng: np.random.Generator, temperature_K: float = 300.0
) -> Atoms:
    """Set momenta of a temperature, without drift, and return the atoms."""
    width = np.sqrt(atoms.get_masses() * units.kB * temperature_K)[:, None]
    momenta = width * rng.standard_normal((len(atoms), 3))
    drift = momenta.sum(0) / atoms.get_masses().sum()
    atoms.set_momenta(momenta - atoms.get_masses()[:, None] * drift)
    return atoms


def crystal(n_side: int = 2, seed: int = 0) -> tuple[HarmonicCrystal, Atoms]:
    """Return a harmonic crystal and its atoms at 300 K."""
    model, atoms = HarmonicCrystal.cubic(n_side, horizon_fs=HORIZON)
    return model, draw_momenta(atoms, np.random.default_rng(seed))


def water(seed: int = 0) -> Atoms:
    """Return an isolated molecule with momenta."""
    positions = [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]
    return draw_momenta(Atoms("OH2", positions), np.random.default_rng(seed))


class CountingCalculator(Calculator):
    """A calculator that only knows energies and counts how often it is asked."""

    implemented_properties = ("energy",)

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        self.results = {"energy": float(self.n_calls)}


class FreeFlight(Calculator):
    """Zero energy and forces, for ASE's own dynamics."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


class Springs(Calculator):
    """Energy and forces of a harmonic crystal."""

    implemented_properties = ("energy", "forces")

    def __init__(self, crystal):
        super().__init__()
        root = crystal.masses.sqrt().repeat_interleave(3)
        scaled = crystal.modes * crystal.frequencies**2 @ crystal.modes.T
        self.hessian = (root[:, None] * scaled * root).numpy() / units.fs**2
        self.sites = crystal.reference.numpy()
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        self.calls += 1
        moved = (atoms.positions - self.sites).ravel()
        forces = -self.hessian @ moved
        self.results = {
            "energy": -0.5 * float(moved @ forces),
            "forces": forces.reshape(-1, 3),
        }


def snapshot(atoms: Atoms) -> tuple[bytes, bytes]:
    """Return positions and momenta for comparison to the last bit."""
    return atoms.get_positions().tobytes(), atoms.get_momenta().tobytes()
