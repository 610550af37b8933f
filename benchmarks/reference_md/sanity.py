"""Compare a force field and recorded runs with known values.

Means and variances of a thermostatted run are compared by block averages: 20 blocks,
limits of 5 standard errors, so a correct run fails one such check with odds of about
1 in 10 000 (Student's t, 19 degrees of freedom). The same holds for values of the
structure and for the mean cell, whose limits also allow for the digits of the known
value. The odds hold for blocks longer than the correlation time: runs of water and
quartz below 20 ps may fail. The slope and the mean temperature of an NVE run may be 4
standard deviations of such runs off, 1 in 16 000.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import typer
from ase import units as ase_units
from engine import Engine
from structure import bond_vectors
from system import FloatArray, System

TERM_TOLERANCE = 5e-6
"""For terms given to six digits, in the energy unit of the system."""
BOND_MARGIN = 0.05
"""Allowed beyond the longest bond seen before, Å."""
N_BLOCKS = 20
BLOCK_LIMIT = 5.0
"""Standard errors."""
RUN_LIMIT = 4.0
"""Standard deviations of values of whole NVE runs."""
LAG_LIMIT = 5.0
"""Of the temperature behind that of a cooling thermostat, damping times."""
FRAMES_OF_BLOCK = 50
"""Of which the structure is measured."""
FRAMES_PER_BLOCK = 256
"""Read at a time."""


@dataclass(frozen=True, slots=True)
class Check:
    """A value with the limits that a correct run keeps."""

    name: str
    value: float
    known: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value is within the limits; not-a-number is not."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        """Return one line of the report."""
        verdict = "ok" if self.passed else "FAILED"
        return (
            f"{self.name:<34} {self.value:12.6g}   known {self.known:12.6g}   "
            f"allowed {self.low:.6g} to {self.high:.6g}   {verdict}"
        )


def near(name: str, value: float, known: float, tolerance: float) -> Check:
    """Return a check of a value against a known one."""
    return Check(name, value, known, known - tolerance, known + tolerance)


def report(checks: Iterable[Check]) -> None:
    """Print checks; exit with status 1 if one failed."""
    failed = 0
    for check in checks:
        typer.echo(str(check))
        failed += not check.passed
    if failed:
        typer.echo(f"error: {failed} values are off", err=True)
        raise typer.Exit(1)


def check_force_field(system: System) -> list[Check]:
    """Return checks of the energy terms of the start geometry."""
    with Engine(system) as engine:
        engine.start()
        return [
            near(f"{system.name} {term}", engine.thermo(term), known, TERM_TOLERANCE)
            for term, known in system.expected.terms.items()
        ]


def check_runs(system: System, paths: Iterable[Path]) -> Iterable[Check]:
    """Yield checks of recorded runs."""
    for path in paths:
        with h5py.File(path) as file:
            if file.attrs["ensemble"] == "nve":
                yield from check_nve(system, path.stem, file)
            elif file.attrs["ensemble"] == "nvt":
                yield from check_nvt(system, path.stem, file)
            else:
                yield from check_cooling(system, path.stem, file)
            if file.attrs["ensemble"] != "cooling":
                yield from check_structure(system, path.stem, file)
            yield from check_bonds(system, path.stem, file)


def check_nve(system: System, name: str, file: h5py.File) -> list[Check]:
    """Return checks of the energy conservation and of the mean temperature."""
    expected = system.expected
    time = file["time"][:] * 1e-6
    energy = file["potential_energy"][:] + file["kinetic_energy"][:]
    energy *= 1000.0 / system.n_atoms
    line = np.polynomial.Polynomial.fit(time, energy, 1).convert()
    # The error of a slope falls with the length to the power 3/2.
    shorter = max(1.0, system.length * 1e-3 / time[-1]) ** 1.5
    slope_limit = RUN_LIMIT * expected.drift_sd * shorter
    temperature = temperatures(system, file)
    spread = expected.nve_temperature_sd
    if file.attrs["start"] == "canonical":
        spread = system.temperature / np.sqrt(system.n_dof)
    tolerance = RUN_LIMIT * np.hypot(spread, block_error(temperature))
    return [
        near(f"{name} drift, meV/atom/ns", line.coef[1], expected.drift, slope_limit),
        Check(
            f"{name} scatter, meV/atom",
            float(np.std(energy - line(time))),
            expected.scatter,
            expected.scatter / 2,
            expected.scatter * 2,
        ),
        near(f"{name} T, K", temperature.mean(), system.temperature, tolerance),
    ]


def check_nvt(system: System, name: str, file: h5py.File) -> list[Check]:
    """Return checks of the distributions of temperature and potential energy."""
    temperature = temperatures(system, file)
    width = system.temperature * np.sqrt(2.0 / system.n_dof)
    checks = moments(f"{name} T, K", temperature, system.temperature, width)
    known = system.expected.energies
    if known:
        energy = file["potential_energy"][:] / system.n_atoms
        # The known energies come from a finite run and have an error of their own.
        both = np.sqrt(1.0 + file["time"][-1] * 1e-3 / known.length)
        label = f"{name} potential energy, eV/atom"
        checks += moments(label, energy, known.mean, known.sd, factor=both)
    return checks


def check_cooling(system: System, name: str, file: h5py.File) -> list[Check]:
    """Return the check that the temperature followed that of the thermostat."""
    rate, damping = file.attrs["cooling_rate_K_per_ps"], file.attrs["damping_fs"]
    time = file["time"][:] * 1e-3
    excess = temperatures(system, file) - (file.attrs["temperature_K"] - rate * time)
    line = np.polynomial.Polynomial.fit(time, excess, 1)
    # The end of a fitted line has twice the error of its middle. Kinetic energy leaves
    # within the damping time, and as much potential energy or more follows it.
    error = 2.0 * block_error(excess - line(time))
    tolerance = BLOCK_LIMIT * error + LAG_LIMIT * rate * damping * 1e-3
    label = f"{name} T - T of thermostat, end, K"
    return [near(label, float(line(time[-1])), 0.0, tolerance)]


def check_structure(system: System, name: str, file: h5py.File) -> list[Check]:
    """Return checks of the structure, each measured in blocks of the run."""
    checks = []
    blocks = [
        file["positions"][np.unique(np.linspace(*ends, FRAMES_OF_BLOCK, dtype=int))]
        for ends in block_ends(len(file["positions"]))
    ]
    for known in system.expected.structure:
        values = np.array([known.measure(positions) for positions in blocks])
        tolerance = BLOCK_LIMIT * block_error(values) + known.tolerance
        label = f"{name} {known.name}"
        checks.append(near(label, values.mean(), known.value, tolerance))
    return checks


def block_ends(n_frames: int) -> list[tuple[int, int]]:
    """Return first and last frames of equal blocks, at most as many as frames."""
    edges = np.linspace(0, n_frames, min(N_BLOCKS, n_frames) + 1, dtype=int)
    return [(first, stop - 1) for first, stop in pairwise(edges.tolist())]


def moments(
    name: str, values: FloatArray, mean: float, sd: float, factor: float = 1.0
) -> list[Check]:
    """Return checks of the mean and the standard deviation of a correlated series."""
    limit = BLOCK_LIMIT * factor
    squares = np.square(values - mean)
    sd_error = block_error(squares) / (2.0 * sd)
    return [
        near(name, values.mean(), mean, limit * block_error(values)),
        near(f"{name} (sd)", float(np.sqrt(squares.mean())), sd, limit * sd_error),
    ]


def check_bonds(system: System, name: str, file: h5py.File) -> list[Check]:
    """Return checks that no bond was ever stretched too far."""
    pairs = system.bonds_by_pair()
    start_geometry = system.atoms()
    limits = system.expected.longest_bonds
    longest = dict.fromkeys(limits, 0.0)
    positions = file["positions"]
    for start in range(0, len(positions), FRAMES_PER_BLOCK):
        block = positions[start : start + FRAMES_PER_BLOCK]
        for pair in limits:
            vectors = bond_vectors(pairs[pair], block, start_geometry)
            lengths = np.linalg.norm(vectors, axis=-1)
            longest[pair] = max(longest[pair], float(lengths.max()))
    return [
        Check(f"{name} longest {pair}, Å", longest[pair], known, 0, known + BOND_MARGIN)
        for pair, known in limits.items()
    ]


def temperatures(system: System, file: h5py.File) -> FloatArray:
    """Return the temperature of each frame, K."""
    kinetic: FloatArray = file["kinetic_energy"][:]
    return 2.0 * kinetic / (system.n_dof * ase_units.kB)


def block_error(values: FloatArray) -> float:
    """Return the standard error of the mean of a correlated series."""
    n_frames = len(values) // N_BLOCKS
    if not n_frames:
        return float("inf")
    blocks = values[: n_frames * N_BLOCKS].reshape(N_BLOCKS, n_frames).mean(axis=1)
    return float(blocks.std(ddof=1) / np.sqrt(N_BLOCKS))
