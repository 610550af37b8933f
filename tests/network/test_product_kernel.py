"""The compiled kernel against the torch operations that it replaces."""

from dataclasses import replace

import pytest
import torch
from helpers import (
    TOLERANCES,
    needs_compiler,
    normal,
    relative_error,
)
from product_inputs import gradients, problem, random_edges

from trajcast_ase.neighbors import Edges
from trajcast_ase.network.backends import BACKENDS
from trajcast_ase.network.cpu.product import MIN_EDGES_PER_THREAD
from trajcast_ase.network.irreps import (
    Irrep,
    ProductRule,
    all_irreps,
    dimension,
    harmonics_irreps,
)
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.weights import Sharing

CPP = BACKENDS["cpp"]
FLOATS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def assert_backends_agree(compute, inputs):
    tolerance = TOLERANCES[inputs[0].dtype]["twin"]
    results = []
    for name in ("reference", "cpp"):
        blocks = compute(BACKENDS[name])
        results.append((*blocks, *gradients(blocks, inputs)))
    for expected, ours in zip(*results, strict=True):
        assert ours.shape == expected.shape
        assert relative_error(ours, expected) < tolerance


CASES = pytest.mark.parametrize(
    ("irreps", "lmax", "n_channels", "parity"),
    [
        (harmonics_irreps(2), 2, 16, "both"),
        (harmonics_irreps(2), 2, 48, "natural"),
        (harmonics_irreps(3), 3, 5, "natural"),
        ((Irrep(0, 1),), 2, 24, "natural"),
        (all_irreps(2), 2, 32, "both"),
        (all_irreps(2), 2, 24, "both"),
        (all_irreps(2), 2, 5, "both"),
        (all_irreps(1), 1, 4, "both"),
        (all_irreps(3), 3, 8, "both"),
    ],
    ids=[
        "first-16",
        "natural-48",
        "natural-3",
        "scalars",
        "full-32",
        "full-24",
        "full-5",
        "lmax-1",
        "lmax-3",
    ],
)


@needs_compiler
@FLOATS
@CASES
def test_convolution_and_its_gradients(irreps, lmax, n_channels, parity, dtype):
    assert_convolutions_agree(irreps, lmax, n_channels, parity, dtype)


@needs_compiler
@FLOATS
@CASES
def test_convolution_with_weights_from_a_table(irreps, lmax, n_channels, parity, dtype):
    assert_convolutions_agree(irreps, lmax, n_channels, parity, dtype, in_table=True)


def assert_convolutions_agree(
    irreps, lmax, n_channels, parity, dtype, *, in_table=False
):
    edges = random_edges(7, 20, isolated=(0, 3, 6))
    product, routes, x, weights, harmonics = problem(
        irreps,
        lmax,
        n_channels,
        edges,
        n_atoms=7,
        dtype=dtype,
        parity=parity,
        in_table=in_table,
    )
    assert_backends_agree(
        lambda backend: backend.convolve(product, x, harmonics, weights, routes),
        (x, weights.values),
    )
    for block in CPP.convolve(product, x, harmonics, weights, routes):
        assert not block[[0, 3, 6]].any()


@needs_compiler
@FLOATS
@CASES
def test_rowwise_product_and_its_gradients(irreps, lmax, n_channels, parity, dtype):
    product = DepthwiseProduct(ProductRule(irreps, lmax, parity)).to(dtype)
    x = normal(6, dimension(irreps), n_channels, seed=4).to(dtype).requires_grad_()
    weights = (
        normal(6, product.rule.n_paths, n_channels, seed=5).to(dtype).requires_grad_()
    )
    harmonics = normal(6, (lmax + 1) ** 2, seed=6).to(dtype)
    assert_backends_agree(
        lambda backend: backend.rowwise(product, x, harmonics, weights), (x, weights)
    )


