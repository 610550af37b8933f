"""Sums over all atoms within a cutoff against lists of pairs."""

import numpy as np
import pytest
import torch
from helpers import (
    join,
    make_state,
    needs_compiler,
    random_state,
    relative_error,
    small_model,
    triclinic_cell,
)
from hypothesis import given
from hypothesis import strategies as st

from trajcast_ase.neighbors import FEW_ATOMS, find_edges
from trajcast_ase.network import neighborhood
from trajcast_ase.network.cpu.surroundings import surroundings_sums
from trajcast_ase.network.harmonics import spherical_harmonics
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.inference.tabulated import surroundings_table
from trajcast_ase.state import State

CUTOFF = 6.0
pytestmark = needs_compiler


GRID = Grid.between(0.05, CUTOFF, 8)


def counted(state, species, *, lmax=2):
    """Return sums in which every weight is 1, times the number of the species + 1."""
    values = torch.ones(2, GRID.n_points, (lmax + 1) * 3, dtype=torch.float64)
    values[1] *= 2.0
    return surroundings_sums(state, species, values.flatten(0, 1), GRID, lmax)


def sums_over_pairs(state: State, species: torch.Tensor, lmax=2) -> torch.Tensor:
    edges = find_edges(state, CUTOFF)
    harmonics = spherical_harmonics(edges.vectors, lmax, normalize=True)
    weighted = harmonics * (1.0 + species[edges.senders, None])
    total = torch.zeros(state.n_atoms, (lmax + 1) ** 2, dtype=torch.float64)
    return total.index_add(0, edges.receivers, weighted)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_atoms=st.integers(1, 40),
    scale=st.sampled_from([1.5, 4.0, 9.0]),
)
def test_every_image_counts_once(seed, n_atoms, scale):
    rng = np.random.default_rng(seed)
    cell = None
    while cell is None:
        cell = triclinic_cell(scale * rng.uniform(1.0, 2.0, 3), rng.uniform(50, 130, 3))
    pbc = rng.random(3) < 0.7
    # Far outside of the cell: positions are never wrapped.
    positions = rng.uniform(-2, 3, (n_atoms, 3)) @ cell
    state = make_state(positions, cell=cell, pbc=pbc)
    species = torch.from_numpy(rng.integers(0, 2, n_atoms))
    found = counted(state, species)
    expected = sums_over_pairs(state, species)
    for channel in range(3):
        torch.testing.assert_close(found[:, :, channel], expected, rtol=1e-9, atol=1e-9)


def test_batches_and_lone_atoms():
    rng = np.random.default_rng(3)
    lone = make_state([[0.0, 0.0, 0.0]])
    # An atom that has left its molecule must not cost memory for the space between.
    parted = make_state([[0.0, 0, 0], [1.0, 0, 0], [0, 1e9, 0]])
    cluster = random_state(rng, 9)
    state = join([lone, parted, cluster])
    found = counted(state, torch.zeros(13, dtype=torch.int64), lmax=1)
    assert not found[0].any()
    assert not found[3].any()
    assert found[1, 0, 0] == found[2, 0, 0] == 1.0
    alone = counted(cluster, torch.zeros(9, dtype=torch.int64), lmax=1)
    assert torch.equal(found[4:], alone)


@pytest.mark.parametrize("n_atoms", [FEW_ATOMS, FEW_ATOMS + 1])
def test_few_isolated_atoms_need_no_boxes(n_atoms):
    rng = np.random.default_rng(n_atoms)
    state = make_state(rng.uniform(0, 20, (n_atoms, 3)))
    species = torch.from_numpy(rng.integers(0, 2, n_atoms))
    expected = sums_over_pairs(state, species)
    found = counted(state, species)[:, :, 0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lmax", [1, 2])
def test_weights_of_a_network(lmax):
    model = small_model(lmax=lmax, surroundings_cutoff=CUTOFF, n_surroundings_rbf=6)
    module = model.surroundings
    table = surroundings_table(module, torch.float64)
    state = random_state(np.random.default_rng(1), 12, cell=np.diag([5.0, 6, 7]))
    species = model.species_index(state.atomic_numbers)
    edges = find_edges(state, CUTOFF)
    expected = neighborhood.sums_over_pairs(model, module, species, edges)
    found = surroundings_sums(state, species, table.values, table.grid, lmax)
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_atoms_at_one_place_give_numbers(dtype):
    model = small_model(dtype=dtype, surroundings_cutoff=CUTOFF, n_surroundings_rbf=6)
    state = random_state(np.random.default_rng(6), 5)
    state.positions[1] = state.positions[0]
    with torch.no_grad():
        expected = torch.cat(model.raw_forecast(state), dim=1)
        found = torch.cat(model.set_backend("cpp").raw_forecast(state), dim=1)
    assert bool(expected.isfinite().all())
    assert bool(found.isfinite().all())
    values = torch.ones(3 * GRID.n_points, 6, dtype=dtype).requires_grad_()
    species = model.species_index(state.atomic_numbers)
    sums = surroundings_sums(state, species, values, GRID, 1)
    (slope,) = torch.autograd.grad(sums.square().sum(), values)
    assert bool(slope.isfinite().all())


@pytest.mark.parametrize("lmax", [1, 2])
def test_gradient_of_the_values(lmax):
    rng = np.random.default_rng(2)
    state = make_state(rng.uniform(0, 5, (5, 3)), cell=np.eye(3) * 5.0, pbc=True)
    species = torch.tensor([0, 1, 0, 1, 1])
    shape = (2 * GRID.n_points, (lmax + 1) * 4)
    values = torch.from_numpy(rng.normal(size=shape)).requires_grad_()
    torch.autograd.gradcheck(
        lambda v: surroundings_sums(state, species, v, GRID, lmax),
        values,
        fast_mode=True,
    )


def test_a_table_that_is_too_small_is_refused():
    state, species = random_state(np.random.default_rng(1), 2), torch.tensor([0, 1])
    values = torch.ones(GRID.n_points, 6)
    with pytest.raises(ValueError, match="too small for 2 species at 11 points"):
        surroundings_sums(state, species, values, GRID, 1)


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(5)
    state = make_state(rng.uniform(0, 14, (300, 3)), cell=np.eye(3) * 14.0, pbc=True)
    species, n_threads = torch.zeros(300, dtype=torch.int64), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 4):
            torch.set_num_threads(n)
            values = torch.ones(GRID.n_points, 3 * 48).double().requires_grad_()
            found = surroundings_sums(state, species, values, GRID, 2)
            (slope,) = torch.autograd.grad((found**2).sum(), values)
            results.append(torch.cat([found.flatten(), slope.flatten()]))
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
