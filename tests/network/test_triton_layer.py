"""The layers in Triton against the torch operations that they replace.

Kernels are interpreted, one atom and edge after the other: systems are tiny.
"""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from helpers import BUNDLED, join, random_state, relative_error, small_model
from layer_inputs import Size, layer_and_inputs

from trajcast_ase import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network.backend import BackendError
from trajcast_ase.network.inference.layers import LayerInputs
from trajcast_ase.network.inference.matrices import folded
from trajcast_ase.network.inference.shape import LayerShape
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import Irrep, all_irreps, harmonics_irreps, slices
from trajcast_ase.network.neighborhood import Neighborhood
from trajcast_ase.network.triton import programs
from trajcast_ase.network.triton.backend import Triton
from trajcast_ase.network.triton.layer import TritonLayer
from trajcast_ase.network.triton.locate import places
from trajcast_ase.network.weights import WeightRows
from trajcast_ase.state import state_from_atoms

pytestmark = pytest.mark.usefixtures("interpreter")
FLOATS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
VECTOR = Irrep(1, -1)


def interpreted(layer, outputs, precision="ieee"):
    rule = layer.edge_product.rule
    shape = LayerShape(rule.irreps, outputs, rule.lmax, layer.n_channels, rule.parity)
    return TritonLayer.of(shape, folded(layer, shape), precision)


