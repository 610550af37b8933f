"""What a stride of a small system costs beside the network, part by part.

    python benchmarks/speed/small.py
    python benchmarks/speed/small.py --model ethanol.trajcast --structure ethanol.xyz

A run as users make it, with the recommended thermostats and the default guards, takes
turns with its parts, each called alone. In turns, since what follows other code finds
cold caches: repeated alone, a part takes half to two thirds of its time. "rest" is what
the whole run takes beyond its parts. CPU time of one thread, lower quartiles.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from ase.io import read
from clock import Settings, race

from trajcast_ase import TrajCast, load_model
from trajcast_ase.conservation import com_velocity, conserve_with_bodies
from trajcast_ase.data import paracetamol
from trajcast_ase.guards.default import default_guards
from trajcast_ase.guards.watch import Watch
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import state_from_atoms
from trajcast_ase.thermostats.thermostat import thermalize

STRIDES = 20
"""Of the whole run between two readings of the clock."""
PARTS = ("neighbors", "network", "conservation", "guards", "thermostats")


def calls(
    model: Forecaster, dynamics: TrajCast, temperature_K: float
) -> dict[str, Callable[[], object]]:
    """Return the whole run, and the parts of a stride from its present state."""
    atoms, rule = dynamics.atoms.copy(), model.conservation
    state = state_from_atoms(atoms)
    baths = model.recommended_thermostat(temperature_K, np.random.default_rng(1))
    watch = Watch(default_guards(atoms, model, baths))
    drift = com_velocity(state)[state.system_index]
    with torch.no_grad():
        raw = model.raw_forecast(state.moved(state.positions, state.velocities - drift))
        near = model.neighborhood(state)
    moves, velocities, bodies = conserve_with_bodies(
        state, *raw, model.horizon_fs, rule
    )
    after = state.moved(state.positions + moves, velocities)

    def network() -> None:
        with torch.no_grad():
            model(state.atomic_numbers, state.velocities, near)

    def conservation() -> None:
        com_velocity(state)
        conserve_with_bodies(state, *raw, model.horizon_fs, rule)

    return {
        "whole": lambda: dynamics.run(STRIDES),
        "neighbors": lambda: find_edges(state, model.config.cutoff),
        "network": network,
        "conservation": conservation,
        "guards": lambda: watch.look(model, state, after, (1,)),
        "thermostats": lambda: thermalize(
            baths, after, rule, time=0.0, timestep=dynamics.dt, bodies=bodies
        ),
    }


def main(
    model: Annotated[str, typer.Option(help="Name or file.")] = "paracetamol-7fs",
    structure: Annotated[
        Path | None, typer.Option(help="Isolated molecule; default: paracetamol.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="K.")] = 300.0,
    turns: Annotated[int, typer.Option(min=4)] = 300,
) -> None:
    """Print the time of a stride and of its parts, µs."""
    settings = Settings((), "cpu", (1,), "cpu", turns, seconds=60.0)
    settings.begin()
    network = load_model(model)
    atoms = paracetamol() if structure is None else read(structure)
    draw_momenta(atoms, temperature, np.random.default_rng(0), network.conservation)
    thermostat = network.recommended_thermostat(temperature, np.random.default_rng(1))
    dynamics = TrajCast(atoms, network, thermostat=thermostat)
    dynamics.run(STRIDES)
    times, _ = race(calls(network, dynamics, temperature), settings)
    found = {name: 1e6 * np.percentile(t.seconds, 25) for name, t in times.items()}
    found["whole"] /= STRIDES
    found["rest"] = found["whole"] - sum(found[name] for name in PARTS)
    print(f"{network.name}, {len(atoms)} atoms, backend {network.backend.name}")
    for name in ("whole", *PARTS, "rest"):
        print(f"{name:13s} {found[name]:8.1f} µs")


if __name__ == "__main__":
    typer.run(main)
