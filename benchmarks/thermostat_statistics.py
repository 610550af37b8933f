"""Hold what thermostats sample against physical_validation, and wrong ones, too.

    pip install physical_validation
    python benchmarks/thermostat_statistics.py --samples 60 --out statistics.json

Replicas of a harmonic crystal, whose forecasts are exact, run under each thermostat at
two temperatures. Of the kinetic energies physical_validation tests mean, width and, by
Kolmogorov and Smirnov, the whole distribution; of potential and total energies the
ratio of the distributions at both temperatures, whose logarithm is a line of known
slope. What is wrong on purpose must fail, else the tests prove nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import physical_validation as pv
import torch
import typer
from ase import units
from torch import Tensor

from trajcast_ase import CSVR, AdaptiveLangevin, Langevin, Replicas
from trajcast_ase.conservation import Conservation
from trajcast_ase.dynamics.replicas import ThermostatMaker
from trajcast_ase.kinetics import ThermalMotion
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import State
from trajcast_ase.testing import PERIODIC_ONLY, HarmonicCrystal
from trajcast_ase.units import FS

COLD_K, HOT_K = 300.0, 330.0
N_SIDE, N_REPLICAS, INTERVAL = 3, 48, 15
"""Atoms along an edge, replicas, and strides between samples, which are independent."""
LARGEST_Z, LEAST_P = 4.0, 1e-4
"""Of about fifty scores, one chance in three hundred for what is right to fail."""
EV_IN_KJ_MOL, BAR_IN_EV_A3 = 96.48533, 6.241509e-7


class Berendsen(CSVR):
    """Wrong: CSVR without its noise, whose kinetic energy hardly fluctuates."""

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the motion scaled towards the mean kinetic energy."""
        share = -math.expm1(-timestep / self.taut)
        mean = 0.5 * motion.n_dof * self.thermal_energy(time)
        ratio = mean / motion.kinetic_energies
        scale = torch.sqrt(1 + share * (ratio - 1))
        state = motion.state
        return motion.changed(scale[state.system_index, None] * state.velocities)


class EulerLangevin(Langevin):
    """Wrong: the noise of an infinitely short stride."""

    def apply(
        self, motion: ThermalMotion, time: float, timestep: float
    ) -> ThermalMotion:
        """Return the motion with damping and too much noise."""
        state, decay = motion.state, self.friction * timestep
        width = FS * torch.sqrt(2 * decay * self.thermal_energy(time) / state.masses)
        kicks = width[:, None] * self._noise(state)
        return motion.changed(math.exp(-decay) * state.velocities + kicks)


@dataclass(frozen=True, slots=True)
class Crystals:
    """The exact map of any number of the same harmonic crystal."""

    crystal: HarmonicCrystal
    conservation: Conservation = PERIODIC_ONLY

    @property
    def horizon_fs(self) -> float:
        """Horizon of the crystal."""
        return self.crystal.horizon_fs

    @property
    def device(self) -> torch.device:
        """Device of the crystal."""
        return self.crystal.device

    def check_elements(self, atomic_numbers: Tensor) -> None:
        """Accept whole crystals."""
        if len(atomic_numbers) % len(self.crystal.masses):
            raise ValueError(f"{len(atomic_numbers)} atoms are no whole crystals")

    def raw_forecast(self, state: State) -> tuple[Tensor, Tensor]:
        """Return displacements (Å) and velocities (Å/fs) of each."""
        one, n = self.crystal, len(self.crystal.masses)
        root = one.masses.sqrt()[:, None]
        moved, velocities = (
            (root * (each.reshape(-1, n, 3) - origin)).flatten(1) @ one.modes
            for each, origin in (
                (state.positions, one.reference),
                (state.velocities, torch.zeros(())),
            )
        )
        phase = one.frequencies * one.horizon_fs
        cosine, sine = torch.cos(phase), torch.sin(phase)
        slope = one.horizon_fs * torch.sinc(phase / torch.pi)
        changes = (
            (cosine - 1) * moved + slope * velocities,
            cosine * velocities - one.frequencies * sine * moved,
        )
        displacements, faster = (
            ((each @ one.modes.T).reshape(-1, n, 3) / root).reshape(-1, 3)
            for each in changes
        )
        return displacements, faster