@FLOATS
@pytest.mark.parametrize(
    "size",
    [
        Size(all_irreps(1), 1, 4, 3, 5),
        Size(all_irreps(1), 1, 36, 1, 2),
        Size(harmonics_irreps(2), 2, 5, 4, 6),
        Size(all_irreps(2), 2, 20, 3, 4),
        Size(all_irreps(1), 1, 4, 6, 0),
        Size(harmonics_irreps(2), 2, 6, 4, 6, "natural"),
        Size(harmonics_irreps(3), 3, 4, 2, 2, "natural"),
        pytest.param(Size(all_irreps(3), 3, 4, 2, 2), marks=pytest.mark.slow),
    ],
    ids=[
        "lmax-1",
        "two-slices",
        "first",
        "full",
        "no-edges",
        "natural",
        "natural-3",
        "full-3",
    ],
)
@torch.no_grad()
def test_layer_agrees_with_torch(size, dtype):
    exact, x64, _, theirs = layer_and_inputs(size, torch.float64)
    expected = exact(x64, *theirs)
    layer, x, ours, _ = layer_and_inputs(size, dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    found = interpreted(layer, layer.irreps_out)(x, *ours)
    assert found.dtype == dtype
    assert relative_error(found, expected) < tolerance


@torch.no_grad()
def test_only_the_irreps_that_are_asked_for():
    layer, x, ours, theirs = layer_and_inputs(
        Size(all_irreps(1), 1, 4, 3, 5), torch.float64
    )
    rows = dict(zip(layer.irreps_out, slices(layer.irreps_out), strict=True))
    expected = layer(x, *theirs)
    for outputs in [(VECTOR,), (Irrep(0, 1), Irrep(1, 1)), (Irrep(0, -1), VECTOR)]:
        found = interpreted(layer, outputs)(x, *ours)
        wanted = torch.cat([expected[:, rows[irrep]] for irrep in outputs], dim=1)
        assert relative_error(found, wanted) < 1e-12


@torch.no_grad()
def test_places_in_a_table_are_interpolated():
    layer, x, (inputs, edge, velocity), _ = layer_and_inputs(
        Size(all_irreps(1), 1, 8, 3, 5), torch.float64
    )
    run = interpreted(layer, layer.irreps_out)
    table = torch.randn(9, edge.values.shape[1], dtype=torch.float64)
    rows, t = torch.arange(5), torch.rand(5, dtype=torch.float64)
    between = WeightRows(table, rows, t)
    expected = run(x, inputs, WeightRows(between.each(), rows), velocity)
    found = run(x, inputs, between, velocity)
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize("grouped", [False, True])
def test_places_are_those_of_the_grid(grouped):
    grid = Grid.between(0.05, 4.0, 128)
    values = torch.linspace(-1.0, 9.0, 301, dtype=torch.float64)
    groups = torch.arange(301) % 3 if grouped else None
    found, expected = places(grid, values, groups), grid.places(values, groups)
    assert torch.equal(found.rows, expected.rows)
    torch.testing.assert_close(
        found.fractions, expected.fractions, rtol=0.0, atol=1e-11
    )
    lost = places(grid, torch.tensor([torch.nan, torch.inf]), None)
    assert lost.fractions.isnan().tolist() == [True, False]
    assert int(lost.rows.max()) < grid.n_intervals


@torch.no_grad()
def test_neither_company_nor_padding_matter():
    n_atoms, n_edges = 3, 5
    layer, x, (inputs, edge, velocity), _ = layer_and_inputs(
        Size(all_irreps(1), 1, 20, n_atoms, n_edges), torch.float32
    )
    run = interpreted(layer, layer.irreps_out)
    alone = run(x, inputs, edge, velocity)
    assert torch.equal(run(x, inputs, edge, velocity), alone)
    # The same atoms four times, so that tiles of 16 rows begin elsewhere in each.
    offsets = [inputs.offsets[1:] + n_edges * k for k in range(4)]
    many = LayerInputs(
        torch.cat([inputs.offsets[:1], *offsets]),
        torch.cat([inputs.senders + n_atoms * k for k in range(4)]),
        *(torch.cat([getattr(inputs, f.name)] * 4) for f in fields(inputs)[2:]),
    )
    rows = (WeightRows(w.values, torch.cat([w.rows] * 4)) for w in (edge, velocity))
    for part in run(torch.cat([x] * 4), many, *rows).split(n_atoms):
        # The interpreter multiplies tiles with a BLAS, in which rows are not all alike:
        # test_triton_product.py has the sums over edges to the last bit.
        assert relative_error(part, alone) < 1e-6
    # A list of fixed size: what is behind the last offset is never read.
    padding = torch.full((9,), -(10**15))
    padded = replace(
        inputs,
        senders=torch.cat([inputs.senders, padding]),
        edge_harmonics=torch.nn.functional.pad(
            inputs.edge_harmonics, (0, 0, 0, 9), value=torch.nan
        ),
    )
    edge = WeightRows(edge.values, torch.cat([edge.rows, padding]))
    assert torch.equal(run(x, padded, edge, velocity), alone)


@torch.no_grad()
@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("features", "features have shape"),
        ("dtype", r"edge harmonics must be contiguous, torch\.float32"),
        ("weights", "edge weights have shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong, match):
    layer, x, (inputs, edge, velocity), _ = layer_and_inputs(
        Size(all_irreps(1), 1, 4, 3, 5), torch.float32
    )
    if wrong == "features":
        x = x[:, 1:].contiguous()
    elif wrong == "dtype":
        inputs = replace(inputs, edge_harmonics=inputs.edge_harmonics.double())
    else:
        edge = replace(edge, values=edge.values[:, 1:].contiguous())
    with pytest.raises(ValueError, match=match):
        interpreted(layer, layer.irreps_out)(x, inputs, edge, velocity)


def forecast(model, state):
    with torch.no_grad():
        return model(state.atomic_numbers, state.velocities, model.neighborhood(state))


def error_in_float32(model, state, backend):
    """Return the largest error of a forecast, relative to the largest output."""
    exact = forecast(model.double().set_backend("reference"), state)
    return relative_error(forecast(model.float().set_backend(backend), state), exact)


@pytest.mark.parametrize("edge_weights", ["tables", "perceptrons"])
@pytest.mark.parametrize("cutoff", [None, 5.0], ids=["near", "surroundings"])
def test_networks_agree_with_float64(cutoff, edge_weights):
    model = small_model(
        "thermal", lmax=1, n_layers=2, surroundings_cutoff=cutoff, cutoff=2.5
    )
    cell = np.diag([4.0, 5.0, 6.0])
    state = random_state(
        np.random.default_rng(1), 5, cell=cell, pbc=(True, True, False)
    )
    backend = Triton(edge_weights=edge_weights)
    assert error_in_float32(model, state, backend) < 1e-5
    with torch.no_grad():
        sums = model.surroundings_sums(state)
    # No list of distant pairs.
    assert (sums is None) == (cutoff is None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "lmax", "parity"),
    [
        ("thermal", 1, "natural"),
        ("direction", 1, "both"),
        ("thermal", 2, "both"),
        ("direction", 2, "natural"),
        ("thermal", 3, "natural"),
        ("direction", 3, "both"),
    ],
)
def test_all_kinds_of_networks_agree_with_float64(encoding, lmax, parity):
    model = small_model(
        encoding, lmax=lmax, parity=parity, n_layers=2, surroundings_cutoff=5.0
    )
    state = random_state(np.random.default_rng(2), 2)
    assert error_in_float32(model, state, "triton") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("ethanol-gfn2", [0, 1, 2, 3]),
        ("paracetamol-7fs", [0, 1, 2, 11]),
        ("quartz-30fs", [0, 1, 54, 55]),
        ("water-5fs", [0, 1, 2, 3]),
    ],
)
def test_bundled_models_agree_with_float64(name, some):
    model = load_model(name)
    few = BUNDLED[name]()[some]
    few.pbc = False
    few.calc = None
    draw_momenta(few, 300.0, np.random.default_rng(3), model.conservation)
    assert error_in_float32(model, state_from_atoms(few), "triton") < 1e-5


