"""The kernels on a card: what the interpreter cannot show."""

import numpy as np
import pytest
import torch
from helpers import BUNDLED, join, random_state, relative_error, small_model
from product_inputs import problem, random_edges

from trajcast_ase import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network.forecaster import VECTOR
from trajcast_ase.network.irreps import all_irreps
from trajcast_ase.network.triton.backend import Triton
from trajcast_ase.network.triton.product import (
    ProductInputs,
    gradients,
    product_sums,
)
from trajcast_ase.state import state_from_atoms

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
EACH = pytest.mark.parametrize(("name", "atoms"), list(BUNDLED.items()))


def bundled(name, atoms):
    """Return a bundled model on the card and its system at 300 K."""
    model, system = load_model(name, device="cuda"), atoms()
    draw_momenta(system, 300.0, np.random.default_rng(1), model.conservation)
    return model, state_from_atoms(system, "cuda")


@EACH
@pytest.mark.parametrize("precision", ["ieee", "tf32x3"])
@pytest.mark.parametrize("edge_weights", ["tables", "perceptrons"])
@torch.no_grad()
def test_forecasts_agree_with_float64(name, atoms, precision, edge_weights):
    model, state = bundled(name, atoms)
    exact = torch.cat(model.double().set_backend("reference").raw_forecast(state))
    model.float().set_backend(Triton(precision=precision, edge_weights=edge_weights))
    found = torch.cat(model.raw_forecast(state))
    assert relative_error(found, exact) < 1e-5
    assert torch.equal(torch.cat(model.raw_forecast(state)), found)


@EACH
@torch.no_grad()
def test_a_cuda_graph_gives_the_same_bits(name, atoms):
    model, state = bundled(name, atoms)
    backend = Triton()
    layers = backend.layers(model, (VECTOR,))
    species = model.species_index(state.atomic_numbers)
    near = model.set_backend(backend).neighborhood(state)

    def forecast():
        return model._targets(species, state.velocities, near, layers)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        expected = forecast().clone()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = forecast()
    for _ in range(3):
        found.zero_()
        graph.replay()
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_gradients_are_those_of_the_reference(dtype):
    model = small_model(lmax=2, n_layers=2, surroundings_cutoff=5.0).to("cuda", dtype)
    model.requires_grad_()
    states = [random_state(np.random.default_rng(seed)) for seed in (1, 2)]
    state, found = join(states).to("cuda"), []
    for name in ("reference", "triton"):
        model.set_backend(name).zero_grad()
        moved, _ = model.raw_forecast(state)
        moved.square().sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    for expected, ours in zip(*found, strict=True):
        assert relative_error(ours, expected) < tolerance


@pytest.mark.parametrize("in_table", [False, True], ids=["rows", "table"])
def test_gradients_have_the_same_bits_again(in_table):
    product, routes, x, weights, harmonics = problem(
        all_irreps(2),
        2,
        32,
        random_edges(40, 400),
        n_atoms=40,
        dtype=torch.float32,
        in_table=in_table,
    )
    inputs = ProductInputs(
        *(
            None if part is None else part.cuda()
            for part in (
                harmonics,
                weights.rows,
                weights.fractions,
                routes.offsets,
                routes.senders,
                routes.receivers,
            )
        )
    )
    x, values = (part.detach().cuda() for part in (x, weights.values))
    sums = product_sums(product.rule, product.rule.irreps_out, x, values, inputs)
    first = gradients(product.rule, x, values, inputs, sums)
    for _ in range(3):
        again = gradients(product.rule, x, values, inputs, sums)
        assert all(map(torch.equal, again, first))
