"""Symmetries of the forecast, batches, types, and the checks of the configuration."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import (
    TOLERANCES,
    join,
    make_state,
    needs_compiler,
    random_rotation,
    random_state,
    relative_error,
    rotated,
    small_config,
    small_model,
    triclinic_cell,
)
from hypothesis import given
from hypothesis import strategies as st

from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.network.shapes import n_numbers, tensor_shapes
from trajcast_ase.stride import conserved_forecast

F64 = TOLERANCES[torch.float64]
seeds = st.integers(0, 2**32 - 1)


# Out to farther than the layers, and than most of the cells.
SURROUNDINGS = {"surroundings_cutoff": 6.0, "n_surroundings_rbf": 8}
VARIANTS = {
    "direction": ("direction", {}),
    "thermal": ("thermal", {}),
    "natural": ("thermal", {"parity": "natural"}),
    "surroundings": ("thermal", SURROUNDINGS),
}
KINDS = [
    (variant, dtype) for variant in VARIANTS for dtype in (torch.float64, torch.float32)
]


def model_of(variant, dtype=torch.float64):
    encoding, changes = VARIANTS[variant]
    return small_model(encoding, dtype, **changes)


kinds = st.sampled_from(KINDS)
encodings = st.sampled_from(["direction", "thermal"])


@pytest.fixture(scope="module")
def models():
    return {kind: model_of(*kind) for kind in KINDS}


def draw_state(seed):
    """Return a molecule or a crystal, smaller than the cutoff in places."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        return random_state(rng, int(rng.integers(1, 12))), rng
    cell = None
    while cell is None:
        cell = triclinic_cell(rng.uniform(3.0, 6.0, 3), rng.uniform(55, 125, 3))
    pbc = rng.random(3) < 0.7
    return random_state(rng, 6, cell=cell, pbc=pbc), rng


def assert_forecast(actual, expected, tolerance):
    for one, other in zip(actual, expected, strict=True):
        assert relative_error(one, other) < tolerance


def forecast_of(model, state):
    return conserved_forecast(model, state)


@given(seed=seeds, kind=kinds)
def test_rotation_and_inversion(models, seed, kind):
    model = models[kind]
    state, rng = draw_state(seed)
    matrix = random_rotation(rng) * (-1 if rng.random() < 0.5 else 1)
    expected = [part @ matrix.T for part in forecast_of(model, state)]
    tolerance = TOLERANCES[model.dtype]["symmetry"]
    assert_forecast(forecast_of(model, rotated(state, matrix)), expected, tolerance)


@given(seed=seeds, kind=kinds)
def test_permutation(models, seed, kind):
    model = models[kind]
    state, rng = draw_state(seed)
    order = torch.tensor(rng.permutation(state.n_atoms))
    mixed = replace(
        state,
        **{
            name: getattr(state, name)[order]
            for name in ("positions", "velocities", "masses", "atomic_numbers")
        },
    )
    expected = [part[order] for part in forecast_of(model, state)]
    tolerance = TOLERANCES[model.dtype]["symmetry"]
    assert_forecast(forecast_of(model, mixed), expected, tolerance)


@given(seed=seeds, kind=kinds)
def test_translation(models, seed, kind):
    model = models[kind]
    state, rng = draw_state(seed)
    moved = state.positions + torch.tensor(rng.normal(size=3) * 20.0)
    expected = forecast_of(model, state)
    actual = forecast_of(model, state.moved(moved, state.velocities))
    assert_forecast(actual, expected, TOLERANCES[model.dtype]["translation"])


@given(seed=seeds, kind=kinds)
def test_lattice_vectors_do_not_matter(models, seed, kind):
    model = models[kind]
    state, rng = draw_state(seed & ~1)
    images = rng.integers(-20, 21, (state.n_atoms, 3)) * state.pbc[0].numpy()
    moved = state.positions + torch.tensor(images).double() @ state.cell[0]
    expected = forecast_of(model, state)
    actual = forecast_of(model, state.moved(moved, state.velocities))
    assert_forecast(actual, expected, TOLERANCES[model.dtype]["translation"])


@given(seed=seeds, encoding=encodings)
def test_galilean_boost(models, seed, encoding):
    model = models[encoding, torch.float64]
    state, rng = draw_state(seed)
    boost = torch.tensor(rng.normal(size=3) * 0.05)
    displacements, velocities = forecast_of(model, state)
    expected = displacements + boost * model.horizon_fs, velocities + boost
    boosted = state.moved(state.positions, state.velocities + boost)
    assert_forecast(forecast_of(model, boosted), expected, F64["translation"])


