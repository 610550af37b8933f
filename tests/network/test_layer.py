"""The compiled layer against the torch operations that it replaces."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers import (
    TOLERANCES,
    join,
    needs_compiler,
    normal,
    random_state,
    relative_error,
    small_model,
)
from layer_inputs import Size, layer_and_inputs

from trajcast_ase.network.cpu.layer import CompiledLayer
from trajcast_ase.network.cpu.product import MIN_EDGES_PER_THREAD
from trajcast_ase.network.inference.layers import LayerInputs
from trajcast_ase.network.inference.matrices import folded
from trajcast_ase.network.inference.shape import LayerShape
from trajcast_ase.network.irreps import (
    Irrep,
    all_irreps,
    harmonics_irreps,
    slices,
)
from trajcast_ase.network.weights import WeightRows

pytestmark = needs_compiler
FLOATS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def compiled(layer, outputs):
    rule = layer.edge_product.rule
    shape = LayerShape(rule.irreps, outputs, rule.lmax, layer.n_channels, rule.parity)
    return CompiledLayer(shape, folded(layer, shape))


@FLOATS
@pytest.mark.parametrize(
    "size",
    [
        Size(harmonics_irreps(2), 2, 16, 30, 90),
        Size(all_irreps(2), 2, 64, 13, 40),
        Size(all_irreps(2), 2, 24, 12, 40),
        Size(all_irreps(2), 2, 5, 7, 20),
        Size(all_irreps(1), 1, 4, 1, 3),
        Size(all_irreps(3), 3, 8, 5, 9),
        Size(all_irreps(2), 2, 16, 3, 0),
        Size(harmonics_irreps(2), 2, 48, 30, 90, "natural"),
        Size(harmonics_irreps(3), 3, 8, 5, 9, "natural"),
    ],
    ids=[
        "first",
        "full-64",
        "full-24",
        "full-5",
        "lmax-1",
        "lmax-3",
        "no-edges",
        "natural-48",
        "natural-3",
    ],
)
@torch.no_grad()
def test_layer_agrees_with_torch(size, dtype):
    exact, x64, _, theirs = layer_and_inputs(size, torch.float64)
    expected = exact(x64, *theirs)
    layer, x, ours, _ = layer_and_inputs(size, dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    found = compiled(layer, layer.irreps_out)(x, *ours)
    assert found.dtype == dtype
    assert relative_error(found, expected) < tolerance
    vector = Irrep(1, -1)
    rows = dict(zip(layer.irreps_out, slices(layer.irreps_out), strict=True))[vector]
    alone = compiled(layer, (vector,))(x, *ours)
    assert relative_error(alone, expected[:, rows]) < tolerance


@torch.no_grad()
def test_places_in_a_table_are_interpolated():
    layer, x, (inputs, edge, velocity), _ = layer_and_inputs(
        Size(all_irreps(1), 1, 8, 6, 15), torch.float64
    )
    run = compiled(layer, layer.irreps_out)
    table = normal(9, edge.values.shape[1], seed=8)
    rows, t = torch.arange(15) % 6, torch.rand(15, dtype=torch.float64)
    nodes = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    factors = torch.stack(
        [
            torch.stack([(t - b) / (a - b) for b in nodes if b != a]).prod(dim=0)
            for a in nodes
        ]
    )
    values = sum(factors[k][:, None] * table[rows + k] for k in range(4))
    expected = run(x, inputs, WeightRows(values, torch.arange(15)), velocity)
    found = run(x, inputs, WeightRows(table, rows, t), velocity)
    assert relative_error(found, expected) < 1e-12


@FLOATS
@torch.no_grad()
def test_neither_threads_nor_company_change_a_bit(dtype):
    n_atoms, n_edges = 29, 3 * MIN_EDGES_PER_THREAD
    layer, x, (inputs, edge, velocity), _ = layer_and_inputs(
        Size(all_irreps(2), 2, 24, n_atoms, n_edges), dtype
    )
    run = compiled(layer, layer.irreps_out)
    results, n_threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(run(x, inputs, edge, velocity))
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(results[1], results[0])
    assert torch.equal(results[2], results[0])
    # The same atoms once more, behind the others.
    twice = LayerInputs(
        torch.cat([inputs.offsets, inputs.offsets[1:] + n_edges]),
        torch.cat([inputs.senders, inputs.senders + n_atoms]),
        *(torch.cat([getattr(inputs, f.name)] * 2) for f in fields(inputs)[2:]),
    )
    edge, velocity = (
        WeightRows(w.values, torch.cat([w.rows, w.rows])) for w in (edge, velocity)
    )
    both = run(torch.cat([x, x]), twice, edge, velocity)
    assert torch.equal(both[:n_atoms], results[0])
    assert torch.equal(both[n_atoms:], results[0])


@FLOATS
@torch.no_grad()
def test_forecast_does_not_depend_on_who_shares_the_batch(dtype):
    model = small_model("thermal", dtype, n_layers=2).set_backend("cpp")
    states = [random_state(np.random.default_rng(seed)) for seed in (1, 2, 3)]
    alone = [torch.cat(model.raw_forecast(state), dim=1) for state in states]
    together = torch.cat(model.raw_forecast(join(states)), dim=1)
    assert relative_error(together, torch.cat(alone)) < TOLERANCES[dtype]["batch"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("features", "features have shape"),
        ("dtype", r"features must be contiguous, torch\.float32"),
        ("senders", "senders have shape"),
        ("species", "species must be contiguous, torch.int64"),
        ("weights", "edge weights have shape"),
        ("rows", "velocity rows have shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong, match):
    layer, x, (inputs, edge, velocity), _ = layer_and_inputs(
        Size(all_irreps(1), 1, 4, 6, 12), torch.float32
    )
    if wrong == "features":
        x = x[:, 1:].contiguous()
    elif wrong == "dtype":
        x = x.transpose(1, 2)
    elif wrong == "senders":
        inputs = replace(inputs, senders=inputs.senders[:, None])
    elif wrong == "species":
        inputs = replace(inputs, species=inputs.species.int())
    elif wrong == "weights":
        edge = replace(edge, values=edge.values[:, 1:].contiguous())
    else:
        velocity = replace(velocity, rows=velocity.rows[1:])
    with pytest.raises(ValueError, match=match):
        compiled(layer, layer.irreps_out)(x, inputs, edge, velocity)