def test_lone_atoms_and_none():
    model = small_model("thermal", torch.float32, n_layers=1, lmax=1)
    model.set_backend("triton")
    one = random_state(np.random.default_rng(1), 1)
    expected = forecast(model.set_backend("reference"), one)
    model.set_backend("triton")
    assert relative_error(forecast(model, one), expected) < 1e-5
    layer, x, ours, _ = layer_and_inputs(Size(all_irreps(1), 1, 4, 1, 0), torch.float32)
    inputs, edge, velocity = ours
    nobody = LayerInputs(
        inputs.offsets[:1], *(getattr(inputs, f.name)[:0] for f in fields(inputs)[1:])
    )
    none = WeightRows(velocity.values, velocity.rows[:0])
    run = interpreted(layer, layer.irreps_out)
    assert run(x[:0], nobody, edge, none).shape == (0, run.shape.dim_out, 4)


def test_a_list_of_pairs_of_fixed_size():
    model = small_model("thermal", torch.float32, n_layers=1, lmax=1)
    state = random_state(np.random.default_rng(1), 3)
    edges = find_edges(state, model.config.cutoff)
    padded = Edges(
        torch.nn.functional.pad(edges.receivers, (0, 5), value=state.n_atoms),
        torch.nn.functional.pad(edges.senders, (0, 5)),
        torch.nn.functional.pad(edges.vectors, (0, 0, 0, 5)),
    )
    model.set_backend("triton")
    with torch.no_grad():
        expected, found = (
            model(state.atomic_numbers, state.velocities, near)
            for near in (edges, padded)
        )
    assert len(edges.receivers) > 0
    assert torch.equal(found, expected)


def test_a_kernel_that_fails_is_an_error_of_the_backend(monkeypatch):
    def fails(*_, **__):
        raise pytest.importorskip("triton").errors.TritonError("no registers left")

    monkeypatch.setattr(programs, "_program", lambda *_: {(1,): fails})
    with pytest.raises(BackendError, match=r"no registers left; use the backend 'ref"):
        programs.launch(programs.program("places"), (1,), on=torch.zeros(1))


def test_forecasts_of_a_batch_are_those_of_its_systems():
    model = small_model("thermal", torch.float32, n_layers=1, lmax=1)
    model.set_backend("triton")
    states = [random_state(np.random.default_rng(seed), 3) for seed in (1, 2)]
    alone = torch.cat([forecast(model, state) for state in states])
    assert relative_error(forecast(model, join(states)), alone) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("precision", ["tf32x3", "tf32"])
def test_tensor_cores_are_an_option(precision):
    # The interpreter multiplies in float32 whatever is asked for; the errors on a card
    # are in test_triton_precision.py, what is compiled in test_triton_compiled.py.
    layer, x, ours, _ = layer_and_inputs(Size(all_irreps(1), 1, 4, 2, 2), torch.float32)
    expected = interpreted(layer, layer.irreps_out)(x, *ours)
    found = interpreted(layer, layer.irreps_out, precision)(x, *ours)
    assert torch.equal(found, expected)


def on_meta(value):
    """Return dataclasses and tuples with tensors that have no numbers."""
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, tuple):
        return tuple(on_meta(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: on_meta(getattr(value, f.name)) for f in fields(value)}
        return replace(value, **parts)
    return value


class Recorded:
    """Stands for every kernel: notes where its arguments are, computes nothing."""

    def __init__(self):
        self.devices = []

    def __getitem__(self, grid):
        return self.launched

    def launched(self, *arguments, **options):
        del options
        tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
        self.devices.append({tensor.device.type for tensor in tensors})


def test_nothing_is_read_by_the_host(monkeypatch):
    """A forward pass of tensors that have no numbers, and are not on the CPU."""
    model = small_model(
        "thermal", torch.float32, n_layers=1, lmax=1, surroundings_cutoff=5.0
    )
    state = random_state(np.random.default_rng(1), 4, cell=np.eye(3) * 4.0, pbc=True)
    layers = Triton().layers(model, (VECTOR,))
    edges = find_edges(state, model.config.cutoff)
    kernels = Recorded()
    monkeypatch.setattr(programs, "_program", lambda *_: kernels)
    layers, edges, state, species = map(
        on_meta, (layers, edges, state, model.species_index(state.atomic_numbers))
    )
    table = layers.surroundings
    with torch.no_grad():
        sums = Triton().surroundings_sums(state, species, table.values, table.grid, 1)
        near = Neighborhood(edges, sums)
        out = model.to("meta")._targets(species, state.velocities, near, layers)
    assert out.device.type == "meta"
    assert out.shape == (4, 2, 3)
    # Five of the layer, one each for lengths and speeds, and one of the surroundings.
    assert len(kernels.devices) == 5 + 2 + 1
    assert all(devices == {"meta"} for devices in kernels.devices)
