"""Tolerances, random systems and small models that the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from trajcast_ase.data import ethanol, paracetamol, quartz, water
from trajcast_ase.kinetics import kinetic_energies
from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.state import State

# Largest deviation by floating-point type and kind of claim. A looser value in a test
# needs a comment. "published" is in Å, the others are relative.
TOLERANCES: dict[torch.dtype, dict[str, float]] = {
    torch.float64: {
        "twin": 1e-12,
        "momentum": 1e-13,
        "angular_momentum": 1e-12,
        "symmetry": 1e-10,
        "translation": 1e-10,
        "batch": 1e-12,
        "published": 1e-8,
    },
    torch.float32: {
        "twin": 1e-5,
        "momentum": 1e-6,
        "angular_momentum": 1e-5,
        "symmetry": 1e-4,
        "translation": 1e-4,
        "batch": 1e-5,
        "published": 1e-5,
    },
}


def kinetic_energy(state: State) -> float:
    """Return the kinetic energy of all systems together, eV."""
    return float(kinetic_energies(state).sum())


# For tests about the kernel itself.
needs_compiler = pytest.mark.usefixtures("compiler")

# For tests that hold whoever makes the strides.
by_either_engine = pytest.mark.usefixtures("engine")

# Structures of the models that come with the package.
BUNDLED: dict[str, Callable[[], Atoms]] = {
    "ethanol-gfn2": ethanol,
    "paracetamol-7fs": paracetamol,
    "quartz-30fs": quartz,
    "quartz-30fs-bulk": quartz,
    "water-5fs": water,
}

ELEMENTS = (1, 6, 8)
MASSES = {1: 1.008, 6: 12.011, 8: 15.999}
# Rms speed per component at 300 K, Å/fs.
SCALES = {1: 0.0157, 6: 0.00456, 8: 0.00395}


@contextmanager
def float64_twins() -> Iterator[None]:
    """Build e3nn modules in float64: they store constants in the default type."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # noqa: TID251  e3nn offers no argument
    try:
        yield
    finally:
        torch.set_default_dtype(previous)  # noqa: TID251


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest deviation relative to the largest expected magnitude."""
    assert actual.shape == expected.shape
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).abs().max() / expected.abs().max().clamp(1e-300))


def to_e3nn(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Return channels-last features as e3nn's flat blocks of [channel, component]."""
    return torch.cat([b.transpose(1, 2).flatten(1) for b in x.split(dims, dim=1)], 1)


def from_e3nn(flat: Tensor, dims: Sequence[int], n_channels: int) -> Tensor:
    """Return the inverse of :func:`to_e3nn`."""
    blocks = flat.split([n_channels * dim for dim in dims], dim=1)
    shaped = [
        block.reshape(len(flat), n_channels, dim).transpose(1, 2)
        for block, dim in zip(blocks, dims, strict=True)
    ]
    return torch.cat(shaped, dim=1)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return seeded normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def make_state(
    positions: np.ndarray,
    velocities: np.ndarray | None = None,
    numbers: Sequence[int] | None = None,
    *,
    masses: Sequence[float] | None = None,
    cell: np.ndarray | None = None,
    pbc: Sequence[bool] | bool = False,
) -> State:
    """Return the state of one system from arrays in Å, Å/fs and amu."""
    positions = np.array(positions, dtype=float).reshape(-1, 3)
    n_atoms = len(positions)
    numbers = [6] * n_atoms if numbers is None else numbers
    masses = [MASSES[number] for number in numbers] if masses is None else masses
    return State(
        positions=torch.tensor(positions),
        velocities=torch.tensor(
            np.zeros_like(positions) if velocities is None else np.asarray(velocities)
        ).double(),
        masses=torch.tensor(np.asarray(masses, dtype=float)),
        atomic_numbers=torch.tensor(np.asarray(numbers, dtype=np.int64)),
        cell=torch.tensor(np.zeros((3, 3)) if cell is None else np.array(cell))[None],
        pbc=torch.tensor(np.broadcast_to(np.asarray(pbc, dtype=bool), 3).copy())[None],
        system_index=torch.zeros(n_atoms, dtype=torch.int64),
    )


