"""The time step of reference MD: the longest whose energy neither drifts nor swings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.md.verlet import VelocityVerlet
from jaxtyping import Float
from scipy.signal import detrend

from trajcast_ase.analysis.vdos import CM_PER_FS, vdos
from trajcast_ase.distill.segments import MDError, thermostat
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.units import FS, KB

DRIFT_LIMIT = 0.005
"""Of the total energy, in kT per atom and ps."""
SWING_LIMIT = 0.03
"""Standard deviation of the total energy over that of the kinetic energy."""
RELAXING_STEPS, TRIAL_STEPS = 200, 500
FASTEST_SHARE = 0.99
"""Of the kinetic energy that lies below the fastest frequency."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A short run at constant energy.

    Attributes
    ----------
    timestep_fs : float, fs
    drift : float, kT / (atom ps)
    resolution : float, kT / (atom ps)
        Drift that the swing of the energy hides in so short a run.
    swing : float
    fastest_period_fs : float, fs
    seconds_per_step : float
    """

    timestep_fs: float
    drift: float
    resolution: float
    swing: float
    fastest_period_fs: float
    seconds_per_step: float

    @property
    def passes(self) -> bool:
        """Whether both limits are kept."""
        limit = max(DRIFT_LIMIT, self.resolution)
        return abs(self.drift) <= limit and self.swing <= SWING_LIMIT

    def __str__(self) -> str:
        """Return the step and what was found, with the limits."""
        limit = max(DRIFT_LIMIT, self.resolution)
        return (
            f"{self.timestep_fs:g} fs (energy drifts by {self.drift:.1e} kT per atom "
            f"and ps, limit {limit:.2g}; swings by {100 * self.swing:.1f} % of the "
            f"kinetic energy, limit {100 * SWING_LIMIT:g} %)"
        )


def ladder(atoms: Atoms) -> tuple[float, ...]:
    """Return time steps to try, the longest first, by the lightest atom, fs."""
    lightest = float(atoms.get_masses().min())
    if lightest < 4:  # noqa: PLR2004  hydrogen and its isotopes
        return 1.0, 0.5, 0.25
    if lightest < 21:  # noqa: PLR2004  to neon
        return 2.0, 1.0, 0.5, 0.25
    return 5.0, 2.0, 1.0, 0.5


def seconds_of_a_step(atoms: Atoms, calculator: Any) -> float:
    """Return the time of one step of MD, of the second one, s."""
    trial = atoms.copy()
    trial.calc = calculator
    with VelocityVerlet(trial, ladder(atoms)[-1] * FS) as verlet:
        verlet.run(1)
        began = time.perf_counter()
        verlet.run(1)
        return time.perf_counter() - began


def choose_timestep(
    atoms: Atoms,
    calculator: Any,
    temperature_K: float,
    seed: int,
    fixed_fs: float | None,
) -> Trial:
    """Return the trial of the longest time step that keeps the limits.

    A fixed one is tried, for its speed and the spectrum, and not judged.

    Raises
    ------
    MDError
        None keeps the limits.
    """
    if fixed_fs is not None:
        return _trial(atoms, calculator, temperature_K, seed, fixed_fs)
    trials: list[Trial] = []
    for step in ladder(atoms):
        trials.append(_trial(atoms, calculator, temperature_K, seed, step))
        if trials[-1].passes:
            return trials[-1]
    raise MDError(
        f"no time step keeps the energy: {_listed(trials)}; the forces may jump where "
        "the potential is cut off (smooth it), the structure may be far from "
        "equilibrium (relax it), or give --timestep to take one all the same"
    )


def _listed(trials: Sequence[Trial]) -> str:
    return "; ".join(map(str, trials[-2:]))


def _trial(
    start: Atoms, calculator: Any, temperature_K: float, seed: int, step_fs: float
) -> Trial:
    atoms = start.copy()
    atoms.calc = calculator
    rng = np.random.default_rng([seed, 17])
    draw_momenta(atoms, temperature_K, rng)
    energies = np.empty((TRIAL_STEPS, 2))
    velocities = np.empty((TRIAL_STEPS, len(atoms), 3))
    with VelocityVerlet(atoms, step_fs * FS) as verlet:
        for _ in range(RELAXING_STEPS):
            verlet.run(1)
            thermostat(atoms, temperature_K, step_fs, "strong", rng)
            if not np.isfinite(atoms.positions).all():
                break
        began = time.perf_counter()
        for k in range(TRIAL_STEPS):
            verlet.run(1)
            energies[k] = atoms.get_potential_energy(), atoms.get_kinetic_energy()
            velocities[k] = velocities_from_atoms(atoms)
        seconds = (time.perf_counter() - began) / TRIAL_STEPS
    if not np.isfinite(energies).all():
        return Trial(step_fs, np.inf, 0.0, np.inf, step_fs, seconds)
    total = energies.sum(axis=1)
    rest = detrend(total)
    kt_ps = 1e-3 * TRIAL_STEPS * step_fs * len(atoms) * KB * temperature_K
    return Trial(
        timestep_fs=step_fs,
        drift=energy_drift(total, step_fs, len(atoms), temperature_K),
        resolution=2.0 * float(rest.std()) / kt_ps,
        swing=float(rest.std() / max(energies[:, 1].std(), 1e-12)),
        fastest_period_fs=fastest_period(velocities, step_fs, start),
        seconds_per_step=seconds,
    )


def energy_drift(
    total: Float[np.ndarray, " frames"],
    stride_fs: float,
    n_atoms: int,
    temperature_K: float,
) -> float:
    """Return the slope of a total energy (eV), in kT per atom and ps."""
    time_ps = 1e-3 * stride_fs * np.arange(len(total))
    slope = float(np.polyfit(time_ps, total - total[0], 1)[0])
    return slope / (n_atoms * KB * temperature_K)


def fastest_period(
    velocities: Float[np.ndarray, "frames atoms 3"], stride_fs: float, atoms: Atoms
) -> float:
    """Return the period below which hardly any motion is, fs."""
    window = min(1400.0, 0.5 * len(velocities) * stride_fs)
    spectrum = vdos(
        velocities, stride_fs, atoms.get_masses(), atoms.numbers, window_fs=window
    )
    share = np.cumsum(spectrum.total) / spectrum.total.sum()
    index = max(1, int(np.searchsorted(share, FASTEST_SHARE)))
    return float(1.0 / (CM_PER_FS * spectrum.frequency_cm[index]))