@dataclass(frozen=True, slots=True)
class Energies:
    """Independent samples at a temperature, eV."""

    temperature_K: float
    kinetic: np.ndarray
    potential: np.ndarray


@dataclass(frozen=True, slots=True)
class Scores:
    """What physical_validation finds.

    Attributes
    ----------
    mean, width : float
        Of the kinetic energy at the lower temperature, standard errors from the truth.
    p : float
        Of its whole distribution.
    potential, total : float
        Slopes of the logarithms of ratios, standard errors from the truth.
    """

    mean: float
    width: float
    p: float
    potential: float
    total: float

    @property
    def passes(self) -> bool:
        """Whether nothing is wrong."""
        z = (self.mean, self.width, self.potential, self.total)
        return max(map(abs, z)) < LARGEST_Z and self.p > LEAST_P


def right(temperature_K: float) -> dict[str, ThermostatMaker]:
    """Return the thermostats of the package."""
    fs = units.fs
    return {
        "CSVR": lambda rng: CSVR(temperature_K, 14 * fs, rng),
        "Langevin": lambda rng: Langevin(temperature_K, 1 / (14 * fs), rng),
        "AdaptiveLangevin": lambda rng: AdaptiveLangevin(
            temperature_K, 1 / (20 * fs), 100 * fs, rng
        ),
        "Langevin, then CSVR": lambda rng: [
            Langevin(temperature_K, 1 / (2000 * fs), rng),
            CSVR(temperature_K, 14 * fs, rng),
        ],
    }


def wrong(temperature_K: float) -> dict[str, ThermostatMaker]:
    """Return thermostats that must fail."""
    fs = units.fs
    return {
        "CSVR, 2 % too hot": lambda rng: CSVR(1.02 * temperature_K, 14 * fs, rng),
        "Berendsen": lambda rng: Berendsen(temperature_K, 14 * fs, rng),
        "Langevin, noise of Euler": lambda rng: EulerLangevin(
            temperature_K, 1 / (14 * fs), rng
        ),
    }


def crystal() -> tuple[HarmonicCrystal, Any]:
    """Return the model and its Atoms."""
    return HarmonicCrystal.cubic(N_SIDE)


def equilibrium(temperature_K: float, rng: np.random.Generator) -> Any:
    """Return a crystal with canonical positions and momenta."""
    model, atoms = crystal()
    thermal = units.kB * temperature_K
    omega = model.frequencies.numpy() / FS
    moving = omega > 0
    q = np.where(moving, rng.standard_normal(len(omega)) * math.sqrt(thermal), 0.0)
    q[moving] /= omega[moving]
    u = (model.modes.numpy() @ q).reshape(-1, 3) / np.sqrt(atoms.get_masses())[:, None]
    atoms.positions += u
    draw_momenta(atoms, temperature_K, rng, PERIODIC_ONLY)
    return atoms


def sampled(
    make: ThermostatMaker, temperature_K: float, samples: int, seed: int
) -> Energies:
    """Return energies of replicas, `samples` of each."""
    model, _ = crystal()
    rng = np.random.default_rng(seed)
    systems = [equilibrium(temperature_K, rng) for _ in range(N_REPLICAS)]
    replicas = Replicas(systems, Crystals(model), thermostat=make, seed=seed)
    kinetic, potential = [], []
    replicas.run(10 * INTERVAL)
    for _ in range(samples):
        replicas.run(INTERVAL)
        kinetic.append([atoms.get_kinetic_energy() for atoms in systems])
        potential.append([model.potential_energy(atoms) for atoms in systems])
    return Energies(temperature_K, np.array(kinetic), np.array(potential))


def correlation(values: np.ndarray) -> float:
    """Return the correlation of neighbouring samples of a replica."""
    apart = values - values.mean()
    return float((apart[1:] * apart[:-1]).mean() / apart.var())


