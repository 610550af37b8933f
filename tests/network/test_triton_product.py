"""The product in Triton, its gradients, and sums over the surroundings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import (
    TOLERANCES,
    join,
    make_state,
    normal,
    random_state,
    relative_error,
    small_model,
    triclinic_cell,
)
from product_inputs import gradients, problem, random_edges

from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network.backends import BACKENDS
from trajcast_ase.network.harmonics import spherical_harmonics
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import (
    ProductRule,
    all_irreps,
    dimension,
    harmonics_irreps,
)
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.triton.backend import Triton
from trajcast_ase.network.triton.surroundings import surroundings_sums

pytestmark = pytest.mark.usefixtures("interpreter")
FLOATS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
TRITON = Triton()
CASES = pytest.mark.parametrize(
    ("irreps", "lmax", "n_channels", "parity"),
    [
        (all_irreps(1), 1, 36, "both"),
        (harmonics_irreps(2), 2, 5, "natural"),
        pytest.param(all_irreps(2), 2, 3, "both", marks=pytest.mark.slow),
        pytest.param(all_irreps(3), 3, 2, "both", marks=pytest.mark.slow),
    ],
    ids=["lmax-1", "natural-2", "full-2", "full-3"],
)


def assert_backends_agree(compute, inputs):
    tolerance = TOLERANCES[inputs[0].dtype]["twin"]
    results = []
    for backend in (BACKENDS["reference"], TRITON):
        blocks = compute(backend)
        results.append((*blocks, *gradients(blocks, inputs)))
    for expected, ours in zip(*results, strict=True):
        assert ours.shape == expected.shape
        assert relative_error(ours, expected) < tolerance


@FLOATS
@CASES
def test_convolution_and_its_gradients(irreps, lmax, n_channels, parity, dtype):
    assert_convolutions_agree(irreps, lmax, n_channels, parity, dtype)


@FLOATS
@CASES
def test_convolution_with_weights_from_a_table(irreps, lmax, n_channels, parity, dtype):
    assert_convolutions_agree(irreps, lmax, n_channels, parity, dtype, in_table=True)


def assert_convolutions_agree(
    irreps, lmax, n_channels, parity, dtype, *, in_table=False
):
    edges = random_edges(5, 2, isolated=(0, 4))
    product, routes, x, weights, harmonics = problem(
        irreps,
        lmax,
        n_channels,
        edges,
        n_atoms=5,
        dtype=dtype,
        parity=parity,
        in_table=in_table,
    )
    assert_backends_agree(
        lambda backend: backend.convolve(product, x, harmonics, weights, routes),
        (x, weights.values),
    )
    with torch.no_grad():
        for block in TRITON.convolve(product, x, harmonics, weights, routes):
            assert not block[[0, 4]].any()


@FLOATS
@CASES
def test_rowwise_product_and_its_gradients(irreps, lmax, n_channels, parity, dtype):
    product = DepthwiseProduct(ProductRule(irreps, lmax, parity)).to(dtype)
    x = normal(3, dimension(irreps), n_channels, seed=4).to(dtype).requires_grad_()
    weights = (
        normal(3, product.rule.n_paths, n_channels, seed=5).to(dtype).requires_grad_()
    )
    harmonics = normal(3, (lmax + 1) ** 2, seed=6).to(dtype)
    assert_backends_agree(
        lambda backend: backend.rowwise(product, x, harmonics, weights), (x, weights)
    )


def test_derivatives_are_those_of_differences():
    edges = random_edges(2, 1)
    product, routes, x, weights, harmonics = problem(
        harmonics_irreps(1), 1, 2, edges, n_atoms=2, dtype=torch.float64, in_table=True
    )

    def convolved(x, values):
        return TRITON.convolve(
            product, x, harmonics, replace(weights, values=values), routes
        )

    assert torch.autograd.gradcheck(convolved, (x, weights.values), fast_mode=True)


@FLOATS
def test_no_edges_at_all(dtype):
    nothing = torch.zeros(0, dtype=torch.int64)
    edges = Edges(nothing, nothing, torch.zeros(0, 3, dtype=torch.float64))
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 8, edges, n_atoms=3, dtype=dtype
    )
    blocks = TRITON.convolve(product, x, harmonics, weights, routes)
    assert [block.shape[0] for block in blocks] == [3] * 4
    assert not any(block.any() for block in blocks)
    grad_x, grad_weights = gradients(blocks, (x, weights.values))
    assert not grad_x.any()
    assert grad_weights.shape == weights.values.shape


@FLOATS
def test_sums_do_not_depend_on_company(dtype):
    edges = random_edges(4, 6)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 5, edges, n_atoms=4, dtype=dtype, in_table=True
    )
    shifted = Edges(
        torch.cat([edges.receivers, edges.receivers + 4]),
        torch.cat([edges.senders, edges.senders + 4]),
        torch.cat([edges.vectors] * 2),
    )
    twice = replace(
        weights,
        rows=torch.cat([weights.rows] * 2),
        fractions=torch.cat([weights.fractions] * 2),
    )
    with torch.no_grad():
        alone = TRITON.convolve(product, x, harmonics, weights, routes)
        both = TRITON.convolve(
            product,
            torch.cat([x, x]),
            torch.cat([harmonics, harmonics]),
            twice,
            Routes.of_edges(shifted, 8),
        )
    for one, two in zip(alone, both, strict=True):
        assert torch.equal(two[:4], one)
        assert torch.equal(two[4:], one)


def test_harmonics_with_gradient_use_the_reference():
    edges = random_edges(4, 3)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 2, edges, n_atoms=4, dtype=torch.float64
    )
    harmonics.requires_grad_()
    assert_backends_agree(
        lambda backend: backend.convolve(product, x, harmonics, weights, routes),
        (x, weights.values, harmonics),
    )


@pytest.mark.parametrize("wrong", ["dtype", "half", "paths", "harmonics"])
def test_arrays_that_do_not_fit_are_refused(wrong):
    edges = random_edges(4, 3)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 4, edges, n_atoms=4, dtype=torch.float64
    )
    match = "have shape"
    if wrong == "dtype":
        harmonics, match = harmonics.float(), r"float64 on cpu and torch\.float32"
    elif wrong == "half":
        x, match = x.half(), r"got torch\.float16 on cpu"
    elif wrong == "paths":
        weights = replace(weights, values=weights.values[:, 1:])
    else:
        harmonics = harmonics[1:]
    with pytest.raises(ValueError, match=match):
        TRITON.convolve(product, x, harmonics, weights, routes)


@pytest.mark.parametrize("cutoff", [None, 4.0], ids=["near", "surroundings"])
def test_a_network_trains_as_with_the_reference(cutoff):
    model = small_model("thermal", n_layers=1, lmax=1, surroundings_cutoff=cutoff)
    model.requires_grad_()
    state = random_state(np.random.default_rng(2), 3)
    found = []
    for name in ("reference", "triton"):
        model.set_backend(name).zero_grad()
        moved, _ = model.raw_forecast(state)
        moved.square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for expected, ours in zip(*found, strict=True):
        assert relative_error(ours, expected) < 1e-9


CUTOFF = 6.0
GRID = Grid.between(0.05, CUTOFF, 8)


def counted(state, species, lmax):
    """Return sums in which every weight is 1, times the number of the species + 1."""
    values = torch.ones(2, GRID.n_points, (lmax + 1) * 3, dtype=torch.float64)
    values[1] *= 2.0
    return surroundings_sums(state, species, values.flatten(0, 1), GRID, lmax)


def sums_over_pairs(state, species, lmax):
    edges = find_edges(state, CUTOFF)
    harmonics = spherical_harmonics(edges.vectors, lmax, normalize=True)
    weighted = harmonics * (1.0 + species[edges.senders, None])
    total = torch.zeros(state.n_atoms, (lmax + 1) ** 2, dtype=torch.float64)
    return total.index_add(0, edges.receivers, weighted)


@pytest.mark.parametrize("lmax", [1, 2, 3])
@pytest.mark.parametrize(
    ("heights", "pbc"),
    [
        ((5.0, 6.5, 13.0), (True, True, True)),
        ((3.0, 7.0, 9.0), (False, True, True)),
        ((3.0, 4.0, 3.0), (False, False, True)),
        ((3.0, 4.0, 5.0), (False, False, False)),
    ],
    ids=["cell", "slab", "wire", "cluster"],
)
def test_every_image_counts_once(heights, pbc, lmax):
    rng = np.random.default_rng(lmax)
    cell = triclinic_cell(heights, (70.0, 95.0, 110.0))
    # Far outside of the cell: positions are never wrapped.
    state = make_state(rng.uniform(-2, 3, (3, 3)) @ cell, cell=cell, pbc=pbc)
    species = torch.tensor([0, 1, 0])
    found, expected = (
        counted(state, species, lmax),
        sums_over_pairs(state, species, lmax),
    )
    for channel in range(3):
        torch.testing.assert_close(found[:, :, channel], expected, rtol=1e-9, atol=1e-9)


def test_batches_lone_atoms_and_more_than_one_tile():
    rng = np.random.default_rng(3)
    lone = make_state([[0.0, 0.0, 0.0]])
    parted = make_state([[0.0, 0, 0], [1.0, 0, 0], [0, 1e9, 0]])
    cluster = random_state(rng, 18)
    species = torch.arange(18) % 2
    state = join([lone, parted, cluster])
    found = counted(state, torch.cat([torch.zeros(4).long(), species]), 1)
    assert not found[0].any()
    assert not found[3].any()
    assert found[1, 0, 0] == found[2, 0, 0] == 1.0
    expected = sums_over_pairs(cluster, species, 1)
    torch.testing.assert_close(found[4:, :, 0], expected, rtol=1e-9, atol=1e-9)


def test_a_cell_without_volume_gives_no_numbers():
    flat = make_state(np.zeros((1, 3)), cell=np.diag([4.0, 4.0, 0.0]), pbc=True)
    thin = make_state(np.zeros((1, 3)), cell=np.diag([4.0, 4.0, 0.01]), pbc=True)
    good = make_state([[0.0, 0, 0], [0, 0, 1.5]])
    found = counted(join([flat, thin, good]), torch.zeros(4, dtype=torch.int64), 1)
    assert found[:2].isnan().all()
    assert found[2:].isfinite().all()


def test_tables_that_do_not_fit_or_carry_gradients_are_refused():
    state, species = random_state(np.random.default_rng(1), 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="no tables of 11 points for lmax = 1"):
        surroundings_sums(state, species, torch.ones(GRID.n_points, 5), GRID, 1)
    values = torch.ones(2 * GRID.n_points, 6, requires_grad=True)
    with pytest.raises(ValueError, match="without gradients"):
        surroundings_sums(state, species, values, GRID, 1)
