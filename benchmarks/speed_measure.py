"""Jobs of ``speed.py``, each for a process of its own; rows of numbers come back."""

from __future__ import annotations

from typing import Any

import numpy as np
from speed_md import lammps_step, mace_step
from speed_parts import (
    Settings,
    parts,
    peak_memory,
    quartiles,
    race,
    runs,
    strides,
)
from speed_systems import Case, Network, contestants, float32_error
from speed_training import training_rows

from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import state_from_atoms
from trajcast_ase.units import ns_per_day

Row = dict[str, Any]

RUNS_PER_WHOLE_RUN = 5
"""Turns of the bare stride for one turn of the whole runs, which take 111 strides."""


def measure(
    case: Case, network: Network, settings: Settings, *, with_parts: bool = True
) -> list[Row]:
    """Return a row of each contestant; ours with its parts and whole runs."""
    settings.begin()
    read = settings.reader()
    error = float32_error(case, network)
    models, reasons = contestants(case, network, settings.rivals, settings.device)
    ours = models["ours"]
    assert isinstance(ours, Forecaster)  # noqa: S101  narrows the type
    state = state_from_atoms(case.atoms(), settings.device)
    n_edges = len(find_edges(state, ours.config.cutoff).receivers)
    times, failures = race(
        strides(models, state), read, settings.n_runs, may_fail=settings.rivals
    )
    horizon = ours.horizon_fs
    rows = []
    for name in (*models, *reasons):
        row = _described(case, network, name) | {"edges": n_edges}
        if name in times:
            row |= _step(times[name], horizon, state.n_atoms, n_edges)
        row["note"] = failures.get(name, "") or reasons.get(name, "")
        rows.append(row)
    for row in rows[1:]:
        if "step_ms" in row:
            row["times_ours"] = row["step_ms"] / rows[0]["step_ms"]
    rows[0]["float32_error"] = error
    if with_parts:
        rows[0] |= _parts(ours, case, settings, float(np.median(times["ours"])))
    return rows


def _described(case: Case, network: str, contestant: str) -> Row:
    return {
        "system": case.name,
        "family": case.family,
        "atoms": len(case.structure()) * case.repeat**3,
        "network": network,
        "contestant": contestant,
    }


def _step(times: np.ndarray, horizon_fs: float, n_atoms: int, n_edges: int) -> Row:
    """Return the columns of the time of a step."""
    q1, median, q3 = quartiles(times)
    return {
        "runs": len(times),
        "step_ms": 1e3 * median,
        "q1_ms": 1e3 * q1,
        "q3_ms": 1e3 * q3,
        "steps_per_s": 1.0 / median,
        "ns_per_day": ns_per_day(median, horizon_fs),
        "us_per_atom": 1e6 * median / n_atoms,
        "ns_per_edge": 1e9 * median / n_edges,
    }


def _parts(model: Forecaster, case: Case, settings: Settings, step: float) -> Row:
    """Return the columns of the parts and of whole runs."""
    read = settings.reader()
    state = state_from_atoms(case.atoms(), settings.device)
    times, _ = race(parts(model, case, state), read, settings.n_runs)
    median = {name: 1e3 * float(np.median(t)) for name, t in times.items()}
    median["convolution"] = median.pop("network") - median["node"]
    n_turns = max(1, settings.n_runs // RUNS_PER_WHOLE_RUN)
    whole, _ = race(runs(model, case, step), read, n_turns, n_warmup=0)
    row = {f"{name}_ms": value for name, value in median.items()}
    for interval, seconds in whole.items():
        row[f"run_{interval}_ms"] = 1e3 * float(np.median(seconds)) / interval
    return row


def memory(case: Case, network: Network, contestant: str, settings: Settings) -> float:
    """Return the peak memory, MiB, of a process that makes three strides.

    It includes what Python and torch hold without any system, some hundred MiB.
    """
    settings.begin()
    rivals = () if contestant == "ours" else (contestant,)
    models, _ = contestants(case, network, rivals, settings.device)
    state = state_from_atoms(case.atoms(), settings.device)
    step = strides(models, state)[contestant]
    for _ in range(3):
        step()
    return peak_memory()


def training(case: Case, network: Network, settings: Settings) -> list[Row]:
    """Return rows of optimizer steps."""
    settings.begin()
    return training_rows(case, network, settings)


def others(case: Case, settings: Settings) -> list[Row]:
    """Return rows of conventional MD."""
    settings.begin()
    read = settings.reader()
    rows = []
    for name, found in (
        ("LAMMPS, force field", lammps_step(case, read)),
        ("MACE, VelocityVerlet", mace_step(case, read)),
    ):
        row = _described(case, "", name)
        if isinstance(found, str):
            rows.append(row | {"note": found})
            continue
        seconds, timestep = found
        row |= {"step_ms": 1e3 * seconds, "steps_per_s": 1.0 / seconds}
        row |= {"us_per_atom": 1e6 * seconds / row["atoms"]}
        row |= {"ns_per_day": ns_per_day(seconds, timestep)}
        rows.append(row | {"note": f"{timestep} fs steps"})
    return rows