def random_state(
    rng: np.random.Generator,
    n_atoms: int = 9,
    *,
    cell: np.ndarray | None = None,
    pbc: Sequence[bool] | bool = False,
    drift: Sequence[float] = (0.0, 0.0, 0.0),
) -> State:
    """Return atoms on a jittered grid (or in a cell) at about 300 K plus `drift`."""
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1)
    chosen = rng.permutation(grid.reshape(-1, 3))[:n_atoms]
    scaled = (chosen + rng.uniform(0.25, 0.75, (n_atoms, 3))) / side
    positions = scaled @ (1.6 * side * np.eye(3) if cell is None else cell)
    numbers = rng.choice(ELEMENTS, n_atoms)
    scales = np.array([SCALES[number] for number in numbers])
    velocities = scales[:, None] * rng.normal(size=(n_atoms, 3)) + np.asarray(drift)
    return make_state(positions, velocities, numbers, cell=cell, pbc=pbc)


def triclinic_cell(
    heights: Sequence[float], angles: Sequence[float], *, left_handed: bool = False
) -> np.ndarray | None:
    """Return the cell with these plane distances (Å) and angles, None if impossible."""
    alpha, beta, gamma = np.cos(np.radians(angles))
    sine = np.sqrt(1.0 - gamma**2)
    y = (alpha - beta * gamma) / sine
    z_squared = 1.0 - beta**2 - y**2
    if z_squared < 0.01:
        return None
    unit = np.array([[1, 0, 0], [gamma, sine, 0], [beta, y, np.sqrt(z_squared)]])
    unit_heights = 1.0 / np.linalg.norm(np.linalg.inv(unit), axis=0)
    cell = unit * (np.asarray(heights) / unit_heights)[:, None]
    return cell[[1, 0, 2]] if left_handed else cell


def join(states: Sequence[State]) -> State:
    """Return one batch of single systems."""
    parts = {
        name: torch.cat([getattr(state, name) for state in states])
        for name in State.__slots__
        if name != "system_index"
    }
    sizes = torch.tensor([state.n_atoms for state in states])
    index = torch.repeat_interleave(torch.arange(len(states)), sizes)
    return State(**parts, system_index=index)


def rotated(state: State, matrix: Tensor) -> State:
    """Return `state` after the orthogonal map `matrix` of space."""
    return replace(
        state,
        positions=state.positions @ matrix.T,
        velocities=state.velocities @ matrix.T,
        cell=state.cell @ matrix.T,
    )


def random_rotation(rng: np.random.Generator) -> Tensor:
    """Return a rotation drawn uniformly."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return torch.tensor(q * np.sign(np.linalg.det(q)))


def small_config(encoding: str = "thermal", **changes: object) -> ForecasterConfig:
    """Return a configuration of a few thousand parameters."""
    thermal = encoding == "thermal"
    values: dict[str, object] = {
        "elements": ELEMENTS,
        "horizon_fs": 7.0,
        "cutoff": 3.5,
        "displacement_rms": 0.03,
        "velocity_rms": 0.006,
        # Far below the true number: with random weights, neighbors matter little.
        "avg_num_neighbors": 1.0,
        "n_channels": 8,
        "lmax": 2,
        "n_layers": 2,
        "n_edge_rbf": 5,
        "edge_mlp": (6,),
        "n_velocity_rbf": 3,
        "velocity_mlp": (5,),
        "velocity_encoding": encoding,
        "velocity_max": 4.0 if thermal else 0.06,
        "velocity_scales": tuple(SCALES[z] for z in ELEMENTS) if thermal else (),
    }
    return ForecasterConfig(**(values | changes))  # type: ignore[arg-type]


def small_model(
    encoding: str = "thermal",
    dtype: torch.dtype = torch.float64,
    *,
    seed: int = 1,
    **changes: object,
) -> Forecaster:
    """Return a model with seeded random weights that take no gradients."""
    generator = torch.Generator().manual_seed(seed)
    model = Forecaster(small_config(encoding, **changes), generator=generator)
    return model.requires_grad_(requires_grad=False).to(dtype)
