"""The network in one program against its layers with torch operations around them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import join, needs_compiler, random_state, relative_error, small_model

from trajcast_ase.network.cpu.network import CompiledNetwork
from trajcast_ase.network.cpu.product import MIN_EDGES_PER_THREAD
from trajcast_ase.network.graph import NetworkInputs
from trajcast_ase.network.routes import Routes

pytestmark = needs_compiler
CELL = 4.5 * np.eye(3)


def prepared(state, encoding="thermal", **changes):
    """Return a network, what it reads of a state, and its program."""
    network = small_model(encoding, torch.float32, n_channels=8, **changes)
    network.set_backend("cpp")
    with torch.no_grad():
        near = network.neighborhood(state)
        inputs = NetworkInputs(
            network.species_index(state.atomic_numbers),
            state.velocities,
            near.edges.vectors,
            Routes.of_edges(near.edges, state.n_atoms),
            near.around,
        )
        return network, inputs, network.ready_layers()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoding": "direction"},
        {"encoding": "direction", "lmax": 3, "n_layers": 1},
        {"lmax": 1, "n_layers": 3},
        {"velocity_saturation": None},
        {"largest_speeds": (0.02, 0.005, 0.003)},
        {"surroundings_cutoff": 5.0},
        {"surroundings_cutoff": 5.0, "lmax": 3, "n_layers": 1},
        {"parity": "natural"},
    ],
    ids=lambda changes: " ".join(f"{k} {v}" for k, v in changes.items()) or "thermal",
)
@torch.no_grad()
def test_program_agrees_with_torch(changes):
    state = random_state(np.random.default_rng(0), 11, cell=CELL, pbc=True)
    network, inputs, program = prepared(state, **{"n_layers": 2} | changes)
    if inputs.around is None and network.surroundings is not None:
        around = torch.randn(11, (network.config.lmax + 1) ** 2, 8)
        inputs = replace(inputs, around=around)
    assert isinstance(program, CompiledNetwork)
    expected = program.ready(network, inputs)
    assert relative_error(program(network, inputs), expected) < 3e-6


@pytest.mark.parametrize("n_atoms", [1, 2])
@torch.no_grad()
def test_atoms_without_neighbors_or_velocity(n_atoms):
    state = random_state(np.random.default_rng(1), n_atoms)
    resting = state.moved(50.0 * state.positions, 0.0 * state.velocities)
    for encoding in ("thermal", "direction"):
        network, inputs, program = prepared(resting, encoding)
        assert len(inputs.vectors) == 0
        expected = program.ready(network, inputs)
        torch.testing.assert_close(program(network, inputs), expected)
        assert bool(torch.isfinite(expected).all())


@torch.no_grad()
@pytest.mark.parametrize("largest", [(), (0.02, 0.005, 0.003)])
def test_velocities_that_are_not_finite_end_nothing(largest):
    state = random_state(np.random.default_rng(2), 4)
    network, inputs, program = prepared(state, largest_speeds=largest)
    inputs.velocities[1] = torch.nan
    assert bool(program(network, inputs)[1].isnan().all())


@torch.no_grad()
def test_neither_threads_nor_company_change_a_bit():
    state = random_state(np.random.default_rng(3), 40, cell=CELL, pbc=True)
    network, inputs, program = prepared(state)
    assert len(inputs.vectors) > 3 * MIN_EDGES_PER_THREAD
    results, n_threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(program(network, inputs))
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(results[1], results[0])
    assert torch.equal(results[2], results[0])
    other = random_state(np.random.default_rng(4), 7, cell=CELL, pbc=True)
    _, both, _ = prepared(join([other, state]))
    assert torch.equal(program(network, both)[7:], results[0])


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("species", "species must be contiguous, torch.int64"),
        ("velocities", "velocities must be contiguous, torch.float64"),
        ("vectors", r"edges have shape \(\d+, 2\)"),
        ("around", "needs the sums over its surroundings"),
        ("senders", "senders have shape"),
    ],
)
@torch.no_grad()
def test_arrays_that_do_not_fit_are_refused(name, match):
    state = random_state(np.random.default_rng(5), 6, cell=CELL, pbc=True)
    network, inputs, program = prepared(state, surroundings_cutoff=5.0)
    fewer = replace(inputs.routes, senders=inputs.routes.senders[1:])
    changes = {
        "species": {"species": inputs.species.int()},
        "velocities": {"velocities": inputs.velocities.float()},
        "vectors": {"vectors": inputs.vectors[:, :2].contiguous()},
        "around": {"around": None},
        "senders": {"routes": fewer},
    }
    with pytest.raises(ValueError, match=match):
        program(network, replace(inputs, **changes[name]))
