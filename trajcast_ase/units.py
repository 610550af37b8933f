"""Conversion between the package's units (Å, fs, amu) and ASE's (Å, eV, amu).

The only file with conversion factors. CODATA as in :mod:`ase.units`.
"""

from ase import units as ase_units

FS: float = float(ase_units.fs)
"""One femtosecond in ASE time units, Å sqrt(amu/eV); about 0.0982."""

KB: float = float(ase_units.kB)
"""Boltzmann constant, eV/K."""

EV_PER_AMU_A2_FS2: float = 1.0 / FS**2
"""Energy of 1 amu Å²/fs² in eV; about 103.64."""

DIFFUSION_PER_A2_FS: float = 1e4
"""Diffusion of 1 Å²/fs = 1e-5 m²/s in the usual unit, 1e-9 m²/s."""


def ns_per_day(seconds_per_step: float, horizon_fs: float) -> float:
    """Return simulated nanoseconds per day of wall time."""
    return 86_400.0 / seconds_per_step * horizon_fs * 1e-6