def data_of(energies: Energies, n_held: int = 3) -> pv.data.SimulationData:
    """Return what physical_validation wants, in eV, Å, fs and K."""
    _, atoms = crystal()
    volume = atoms.get_volume()
    kinetic, potential = energies.kinetic.ravel(), energies.potential.ravel()
    return pv.data.SimulationData(
        units=pv.data.UnitData(
            kb=units.kB,
            energy_conversion=EV_IN_KJ_MOL,
            length_conversion=0.1,
            volume_conversion=1e-3,
            temperature_conversion=1.0,
            pressure_conversion=1 / BAR_IN_EV_A3,
            time_conversion=1e-3,
        ),
        system=pv.data.SystemData(
            natoms=len(atoms),
            nconstraints=0,
            ndof_reduction_tra=n_held,
            ndof_reduction_rot=0,
        ),
        ensemble=pv.data.EnsembleData(
            "NVT",
            natoms=len(atoms),
            volume=volume,
            temperature=energies.temperature_K,
        ),
        observables=pv.data.ObservableData(
            kinetic_energy=kinetic,
            potential_energy=potential,
            total_energy=kinetic + potential,
            volume=np.full(len(kinetic), volume),
        ),
    )


def scores(cold: Energies, hot: Energies, n_held: int = 3) -> Scores:
    """Return what physical_validation finds."""
    low, high = data_of(cold, n_held), data_of(hot, n_held)
    settings: dict[str, Any] = {"verbosity": 0, "data_is_uncorrelated": True}
    mean, width = pv.kinetic_energy.distribution(
        low, strict=False, bootstrap_seed=1, **settings
    )
    p = pv.kinetic_energy.distribution(low, strict=True, **settings)
    potential, total = (
        _slope(low, high, total_energy=total, **settings) for total in (False, True)
    )
    return Scores(float(mean), float(width), float(p), potential, total)


def _slope(*data: pv.data.SimulationData, **settings: Any) -> float:
    """Return how far the slope is from the truth, standard errors."""
    try:
        return float(pv.ensemble.check(*data, **settings)[0])
    except pv.util.error.InputError:  # distributions too narrow to have a ratio
        return math.inf


def both(
    thermostats: Callable[[float], dict[str, ThermostatMaker]], name: str, samples: int
) -> tuple[Energies, Energies]:
    """Return samples at both temperatures."""
    cold, hot = (
        sampled(thermostats(kelvin)[name], kelvin, samples, seed)
        for seed, kelvin in enumerate((COLD_K, HOT_K), start=1)
    )
    return cold, hot


def row(name: str, found: Scores, verdict: str) -> str:
    """Return a row of the table."""
    return (
        f"| {name} | {found.mean:.1f} | {found.width:.1f} | {found.p:.2g} | "
        f"{found.potential:.1f} | {found.total:.1f} | {verdict} |"
    )


def main(
    samples: Annotated[int, typer.Option(help="Of each replica.")] = 60,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Print a row for each thermostat; fail where a verdict is not the right one."""
    torch.set_num_threads(1)
    print("| thermostat | mean | width | p | potential | total | verdict |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    rows: dict[str, Any] = {}
    cases = [(name, right, True) for name in right(COLD_K)]
    cases += [(name, wrong, False) for name in wrong(COLD_K)]
    for name, thermostats, is_right in cases:
        cold, hot = both(thermostats, name, samples)
        counts = {name: (3, is_right)}
        if name == "CSVR":
            counts["CSVR, counted as 3 N"] = (0, False)
        for label, (n_held, expected) in counts.items():
            found = scores(cold, hot, n_held)
            verdict = "passes" if found.passes else "fails"
            print(row(label, found, verdict), flush=True)
            neighbours = correlation(cold.potential + cold.kinetic)
            plain = {
                k: v if math.isfinite(v) else None for k, v in asdict(found).items()
            }
            rows[label] = plain | {
                "passes": found.passes,
                "right": expected,
                "correlation": neighbours,
            }
    if out is not None:
        values = {"samples": samples * N_REPLICAS, "thermostats": rows}
        out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(any(one["passes"] != one["right"] for one in rows.values()))


if __name__ == "__main__":
    typer.run(main)
