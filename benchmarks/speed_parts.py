"""Clocks of ``speed.py``: turns, the parts of a stride, whole runs and memory."""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections.abc import Callable, Container, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from ase import units
from speed_systems import TEMPERATURE_K, Case

from trajcast_ase import CSVR, TrajCast
from trajcast_ase.conservation import com_velocity, conserve
from trajcast_ase.constraints import Constraints
from trajcast_ase.mirror import Mirror
from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.thermostats import thermalize

Clock = Literal["wall", "cpu"]
Key = TypeVar("Key", bound=Hashable)

INTERVALS = (1, 10, 100)
"""Of the observer of whole runs, strides."""
LONGEST_TURN = 60.0
"""A run of the longest interval that would take more seconds is left out."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    rivals : tuple of str
    device : str
    threads : int
    clock : "wall" or "cpu"
    n_runs : int
    """

    rivals: tuple[str, ...]
    device: str
    threads: int
    clock: Clock
    n_runs: int

    def begin(self) -> None:
        """Prepare this process."""
        # TorchScript, which e3nn writes, is deprecated; that is no news here.
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        torch.set_num_threads(self.threads)

    def reader(self) -> Callable[[], float]:
        """Return what reads the time, s, after the device has finished its work."""
        read = time.perf_counter if self.clock == "wall" else time.process_time
        if not self.device.startswith("cuda"):
            return read

        def synchronized() -> float:
            torch.cuda.synchronize()
            return read()

        return synchronized


def race(
    calls: Mapping[Key, Callable[[], object]],
    read: Callable[[], float],
    n_runs: int,
    n_warmup: int = 2,
    may_fail: Container[Key] = (),
) -> tuple[dict[Key, np.ndarray], dict[Key, str]]:
    """Return the seconds of `n_runs` calls of each, in turns, and who failed why.

    Load that comes and goes on the machine meets all alike. The first `n_warmup` calls
    of each, which may compile, are not counted. One of `may_fail` that raises an
    exception drops out.
    """
    times: dict[Key, list[float]] = {key: [] for key in calls}
    failures: dict[Key, str] = {}
    for run in range(n_runs + n_warmup):
        for key, call in calls.items():
            if key in failures:
                continue
            start = read()
            try:
                call()
            except Exception as error:  # whatever a compiler raises
                if key not in may_fail:
                    raise
                first_line = str(error).strip().partition("\n")[0]
                failures[key] = f"{type(error).__name__}: {first_line}"
                continue
            if run >= n_warmup:
                times[key].append(read() - start)
    measured = {key: np.array(t) for key, t in times.items() if key not in failures}
    return measured, failures


def quartiles(times: np.ndarray) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile."""
    first, median, third = np.percentile(times, (25.0, 50.0, 75.0)).tolist()
    return first, median, third


def strides(
    models: Mapping[str, ForecastModel], state: State
) -> dict[str, Callable[[], State]]:
    """Return a bare stride of each model: neighbors, network, conservation."""

    def bare(model: ForecastModel) -> State:
        with torch.no_grad():
            return stride(model, state)

    return {name: partial(bare, model) for name, model in models.items()}


def parts(
    model: Forecaster, case: Case, state: State
) -> dict[str, Callable[[], object]]:
    """Return the parts of a stride in a run, each as a call.

    "node" is the network without any edge; what it takes more with its edges is the
    edge convolution. That holds for every backend, whatever its kernels merge.
    """
    edges = find_edges(state, model.config.cutoff)
    none = Edges(edges.receivers[:0], edges.senders[:0], edges.vectors[:0])
    thermostat = CSVR(TEMPERATURE_K, case.taut_fs * units.fs, np.random.default_rng(3))
    atoms = case.atoms()
    mirror = Mirror(atoms, model.device, _accept)
    displacements = 0.01 * state.velocities

    def network(edges: Edges) -> None:
        with torch.no_grad():
            model(state.atomic_numbers, state.velocities, edges)

    def conservation() -> None:
        com_velocity(state)
        rule = model.conservation
        conserve(state, displacements, state.velocities, model.horizon_fs, rule)

    def sync() -> None:
        mirror.pull(atoms)
        mirror.push(atoms)

    return {
        "neighbors": lambda: find_edges(state, model.config.cutoff),
        "network": partial(network, edges),
        "node": partial(network, none),
        "conservation": conservation,
        "thermostat": lambda: thermalize(
            thermostat, state, model.conservation, time=0.0, timestep=1.0
        ),
        "sync": sync,
    }


def _accept(state: State, constraints: Constraints) -> None:
    """Take over every state: the same one all the time."""


def runs(
    model: Forecaster, case: Case, seconds_per_step: float
) -> dict[int, Callable[[], object]]:
    """Return runs under ASE with CSVR, from one call of the observer to the next.

    Parameters
    ----------
    model : Forecaster
    case : Case
    seconds_per_step : float
        Of the bare stride; tells which runs would be too long.
    """
    calls: dict[int, Callable[[], object]] = {}
    for interval in INTERVALS:
        if interval * seconds_per_step > LONGEST_TURN:
            break
        rng = np.random.default_rng(4)
        thermostat = CSVR(TEMPERATURE_K, case.taut_fs * units.fs, rng)
        dynamics = TrajCast(case.atoms(), model, thermostat=thermostat)
        dynamics.attach(dynamics.get_temperature, interval)
        calls[interval] = partial(dynamics.run, interval)
    return calls


def peak_memory() -> float:
    """Return the most memory that this process has held so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would include what the process that started this one held.
        lines = status.read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)
