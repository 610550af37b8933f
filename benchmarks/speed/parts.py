"""What ``run.py`` times: bare strides, the parts of a stride, and whole runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from ase import units
from systems import TEMPERATURE_K, Case

from trajcast_ase import CSVR, TrajCast
from trajcast_ase.conservation import com_velocity, conserve
from trajcast_ase.constraints import Constraints
from trajcast_ase.dynamics.mirror import Mirror
from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.network.neighborhood import Neighborhood, edge_reach
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.thermostats.thermostat import thermalize

INTERVALS = (1, 10, 100)
"""Of the observer of whole runs, strides."""
LONGEST_TURN = 20.0
"""A run of the longest interval that would take more seconds is left out."""
NO_BOND = 0.5
"""Å; no two atoms come as close."""


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
    with torch.no_grad():
        near = model.neighborhood(state)
    cutoff = edge_reach(model, near.around)
    none = replace(near, edges=find_edges(state, NO_BOND))
    thermostat = CSVR(TEMPERATURE_K, case.taut_fs * units.fs, np.random.default_rng(3))
    atoms = case.atoms()
    mirror = Mirror(atoms, model.device, _accept)
    displacements = 0.01 * state.velocities

    def network(around: Neighborhood) -> None:
        with torch.no_grad():
            model(state.atomic_numbers, state.velocities, around)

    def surroundings() -> None:
        with torch.no_grad():
            model.surroundings_sums(state)

    def conservation() -> None:
        com_velocity(state)
        rule = model.conservation
        conserve(state, displacements, state.velocities, model.horizon_fs, rule)

    def sync() -> None:
        mirror.pull(atoms)
        mirror.push(atoms)

    return {
        "neighbors": lambda: find_edges(state, cutoff),
        "surroundings": surroundings,
        "network": partial(network, near),
        "node": partial(network, none),
        "conservation": conservation,
        "thermostat": lambda: thermalize(
            [thermostat], state, model.conservation, time=0.0, timestep=1.0
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
