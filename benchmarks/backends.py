"""Time the network's backends against each other, interleaved in one process.

    python benchmarks/backends.py --layers 3 --channels 32 --clusters 10

Prints the CPU time of a training step (forward and backward) and of a forward pass
without gradients for each backend, and their ratio. CPU time of one thread: other load
on the machine changes it least.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.network.backends import BackendChoice
from trajcast_ase.state import State, state_from_atoms

BACKENDS: tuple[BackendChoice, ...] = ("reference", "cpp")
ATOMS_PER_CLUSTER = 20
SPACING = 1.7  # Å, about 14 neighbors within 5 Å as in a molecule of 20 atoms
RMS_SPEED = 0.01  # Å/fs


def build_model(n_layers: int, n_channels: int, n_hidden: int) -> Forecaster:
    """Return a float32 network with random weights."""
    config = ForecasterConfig(
        elements=(1, 6, 7, 8),
        horizon_fs=7.0,
        cutoff=5.0,
        displacement_rms=0.1,
        velocity_rms=RMS_SPEED,
        avg_num_neighbors=14.0,
        n_channels=n_channels,
        n_layers=n_layers,
        edge_mlp=(n_hidden,) * 3,
        velocity_mlp=(n_hidden,) * 3,
        velocity_scales=(RMS_SPEED,) * 4,
    )
    return Forecaster(config, generator=torch.Generator().manual_seed(0)).float()


def build_batch(n_clusters: int) -> State:
    """Return random clusters as one batch, with thermal velocities."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(range(2), range(2), range(5), indexing="ij"), axis=-1)
    batch = []
    for _ in range(n_clusters):
        jitter = rng.uniform(-0.3, 0.3, (ATOMS_PER_CLUSTER, 3))
        atoms = Atoms(
            rng.choice([1, 6, 7, 8], ATOMS_PER_CLUSTER),
            positions=SPACING * grid.reshape(-1, 3) + jitter,
        )
        batch.append(atoms)
    state = state_from_atoms(batch)
    velocities = RMS_SPEED * rng.normal(size=state.positions.shape)
    return state.moved(state.positions, torch.from_numpy(velocities))


def train_step(model: Forecaster, state: State) -> Callable[[], None]:
    """Return a forward and backward pass of the network, neighbors given."""
    edges = find_edges(state, model.config.cutoff)

    def step() -> None:
        model.zero_grad()
        targets = model(state.atomic_numbers, state.velocities, edges)
        (targets**2).mean().backward()

    return step


def forward_pass(model: Forecaster, state: State) -> Callable[[], None]:
    """Return a forward pass without gradients, neighbors given."""
    edges = find_edges(state, model.config.cutoff)

    def step() -> None:
        with torch.no_grad():
            model(state.atomic_numbers, state.velocities, edges)

    return step


def compare(model: Forecaster, step: Callable[[], None], n_runs: int) -> list[float]:
    """Return the median CPU time (ms) of each backend, run in turns."""
    times: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for run in range(n_runs + 1):
        for backend in BACKENDS:
            model.set_backend(backend)
            start = time.thread_time()
            step()
            if run > 0:  # the first one compiles and warms up
                times[backend].append(1e3 * (time.thread_time() - start))
    return [statistics.median(times[backend]) for backend in BACKENDS]


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def main() -> None:
    """Print one row per task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = build_model(options.layers, options.channels, options.hidden)
    batch, single = build_batch(options.clusters), build_batch(1)
    print(f"{processor()}, 1 thread, torch {torch.__version__}, float32")
    print(f"{options.layers} layers, {options.channels} channels, CPU time in ms")
    print(f"{'task':34s} {'atoms':>5s}", *(f"{b:>10s}" for b in BACKENDS), "  ratio")
    for task, state, make in (
        ("training step", batch, train_step),
        ("forward pass without gradients", batch, forward_pass),
        ("forward pass without gradients", single, forward_pass),
    ):
        times = compare(model, make(model, state), options.runs)
        row = " ".join(f"{value:10.2f}" for value in times)
        print(f"{task:34s} {state.n_atoms:5d} {row} {times[0] / times[1]:7.1f}")


if __name__ == "__main__":
    main()
