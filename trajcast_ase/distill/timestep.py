"""The time step of reference MD: the longest whose energy neither drifts nor swings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.md.verlet import VelocityVerlet
from jaxtyping import Float
from scipy.signal import detrend

from trajcast_ase.analysis.vdos import CM_PER_FS, vdos
from trajcast_ase.distill.chains import frames_on_disk
from trajcast_ase.distill.journal import energies_of
from trajcast_ase.distill.segments import MDError, Segment, Setup, run_segments
from trajcast_ase.strict import members, number
from trajcast_ase.trajectory import read_frames
from trajcast_ase.units import FS, KB

DRIFT_LIMIT = 0.005
"""Of the total energy, in kT per atom and ps."""
SWING_LIMIT = 0.03
"""Standard deviation of the total energy over that of the kinetic energy."""
RELAXING_STEPS, TRIAL_STEPS = 200, 500
FEWEST_TIMED = 20
"""Steps by which the time of one is measured."""
TRIAL = "trial-"
"""How the names of files of trials begin."""
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

    def to_plain(self) -> dict[str, float | None]:
        """Return it as JSON values, with null for what is not finite."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {k: v if np.isfinite(v) else None for k, v in values.items()}

    @classmethod
    def from_plain(cls, values: Any) -> Trial:
        """Return a trial of a state file.

        Raises
        ------
        ValueError
            A value is missing, or of another type.
        """
        found = members(values, "a trial", dict)
        if found.keys() != set(cls.__slots__):
            raise ValueError("a trial of the state lacks a key or has another")
        return cls(
            **{
                name: np.inf if value is None else number(value, name)
                for name, value in found.items()
            }
        )

    def __str__(self) -> str:
        """Return the step and what was found, with the limits."""
        limit = max(DRIFT_LIMIT, self.resolution)
        return (
            f"{self.timestep_fs:g} fs (the total energy drifts by {self.drift:.1e} kT "
            f"per atom and ps, limit {limit:.2g}; it swings by "
            f"{100 * self.swing:.1f} % of what the kinetic energy does, limit "
            f"{100 * SWING_LIMIT:g} %)"
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


@dataclass(frozen=True, slots=True)
class Trials:
    """Where and how time steps are tried.

    What is on disk goes on where it was stopped, at the frame.

    Attributes
    ----------
    atoms : Atoms
        Without calculator.
    calculator : ASE calculator
    temperature_K : float, K
    seed : int
    folder : Path
        Of the frames, until :meth:`clear`.
    done : tuple of Trial
        Of an earlier command, which are not made again.
    """

    atoms: Atoms
    calculator: Any
    temperature_K: float
    seed: int
    folder: Path
    done: tuple[Trial, ...] = ()

    def trial(self, step_fs: float, tick: Callable[[int], None]) -> Trial:
        """Return what a time step does; `tick` is told the number of frames made.

        Raises
        ------
        MDError
            The system flies apart, or the calculator fails.
        """
        for one in self.done:
            if one.timestep_fs == step_fs:
                return one
        setup = Setup(self.atoms, step_fs, 1, self.folder)
        chain = self._chain(step_fs)
        made = frames_on_disk(setup, [chain])
        fresh: list[float] = []  # when the frames that are judged were made

        def count(n_frames: int) -> None:
            nonlocal made
            made += n_frames
            if made > RELAXING_STEPS:
                fresh.append(time.perf_counter())
            tick(made)

        run_segments(setup, chain, self.calculator, count, lambda: False)
        if len(fresh) > FEWEST_TIMED:
            per_step = (fresh[-1] - fresh[0]) / (len(fresh) - 1)
        else:  # of a trial that was stopped close to its end
            per_step = seconds_of_a_step(self.atoms, self.calculator)
        return self._judged(setup, chain[-1].name, per_step)

    def _chain(self, step_fs: float) -> tuple[Segment, Segment]:
        name, own = f"{TRIAL}{step_fs:g}fs", self.seed * 1_000_000 + 800_000
        kelvin, relaxed = self.temperature_K, f"{name}-relaxed"
        return (
            Segment(relaxed, None, "strong", RELAXING_STEPS, own, kelvin),
            Segment(name, relaxed, "nve", TRIAL_STEPS, own + 1, kelvin),
        )

    def _judged(self, setup: Setup, name: str, per_step: float) -> Trial:
        frames, energies = read_frames(setup.path(name)), energies_of(setup.path(name))
        total, step_fs = energies.sum(axis=1), setup.timestep_fs
        n_atoms, kelvin = len(self.atoms), self.temperature_K
        rest = detrend(total)
        kt_ps = 1e-3 * TRIAL_STEPS * step_fs * n_atoms * KB * kelvin
        return Trial(
            timestep_fs=step_fs,
            drift=energy_drift(total, step_fs, n_atoms, kelvin),
            resolution=2.0 * float(rest.std()) / kt_ps,
            swing=float(rest.std() / max(energies[:, 1].std(), 1e-12)),
            fastest_period_fs=fastest_period(frames.velocities, step_fs, self.atoms),
            seconds_per_step=per_step,
        )

    def clear(self) -> None:
        """Remove the frames."""
        for path in self.folder.glob(f"{TRIAL}*"):
            path.unlink()


def choose_timestep(
    trials: Trials,
    fixed_fs: float | None,
    *,
    keep: Callable[[tuple[Trial, ...]], None],
    follow: Callable[[float], AbstractContextManager[Callable[[int], None]]],
) -> Trial:
    """Return the trial of the longest time step that keeps the limits.

    A fixed one is tried, for its speed and the spectrum, and not judged.

    Parameters
    ----------
    trials : Trials
    fixed_fs : float or None, fs
    keep : callable
        Given all trials that are done, after each.
    follow : callable
        Given a time step (fs), returns the context of its trial: a callable that is
        told the number of frames made after each.

    Raises
    ------
    MDError
        None keeps the limits, or the shortest or the fixed one fails.
    """
    steps = ladder(trials.atoms) if fixed_fs is None else (fixed_fs,)
    made: list[Trial] = []
    for step in steps:
        try:
            with follow(step) as tick:
                found = trials.trial(step, tick)
        except MDError:
            if step == steps[-1]:
                raise
            found = Trial(step, np.inf, 0.0, np.inf, step, 0.0)  # far too long
        made.append(found)
        keep(tuple(made))
        if found.passes or fixed_fs is not None:
            return found
    raise MDError(
        f"no time step keeps the energy: {_listed(made)}; the forces may jump where "
        "the potential is cut off (smooth it), the structure may be far from "
        "equilibrium (relax it), or give --timestep to take one all the same"
    )


def _listed(trials: Sequence[Trial]) -> str:
    return "; ".join(map(str, trials[-2:]))


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