@needs_compiler
@FLOATS
def test_no_edges_at_all(dtype):
    nothing = torch.zeros(0, dtype=torch.int64)
    edges = Edges(nothing, nothing, torch.zeros(0, 3, dtype=torch.float64))
    product, routes, x, weights, harmonics = problem(
        all_irreps(2), 2, 8, edges, n_atoms=3, dtype=dtype
    )
    blocks = CPP.convolve(product, x, harmonics, weights, routes)
    assert [block.shape[0] for block in blocks] == [3] * 6
    assert not any(block.any() for block in blocks)
    grad_x, grad_weights = gradients(blocks, (x, weights.values))
    assert not grad_x.any()
    assert grad_weights.shape == weights.values.shape


@needs_compiler
@FLOATS
@pytest.mark.parametrize("in_table", [False, True])
def test_threads_do_not_change_a_bit(dtype, in_table):
    edges = random_edges(20, 3 * MIN_EDGES_PER_THREAD)
    product, routes, x, weights, harmonics = problem(
        all_irreps(2), 2, 48, edges, n_atoms=20, dtype=dtype, in_table=in_table
    )
    results, n_threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            blocks = CPP.convolve(product, x, harmonics, weights, routes)
            results.append((*blocks, *gradients(blocks, (x, weights.values))))
    finally:
        torch.set_num_threads(n_threads)
    for parallel in results[1:]:
        for ours, serial in zip(parallel, results[0], strict=True):
            assert torch.equal(ours, serial)


def test_both_directions_of_a_pair_share_their_weights():
    lengths = random_edges(9, 30).vectors.norm(dim=1)
    sharing = Sharing.of_lengths(lengths)
    assert len(sharing.representatives) == 30
    assert torch.equal(lengths[sharing.representatives][sharing.rows], lengths)
    # The kernel relies on rows that are numbered in the order of first use.
    assert torch.equal(sharing.rows.unique(), torch.arange(30))
    highest = sharing.rows.cummax(0).values
    assert int(highest[0]) == 0
    assert int(highest.diff().max()) == 1


def test_lengths_with_gradient_share_nothing():
    lengths = random_edges(5, 6).vectors.norm(dim=1).requires_grad_()
    sharing = Sharing.of_lengths(lengths)
    assert torch.equal(sharing.rows, torch.arange(12))
    assert torch.equal(sharing.representatives, torch.arange(12))


@needs_compiler
def test_harmonics_with_gradient_use_the_reference():
    edges = random_edges(5, 8)
    product, routes, x, weights, harmonics = problem(
        all_irreps(2), 2, 4, edges, n_atoms=5, dtype=torch.float64
    )
    harmonics.requires_grad_()
    assert_backends_agree(
        lambda backend: backend.convolve(product, x, harmonics, weights, routes),
        (x, weights.values, harmonics),
    )


@needs_compiler
def test_second_derivative_is_refused():
    edges = random_edges(5, 8)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 4, edges, n_atoms=5, dtype=torch.float64
    )
    first, *_ = CPP.convolve(product, x, harmonics, weights, routes)
    (slope,) = torch.autograd.grad((first**2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@needs_compiler
@pytest.mark.parametrize(
    "wrong",
    [
        "dtype",
        "half",
        "paths",
        "harmonics",
        "rows",
        "table",
        "few rows",
        "few fractions",
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong):
    edges = random_edges(5, 8)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 4, edges, n_atoms=5, dtype=torch.float64
    )
    match = "have shape"
    if wrong == "dtype":
        harmonics, match = harmonics.float(), "got torch.float32 on cpu"
    elif wrong == "half":
        x, match = x.half(), "got torch.float16 on cpu"
    elif wrong == "paths":
        weights = replace(weights, values=weights.values[:, 1:])
    elif wrong == "few rows":
        weights = replace(weights, rows=weights.rows[1:])
    elif wrong == "few fractions":
        fractions = torch.zeros(len(weights.rows) - 1, dtype=torch.float64)
        weights = replace(weights, fractions=fractions)
    elif wrong == "rows":
        weights, match = replace(weights, rows=weights.rows + 1), "rows up to"
    elif wrong == "table":
        fractions = torch.zeros(len(weights.rows), dtype=torch.float64)
        weights, match = replace(weights, fractions=fractions), "rows up to"
    else:
        harmonics = harmonics[1:]
    with pytest.raises(ValueError, match=match):
        CPP.convolve(product, x, harmonics, weights, routes)
