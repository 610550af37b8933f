"""Kernels compiled for a card that is not there: valid Triton, not only for Python."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch
from helpers import random_state
from layer_inputs import Size, layer_and_inputs
from product_inputs import gradients, problem, random_edges

from trajcast_ase.network.inference.matrices import folded
from trajcast_ase.network.inference.shape import LayerShape
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import all_irreps, harmonics_irreps
from trajcast_ase.network.triton import programs
from trajcast_ase.network.triton.layer import TritonLayer
from trajcast_ase.network.triton.locate import places
from trajcast_ase.network.triton.product import convolve
from trajcast_ase.network.triton.surroundings import surroundings_sums
from trajcast_ase.network.weights import WeightRows

triton = pytest.importorskip("triton")
HOPPER = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
PROGRAM = programs._program.__wrapped__


@dataclass
class Compiler:
    """Compiles what is launched, for the arguments it is launched with; no more."""

    ptx: dict[str, list[str]] = field(default_factory=dict)

    def kernel(self, function, interpreted):
        return Launched(self, PROGRAM(function, interpreted))

    def compile(self, function, *arguments, grid, **options):
        found = function.warmup(*arguments, grid=grid, **options)
        assert len(found.asm["cubin"]) > 0
        self.ptx.setdefault(function.fn.__name__, []).append(found.asm["ptx"])


@dataclass
class Launched:
    """A kernel that is not run."""

    compiler: Compiler
    function: object

    def __getitem__(self, grid):
        assert all(n > 0 for n in grid)
        return partial(self.compiler.compile, self.function, grid=grid)


class Card:
    """What Triton asks a card before it compiles for it."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return device

    def get_current_target(self):
        return HOPPER


@pytest.fixture
def compiled(monkeypatch, tmp_path_factory):
    """Return what is compiled from now on; the same kernel only once."""
    monkeypatch.delenv(programs.SWITCH, raising=False)
    folder = tmp_path_factory.getbasetemp() / "triton"
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    found = Compiler()
    monkeypatch.setattr(programs, "_program", found.kernel)
    monkeypatch.setattr(triton.runtime.driver, "_active", Card())
    return found


def run_layer(size, precision="ieee", dtype=torch.float32):
    layer, x, (inputs, edge, _), _ = layer_and_inputs(size, dtype)
    rule = layer.edge_product.rule
    shape = LayerShape(
        rule.irreps, layer.irreps_out, rule.lmax, layer.n_channels, rule.parity
    )
    n_atoms, n_weights = size.n_atoms, shape.velocity.n_paths * size.n_channels
    velocity = WeightRows(
        torch.ones(9, n_weights, dtype=dtype),
        torch.zeros(n_atoms, dtype=torch.int64),
        torch.zeros(n_atoms, dtype=torch.float64),
    )
    with torch.no_grad():
        TritonLayer.of(shape, folded(layer, shape), precision)(
            x, inputs, edge, velocity
        )


def test_a_layer(compiled):
    run_layer(Size(all_irreps(1), 1, 4, 2, 3), "tf32x3")
    assert {name: len(ptx) for name, ptx in compiled.ptx.items()} == {
        "product_forward": 2,
        "linear": 2,
        "finish": 1,
    }
    # One product of tiles is three on tensor cores, for each of them two halves.
    assert "mma" in compiled.ptx["linear"][0]


@pytest.mark.slow
def test_a_layer_in_float64(compiled):
    run_layer(Size(all_irreps(1), 1, 4, 2, 3), "tf32x3", torch.float64)
    assert all(".f64" in ptx for ptx in compiled.ptx["linear"])


def test_float32_uses_no_tensor_cores(compiled):
    run_layer(Size(all_irreps(1), 1, 4, 2, 3), "ieee")
    assert not any("mma" in ptx for ptx in compiled.ptx["linear"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "size",
    [
        Size(all_irreps(2), 2, 64, 2, 3),
        Size(harmonics_irreps(3), 3, 24, 2, 3, "natural"),
    ],
    ids=["full-2", "natural-3"],
)
def test_layers_of_the_size_of_models(compiled, size):
    run_layer(size)
    assert len(compiled.ptx["product_forward"]) >= 2


@pytest.mark.parametrize("in_table", [False, True])
def test_derivatives(compiled, in_table):
    edges = random_edges(4, 3)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1),
        1,
        4,
        edges,
        n_atoms=4,
        dtype=torch.float32,
        in_table=in_table,
    )
    blocks = convolve(product.rule, x, harmonics, weights, routes)
    gradients(blocks, (x, weights.values))
    assert set(compiled.ptx) == {"product_forward", "product_backward", "sum_rows"}


@pytest.mark.parametrize("grouped", [False, True])
def test_places(compiled, grouped):
    lengths = torch.ones(5, dtype=torch.float64)
    groups = torch.ones(5, dtype=torch.int64) if grouped else None
    places(Grid.between(0.05, 4.0, 128), lengths, groups)
    assert "places" in compiled.ptx


@pytest.mark.parametrize(
    ("lmax", "dtype"),
    [
        (1, torch.float32),
        (1, torch.float64),
        pytest.param(3, torch.float32, marks=pytest.mark.slow),
    ],
)
def test_sums_over_the_surroundings(compiled, lmax, dtype):
    state = random_state(np.random.default_rng(1), 3)
    grid = Grid.between(0.05, 9.0, 128)
    values = torch.ones(2 * grid.n_points, (lmax + 1) * 4, dtype=dtype)
    surroundings_sums(state, torch.zeros(3).long(), values, grid, lmax)
    assert "surroundings" in compiled.ptx