@given(seed=seeds, encoding=encodings, axis=st.integers(0, 2))
def test_supercell_gives_the_same_forecast_for_each_atom(models, seed, encoding, axis):
    model = models[encoding, torch.float64]
    rng = np.random.default_rng(seed)
    cell = triclinic_cell(rng.uniform(2.5, 5.0, 3), [80.0, 100.0, 70.0])
    state = random_state(rng, 5, cell=cell, pbc=True)
    once = np.eye(3)[axis]
    doubled = make_state(
        torch.cat([state.positions, state.positions + state.cell[0, axis]]).numpy(),
        torch.cat([state.velocities] * 2).numpy(),
        state.atomic_numbers.tolist() * 2,
        cell=cell * (1.0 + once)[:, None],
        pbc=True,
    )
    expected = [torch.cat([part, part]) for part in forecast_of(model, state)]
    assert_forecast(forecast_of(model, doubled), expected, F64["symmetry"])


@given(seed=seeds, kind=kinds)
def test_batch_equals_single_runs(models, seed, kind):
    model = models[kind]
    states = [draw_state(seed)[0], draw_state(seed + 1)[0], draw_state(seed + 2)[0]]
    singles = [forecast_of(model, state) for state in states]
    expected = [torch.cat(parts) for parts in zip(*singles, strict=True)]
    actual = forecast_of(model, join(states))
    assert_forecast(actual, expected, TOLERANCES[model.dtype]["batch"])


@pytest.mark.parametrize("kind", KINDS)
def test_same_input_gives_the_same_bits(models, kind):
    model = models[kind]
    state, _ = draw_state(4)
    for one, other in zip(
        forecast_of(model, state), forecast_of(model, state), strict=True
    ):
        assert torch.equal(one, other)


def test_float32_follows_float64(model):
    state, _ = draw_state(8)
    other = small_model(model.config.velocity_encoding, torch.float32)
    actual, expected = forecast_of(other, state), forecast_of(model, state)
    assert actual[0].dtype == actual[1].dtype == torch.float64
    # The precision of one float32 evaluation, as for symmetries.
    assert_forecast(actual, expected, TOLERANCES[torch.float32]["symmetry"])


def test_output_depends_on_every_input(model):
    state = random_state(np.random.default_rng(3), 9)
    base = model.raw_forecast(state)

    def change(other):
        parts = zip(model.raw_forecast(other), base, strict=True)
        return min(relative_error(new, old) for new, old in parts)

    stretched = state.moved(state.positions * 1.05, state.velocities)
    faster = state.moved(state.positions, state.velocities * 1.05)
    heavier = replace(state, atomic_numbers=torch.full_like(state.atomic_numbers, 8))
    for other in (stretched, faster, heavier):
        assert change(other) > 1e-2


@pytest.mark.parametrize("encoding", ["direction", "thermal"])
@pytest.mark.parametrize("lmax", [1, 3])
def test_other_orders_are_equivariant(encoding, lmax):
    model = small_model(encoding, lmax=lmax, n_layers=1)
    state, rng = draw_state(5)
    matrix = random_rotation(rng)
    expected = [part @ matrix.T for part in forecast_of(model, state)]
    actual = forecast_of(model, rotated(state, matrix))
    assert_forecast(actual, expected, F64["symmetry"])


@pytest.mark.parametrize(
    ("encoding", "jumps"), [("thermal", False), ("direction", True)]
)
def test_only_the_thermal_encoding_is_continuous_at_rest(models, encoding, jumps):
    model = models[encoding, torch.float64]
    state = random_state(np.random.default_rng(7), 9)
    edges = find_edges(state, model.config.cutoff)

    def at(scale):
        return model(state.atomic_numbers, state.velocities * scale, edges)

    step = float((at(1e-6) - at(0.0)).abs().max() / at(1.0).abs().max())
    assert (step > 1e-2) == jumps
    assert (step < 1e-4) != jumps


