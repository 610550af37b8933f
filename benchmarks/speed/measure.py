"""Jobs of ``run.py``, each for a process of its own; rows of numbers come back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import torch
from clock import Settings, Times, on_threads, race
from conventional_md import lammps_step, mace_step
from memory import peak_memory, reset_peak
from parts import parts, runs, strides
from systems import Case, Network, contestants

from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import state_from_atoms
from trajcast_ase.units import ns_per_day

Row = dict[str, Any]
Entry = tuple[str, int]
"""A contestant and its number of threads."""

RUNS_PER_WHOLE_RUN = 5
"""Turns of the bare stride for one turn of the whole runs, which take 111 strides."""


def measure(
    case: Case, network: Network, settings: Settings, *, with_parts: bool = True
) -> list[Row]:
    """Return a row of each contestant; ours with its parts and whole runs."""
    settings.begin()
    models, reasons = contestants(case, network, settings.rivals, settings.device)
    ours = models["ours"]
    assert isinstance(ours, Forecaster)  # noqa: S101  narrows the type
    state = state_from_atoms(case.atoms(), settings.device)
    calls = entries(strides(models, state), settings)
    may_fail = [entry for entry in calls if entry[0] != "ours"]
    with TemporaryDirectory() as folder:
        # Code from an earlier run would make compilation look quick.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        times, failures = race(calls, settings, may_fail=may_fail)
    n_edges = len(find_edges(state, ours.config.cutoff).receivers)
    common = described(case, network) | {"edges": n_edges}
    rows = []
    for entry in calls:
        row = common | {"contestant": entry[0], "threads": entry[1]}
        if entry in times:
            row |= _step(times[entry], ours.horizon_fs, state.n_atoms, n_edges)
            row["times_ours"] = times[entry].median / times["ours", entry[1]].median
        rows.append(row | {"note": failures.get(entry, "")})
    if with_parts:
        for row in (row for row in rows if row["contestant"] == "ours"):
            row.update(_parts(ours, case, row["threads"], settings))
    rows += [common | {"contestant": name, "note": reasons[name]} for name in reasons]
    return rows


def entries(
    calls: dict[str, Callable[[], object]], settings: Settings
) -> dict[Entry, Callable[[], object]]:
    """Return the calls of each contestant for each number of threads."""
    return {
        (name, n_threads): on_threads(n_threads, call)
        for n_threads in settings.threads
        for name, call in calls.items()
        # Compiled code is bound to its number of threads.
        if name != "compile" or n_threads == settings.threads[0]
    }


def described(case: Case, network: str) -> Row:
    """Return the columns that say what is timed."""
    return {
        "system": case.name,
        "family": case.family,
        "atoms": case.n_atoms,
        "network": network,
    }


def _step(times: Times, horizon_fs: float, n_atoms: int, n_edges: int) -> Row:
    """Return the columns of the time of a step."""
    return times.columns() | {
        "ns_per_day": ns_per_day(times.median, horizon_fs),
        "us_per_atom": 1e6 * times.median / n_atoms,
        "ns_per_edge": 1e9 * times.median / n_edges,
    }


def _parts(model: Forecaster, case: Case, n_threads: int, settings: Settings) -> Row:
    """Return the columns of the parts and of whole runs."""
    torch.set_num_threads(n_threads)
    state = state_from_atoms(case.atoms(), settings.device)
    times, _ = race(parts(model, case, state), settings)
    median = {name: 1e3 * found.median for name, found in times.items()}
    median["convolution"] = median["network"] - median["node"]
    few = replace(settings, n_runs=max(1, settings.n_runs // RUNS_PER_WHOLE_RUN))
    summed = ("neighbors", "surroundings", "network", "conservation")
    step = sum(median[name] for name in summed) / 1e3
    whole, _ = race(runs(model, case, step), few, n_warmup=0)
    row = {f"{name}_ms": value for name, value in median.items()}
    for interval, found in whole.items():
        row[f"run_{interval}_ms"] = 1e3 * found.median / interval
    return row


def memory(case: Case, network: Network, contestant: str, settings: Settings) -> float:
    """Return the peak memory, MiB, of a process that makes its first stride.

    Without a GPU it includes what Python and torch hold without any system, some
    hundred MiB.
    """
    settings.begin()
    rivals = () if contestant == "ours" else (contestant,)
    models, _ = contestants(case, network, rivals, settings.device)
    state = state_from_atoms(case.atoms(), settings.device)
    step = strides(models, state)[contestant]
    reset_peak(settings.device)
    step()
    return peak_memory(settings.device)


def others(case: Case, settings: Settings) -> list[Row]:
    """Return rows of conventional MD; LAMMPS runs on one core."""
    settings.begin()
    rows = []
    for name, found in (
        ("LAMMPS, force field", lammps_step(case, settings)),
        ("MACE, VelocityVerlet", mace_step(case, settings)),
    ):
        row = described(case, "") | {"contestant": name}
        if isinstance(found, str):
            rows.append(row | {"note": found})
            continue
        seconds, timestep = found
        row |= {"step_ms": 1e3 * seconds, "steps_per_s": 1.0 / seconds}
        row |= {"us_per_atom": 1e6 * seconds / case.n_atoms}
        row |= {"ns_per_day": ns_per_day(seconds, timestep)}
        rows.append(row | {"note": f"{timestep} fs steps"})
    return rows
