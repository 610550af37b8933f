"""Tabulated weights against the functions that they stand for."""

import math

import numpy as np
import pytest
import torch
from helpers import BUNDLED, needs_compiler, random_state, small_model

from trajcast_ase import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network.inference.tables import tabulate
from trajcast_ase.state import state_from_atoms


def waves(points: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.sin(3 * points), points**3 - points], dim=1)


def test_cubics_are_exact():
    table = tabulate([lambda x: (x**3 - 2 * x)[:, None]], 0.5, 4.0, torch.float64)
    points = torch.linspace(0.3, 4.0, 77, dtype=torch.float64)
    found = table.at(table.grid.places(points))[:, 0]
    torch.testing.assert_close(found, points**3 - 2 * points, rtol=1e-12, atol=1e-12)


def test_groups_have_grids_of_their_own():
    functions = [waves, lambda x: -waves(2 * x)]
    table = tabulate(functions, 0.0, 2.0, torch.float64)
    points = torch.rand(50, generator=torch.Generator().manual_seed(0)).double() * 2
    groups = torch.arange(50) % 2
    found = table.at(table.grid.places(points, groups))
    expected = torch.where((groups == 0)[:, None], waves(points), -waves(2 * points))
    assert (found - expected).abs().max() <= 1e-6 * table.values.abs().max()


def test_grid_is_refined_where_it_must():
    smooth = tabulate([waves], 0.0, 1.0, torch.float64)
    rough = tabulate([lambda x: torch.sin(40 * x)[:, None]], 0.0, 1.0, torch.float64)
    assert smooth.grid.n_intervals == 128
    assert rough.grid.n_intervals > 128
    assert (
        tabulate([lambda x: torch.sin(3000 * x)[:, None]], 0.0, 1.0, torch.float64)
        is None
    )


def test_beyond_the_end_is_the_end():
    table = tabulate([waves], 0.0, 1.0, torch.float64)
    end = torch.tensor([1.0, 1.5, 80.0], dtype=torch.float64)
    found = table.at(table.grid.places(end))
    torch.testing.assert_close(found[1:], found[:1].expand(2, -1))


@needs_compiler
@pytest.mark.parametrize("encoding", ["thermal", "direction"])
def test_forecast_agrees_with_float64(encoding):
    state = random_state(np.random.default_rng(5))
    exact = small_model(encoding, torch.float64, n_layers=2, n_channels=16)
    single = small_model(encoding, torch.float32, n_layers=2, n_channels=16)
    single.set_backend("cpp")
    with torch.no_grad():
        wanted, found = exact.raw_forecast(state), single.raw_forecast(state)
    assert single._engine._layers is not None
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


@needs_compiler
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models_lose_nothing(name):
    exact, fast = load_model(name, dtype=torch.float64), load_model(name)
    atoms = BUNDLED[name]()
    draw_momenta(atoms, 300.0, np.random.default_rng(0), fast.conservation)
    state = state_from_atoms(atoms)
    with torch.no_grad():
        wanted, found = exact.raw_forecast(state), fast.raw_forecast(state)
    assert fast._engine._layers is not None
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


@needs_compiler
def test_layers_without_a_table_use_their_perceptrons():
    state = random_state(np.random.default_rng(8))
    model = small_model("thermal", torch.float32, n_layers=2)
    with torch.no_grad():
        # So large that a table of the SiLU's kinks would need a million points.
        model.layers[0].edge_mlp.weights[0] *= 1e6
        model.layers[1].velocity_mlp.weights[0] *= 1e6
        reference = model.set_backend("reference").raw_forecast(state)
        found = model.set_backend("cpp").raw_forecast(state)
    tables = [layer.tables for layer in model._engine._layers.layers]
    assert tables[0].edge is None
    assert tables[0].velocity is not None
    assert tables[1].edge is not None
    assert tables[1].velocity is None
    for one, other in zip(found, reference, strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


@needs_compiler
def test_tables_follow_the_weights():
    state = random_state(np.random.default_rng(6))
    model = small_model("thermal", torch.float32, n_layers=1)
    model.set_backend("cpp")
    with torch.no_grad():
        first, _ = model.raw_forecast(state)
        tables = model._engine._layers
        again, _ = model.raw_forecast(state)
        assert model._engine._layers is tables
        model.layers[0].edge_mlp.weights[-1] *= 2
        changed, _ = model.raw_forecast(state)
        assert model._engine._layers is not tables
        model.set_backend("reference")
        reference, _ = model.raw_forecast(state)
    assert torch.equal(first, again)
    scale = reference.abs().max()
    assert (changed - first).abs().max() > 1e-2 * scale
    assert (changed - reference).abs().max() < 1e-5 * scale


@needs_compiler
@pytest.mark.parametrize("how", ["in place", "new parameter", "other state", "dtype"])
def test_no_change_of_a_parameter_is_missed(how):
    state = random_state(np.random.default_rng(6))
    model = small_model("thermal", torch.float32, n_layers=1).set_backend("cpp")
    with torch.no_grad():
        before, _ = model.raw_forecast(state)
        if how == "in place":
            model.readout.weight.mul_(2.0)
            model.layers[0].update.weight.neg_()
        elif how == "new parameter":
            weight = model.layers[0].update.weight
            model.layers[0].update.weight = torch.nn.Parameter(-2.0 * weight)
        elif how == "other state":
            other = small_model("thermal", torch.float32, n_layers=1)
            other.reset_parameters(torch.Generator().manual_seed(5))
            model.load_state_dict(other.state_dict(), assign=True)
        else:
            model.double()
        after, _ = model.raw_forecast(state)
        expected, _ = model.set_backend("reference").raw_forecast(state)
    change = (after - before).abs().max() / expected.abs().max()
    assert change > (1e-9 if how == "dtype" else 1e-2)
    assert (after - expected).abs().max() < 1e-5 * expected.abs().max()


@needs_compiler
def test_gradients_do_without_tables():
    state = random_state(np.random.default_rng(7))
    model = small_model("thermal", torch.float32, n_layers=1)
    model.set_backend("cpp").requires_grad_(requires_grad=True)
    moved, _ = model.raw_forecast(state)
    assert model._engine._layers is None
    moved.sum().backward()
    gradient = model.layers[0].edge_mlp.weights[0].grad
    assert gradient is not None
    assert math.isfinite(float(gradient.abs().sum()))