def test_weights_come_from_the_generator_alone():
    def weights(seed):
        generator = torch.Generator().manual_seed(seed)
        return dict(Forecaster(small_config(), generator=generator).named_parameters())

    one, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["readout.weight"], other["readout.weight"])
    assert torch.equal(one["edge_basis.roots"], other["edge_basis.roots"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter(variant):
    model = model_of(variant).requires_grad_(requires_grad=True)
    state, _ = draw_state(9)
    displacements, velocities = conserved_forecast(model, state)
    (displacements.square().sum() + velocities.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_surroundings_reach_as_far_as_they_say():
    """The third atom matters within the far cutoff of either other, no farther."""

    def at(distance, variant):
        model = model_of(variant)
        positions = [[0.0, 0, 0], [0, 0, 1.0], [0, 0, distance]]
        velocities = [[1e-2, 0, 0], [0, 1e-2, 0], [0, 0, 0]]
        state = make_state(positions, velocities, (8, 1, 8))
        return torch.cat(model.raw_forecast(state), dim=1)[0]

    alone = at(50.0, "surroundings")
    assert relative_error(at(5.5, "surroundings"), alone) > 1e-6
    assert torch.equal(at(7.01, "surroundings"), alone)
    assert torch.equal(at(5.5, "thermal"), at(50.0, "thermal"))


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@torch.no_grad()
def test_surroundings_from_a_table_agree_with_the_perceptron(dtype):
    state, _ = draw_state(6)
    exact = model_of("surroundings").raw_forecast(state)
    model = model_of("surroundings", dtype).set_backend("cpp")
    found = model.raw_forecast(state)
    assert (model._engine._layers.surroundings is not None) == (dtype == torch.float32)
    assert_forecast(found, exact, TOLERANCES[dtype]["symmetry"])


@needs_compiler
def test_gradients_through_tables_agree_with_the_reference():
    # Many atoms: a training on few takes the perceptrons, which are exact.
    state = random_state(np.random.default_rng(3), 90, cell=np.eye(3) * 9.0)
    state = replace(state, pbc=torch.ones(1, 3, dtype=torch.bool))
    gradients = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpp")):
        model = model_of("surroundings", dtype).requires_grad_(requires_grad=True)
        displacements, velocities = model.set_backend(backend).raw_forecast(state)
        (displacements.square().sum() + velocities.square().sum()).backward()
        gradients.append(dict(model.named_parameters()))
    for name, exact in gradients[0].items():
        found = gradients[1][name].grad.double()
        assert relative_error(found, exact.grad) < 1e-3, name


def test_unknown_element_is_named(thermal_model):
    with pytest.raises(ValueError, match=r"element Cl \(atomic number 17\).*H, C, O"):
        thermal_model.check_elements(torch.tensor([1, 17, 92]))
    with pytest.raises(ValueError, match="atomic number 300"):
        thermal_model.check_elements(torch.tensor([300]))
    with pytest.raises(ValueError, match="atomic number -1"):
        thermal_model.check_elements(torch.tensor([-1]))


def test_properties(thermal_model):
    assert thermal_model.horizon_fs == 7.0
    assert thermal_model.dtype == torch.float64
    assert thermal_model.device == torch.device("cpu")
    assert thermal_model.conservation.angular
    sizes = [parameter.numel() for parameter in thermal_model.parameters()]
    assert thermal_model.n_parameters == sum(sizes)
    assert thermal_model.config.symbols == ("H", "C", "O")


def test_config_round_trip():
    config = small_config(fixed_angular_momentum=(0.0, 0.0, 1.0))
    assert ForecasterConfig.from_dict(config.to_dict()) == config
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in vars_of(config)}
    assert ForecasterConfig.from_dict(lists) == config


def vars_of(config):
    return config.to_dict().items()


def test_config_refuses_unknown_and_missing_keys():
    values = small_config().to_dict()
    with pytest.raises(ValueError, match="unknown key 'cutof'"):
        ForecasterConfig.from_dict(values | {"cutof": 3.0})
    del values["cutoff"]
    with pytest.raises(ValueError, match="lacks 'cutoff'"):
        ForecasterConfig.from_dict(values)


def test_an_atom_beyond_the_largest_speed_enters_as_one_of_it():
    largest = 3.0
    state = random_state(np.random.default_rng(5), 8)
    free = small_model(n_layers=1)
    speeds = tuple(largest * scale for scale in free.config.velocity_scales)
    model = small_model(n_layers=1, largest_speeds=speeds)

    def at(multiple):
        velocities = state.velocities.clone()
        unit = velocities[2] / velocities[2].norm()
        own = free.velocity_scales[free.species_index(state.atomic_numbers)[2]]
        velocities[2] = multiple * own * unit
        return state.moved(torch.zeros_like(velocities), velocities)

    slow, limit, beyond = at(0.9 * largest), at(largest), at(3.0 * largest)
    for ours, theirs in zip(
        model.raw_forecast(slow), free.raw_forecast(slow), strict=True
    ):
        assert torch.equal(ours, theirs)
    for there, farther in zip(
        model.raw_forecast(limit), model.raw_forecast(beyond), strict=True
    ):
        torch.testing.assert_close(farther, there, rtol=1e-12, atol=0.0)
    assert relative_error(free.raw_forecast(beyond)[0], free.raw_forecast(limit)[0]) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff": 0.0}, r"cutoff = 0\.0 must lie between 0\.1 and 100"),
        ({"horizon_fs": float("nan")}, "horizon_fs = nan must be a finite number"),
        ({"velocity_rms": -1.0}, "velocity_rms = -1"),
        ({"avg_num_neighbors": 0}, "avg_num_neighbors = 0"),
        ({"n_layers": 0}, "n_layers = 0"),
        ({"elements": ()}, "must be distinct and not empty"),
        ({"elements": (1, 6, 6)}, "must be distinct and not empty"),
        ({"lmax": 0}, "lmax = 0 must be an integer from 1 to 6"),
        ({"n_channels": 3}, "n_channels = 3 must be an integer from 4"),
        ({"surroundings_cutoff": 3.5}, r"3\.5 Å must be larger than cutoff = 3\.5"),
        ({"parity": "odd"}, "parity = 'odd'; choose 'both' or 'natural'"),
        ({"velocity_encoding": "polar"}, "'polar'; choose 'direction' or"),
        ({"velocity_scales": (1.0,)}, "must hold 3 positive"),
        ({"velocity_scales": (1.0, 1.0, 0.0)}, r"velocity_scales.* = 0\.0 must lie"),
        ({"velocity_scales": [1.0, 1.0, 1.0]}, "velocity_scales .* must be a tuple"),
        ({"largest_speeds": (0.1, 0.1)}, r"largest_speeds = .* must hold 3 positive"),
        ({"largest_speeds": (0.1, 0.1, 0.0)}, r"largest_speeds.* = 0\.0 must lie"),
        ({"largest_speeds": [0.1] * 3}, "largest_speeds .* must be a tuple"),
        ({"velocity_scales": (1.0, 1.0, True)}, "= True must be a finite number"),
        ({"conserve_angular_momentum": "no"}, "= 'no' must be true or false"),
        ({"conserve_angular_momentum": 0}, "= 0 must be true or false"),
        ({"n_channels": True}, "n_channels = True must be an integer"),
        ({"n_channels": 8.0}, r"n_channels = 8\.0 must be an integer"),
        ({"n_layers": 10**7}, "n_layers = 10000000 must be an integer from 1 to 16"),
        ({"n_channels": 1024, "lmax": 6}, "at most 100,000,000 are supported"),
        ({"edge_mlp": (6, -1)}, "edge_mlp, a width = -1 must be"),
        ({"edge_mlp": (6,) * 9}, "edge_mlp has 9 widths"),
        ({"elements": (1, 6, 119)}, "an atomic number = 119 must be"),
        ({"cutoff": 10**400}, "cutoff = .* must be a finite number"),
        ({"velocity_saturation": 0.0}, r"velocity_saturation = 0\.0 must lie"),
        ({"fixed_angular_momentum": (0.0, 0.0)}, "must hold three numbers"),
        ({"fixed_angular_momentum": (0.0, 0.0, float("inf"))}, "= inf must be a fin"),
        ({"velocity_encoding": "direction"}, "must hold 0 positive"),
    ],
)
def test_config_refuses_nonsense(change, message):
    with pytest.raises(ValueError, match=message):
        small_config(**change)


@pytest.mark.parametrize("encoding", ["thermal", "direction"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"parity": "natural"},
        {"lmax": 1},
        {"lmax": 3, "n_layers": 3},
        {"surroundings_cutoff": 7.0, "edge_mlp": ()},
        {"n_channels": 9, "velocity_mlp": (4, 6, 5)},
    ],
)
def test_shapes_are_known_before_the_network_is_built(encoding, change):
    model = small_model(encoding, **change)
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    assert tensor_shapes(model.config) == shapes
    assert n_numbers(model.config) == model.n_parameters
