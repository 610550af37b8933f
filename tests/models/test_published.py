"""Published weights: the twin's forecasts, the authors' numbers, and refusals."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import TOLERANCES, make_state, relative_error, to_e3nn
from published_twin import (
    CONFIG,
    FORECASTS,
    MASSES,
    WEIGHTS,
    PublishedTwin,
    tiny_config,
    tiny_inputs,
)
from safetensors.torch import load_file

from trajcast_ase.models.published import import_published
from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network.graph import NetworkInputs
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.sampling import perceptron_weights
from trajcast_ase.stride import conserved_forecast, stride

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "ibm_trajcast"
PARACETAMOL = REFERENCE / "efficient_paracetamol"
BENZENE = REFERENCE / "benzene_flexible"
TINY_ELEMENTS = ("H", "C", "O")


def needs(folder):
    """Return the marks of a test on data outside the package."""
    absent = pytest.mark.skipif(not folder.is_dir(), reason=f"no {folder}")
    return lambda test: pytest.mark.reference(absent(test))


@pytest.fixture
def weights():
    return load_file(WEIGHTS)


@pytest.fixture(scope="module")
def tiny():
    return import_published(
        CONFIG, load_file(WEIGHTS), elements=TINY_ELEMENTS, horizon_fs=7.0
    )


def tiny_states(inputs):
    numbers = [(1, 6, 8)[k] for k in inputs["species"].tolist()]
    return [
        make_state(
            r.numpy(), v.numpy(), numbers, masses=MASSES[inputs["species"]].tolist()
        )
        for r, v in zip(inputs["positions"], inputs["velocities"], strict=True)
    ]


def largest(actual, expected):
    return float((actual - expected).abs().max())


def test_committed_forecasts(tiny):
    stored = load_file(FORECASTS)
    for k, state in enumerate(tiny_states(stored)):
        displacements, velocities = conserved_forecast(tiny, state)
        assert relative_error(displacements, stored["displacements"][k]) < 1e-11
        assert relative_error(velocities, stored["new_velocities"][k]) < 1e-11
        # Large enough that the claim means something, in Å and Å/fs.
        assert float(displacements.abs().max()) > 1e-3
        assert float(velocities.abs().max()) > 1e-4


def test_twin_computed_now(tiny, weights):
    inputs = tiny_inputs(np.random.default_rng(77))
    twin = PublishedTwin(tiny_config(), weights)
    state = tiny_states(inputs)[0]
    expected = twin(inputs["species"], state.positions, state.velocities)
    for one, other in zip(conserved_forecast(tiny, state), expected, strict=True):
        assert relative_error(one, other) < 1e-11


def test_committed_configuration_is_that_of_the_twin():
    assert yaml.safe_load(CONFIG.read_text()) == {"model": tiny_config()}


def test_imported_model(tiny):
    config = tiny.config
    assert config.elements == (1, 6, 8)
    assert config.horizon_fs == tiny.horizon_fs == 7.0
    assert (config.displacement_rms, config.velocity_rms) == (0.02, 0.008)
    assert config.conserve_angular_momentum
    assert config.fixed_angular_momentum == (0.0, 0.0, 0.0)
    assert config.velocity_encoding == "direction"
    assert not any(parameter.requires_grad for parameter in tiny.parameters())


def test_files_and_contents_are_equal(tiny, weights, tmp_path):
    torch.save(weights, tmp_path / "weights.pt")
    options = {"model": tiny_config()}
    model = import_published(
        options, tmp_path / "weights.pt", elements=(1, 6, 8), horizon_fs=7.0
    )
    assert model.config == tiny.config
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, dict(tiny.named_parameters())[name])


# ----- the authors' implementation, where its numbers are at hand


@pytest.fixture(scope="module")
def paracetamol():
    return import_published(
        PARACETAMOL / "config_e3nn.yaml",
        PARACETAMOL / "state_dict_e3nn.pt",
        elements=("H", "C", "N", "O"),
        horizon_fs=7.0,
    )


def reference_state(data, frame):
    state = make_state(
        data["positions"][frame],
        data["velocities"][frame],
        data["numbers"].tolist(),
        masses=data["masses"],
        cell=data["cell"],
        pbc=data["pbc"],
    )
    assert data["type_map_z"].tolist() == [1, 6, 7, 8]
    assert data["type_map_index"].tolist() == [0, 1, 2, 3]
    return state


@needs(PARACETAMOL)
@pytest.mark.parametrize("frame", range(4))
def test_single_steps(paracetamol, frame):
    data = np.load(PARACETAMOL / "single_step.npz")
    state = reference_state(data, frame)
    edges = find_edges(state, float(data["cutoff"]))
    assert len(edges.receivers) == data["num_edges"][frame]
    displacements, velocities = conserved_forecast(paracetamol, state)
    exact = torch.from_numpy(data["displacements_f64"][frame])
    assert largest(displacements, exact) < 1e-9
    exact_velocities = torch.from_numpy(data["new_velocities_f64"][frame])
    assert largest(velocities, exact_velocities) < 1e-10
    # Without suffix: the authors' float32 one-hot, about 1e-6 relative.
    rounded = torch.from_numpy(data["displacements"][frame])
    assert relative_error(displacements, rounded) < 1e-5


@needs(PARACETAMOL)
@pytest.mark.parametrize("frame", range(4))
def test_single_steps_in_float32(frame):
    data = np.load(PARACETAMOL / "single_step.npz")
    model = import_published(
        PARACETAMOL / "config_e3nn.yaml",
        PARACETAMOL / "state_dict_e3nn.pt",
        elements=("H", "C", "N", "O"),
        horizon_fs=7.0,
    ).float()
    displacements, _ = conserved_forecast(model, reference_state(data, frame))
    exact = torch.from_numpy(data["displacements_f64"][frame])
    assert largest(displacements, exact) < TOLERANCES[torch.float32]["published"]


@needs(PARACETAMOL)
def test_rollout_of_20_steps(paracetamol):
    data = np.load(PARACETAMOL / "rollout_nve_20.npz")
    state = reference_state(data, 0)
    with torch.no_grad():
        for step in range(1, 21):
            state = stride(paracetamol, state)
            positions = torch.from_numpy(data["positions_f64"][step])
            velocities = torch.from_numpy(data["velocities_f64"][step])
            assert largest(state.positions, positions) < 1e-9
            assert largest(state.velocities, velocities) < 1e-10


@needs(PARACETAMOL)
def test_intermediates(paracetamol):
    data = np.load(PARACETAMOL / "intermediates_frame0.npz")
    stored = {name: torch.from_numpy(data[name]) for name in data.files}
    state = reference_state(np.load(PARACETAMOL / "single_step.npz"), 0)
    ours = find_edges(state, paracetamol.config.cutoff)
    receivers, senders = stored["edge_index"]
    order = torch.from_numpy(np.lexsort((senders.numpy(), receivers.numpy())))
    assert torch.equal(ours.receivers, receivers[order])
    assert torch.equal(ours.senders, senders[order])
    assert largest(ours.vectors, stored["edge_vectors"][order]) < 1e-13
    species = paracetamol.species_index(state.atomic_numbers)
    assert torch.equal(species, stored["atom_types"].flatten())
    edges = Edges(ours.receivers, ours.senders, stored["edge_vectors"][order])
    routes = Routes.of_edges(edges, len(species))
    inputs = NetworkInputs(species, state.velocities, edges.vectors, routes, None)
    graph = inputs.graph(paracetamol)
    assert largest(graph.edge_harmonics, stored["edge_sh"][order]) < 1e-13
    radial = paracetamol.edge_basis(stored["edge_lengths"][order].flatten())
    assert largest(radial, stored["edge_length_embedding"][order]) < 1e-13
    assert largest(graph.velocity_harmonics, stored["vel_sh"]) < 1e-13
    # The rest was stored with the authors' float32 one-hot: 1e-6 relative.
    limit = 1e-6
    assert relative_error(graph.velocity_radial, stored["vel_norm_embedding"]) < limit
    x = paracetamol.embedding(
        graph.species_one_hot, graph.velocity_radial, graph.velocity_harmonics
    )
    assert relative_error(to_e3nn(x, [1, 3, 5]), stored["LinearInit"]) < limit
    weights = perceptron_weights(paracetamol, graph, edges)
    for k, (layer, own) in enumerate(zip(paracetamol.layers, weights, strict=True)):
        x = layer(x, graph, own)
        dims = [irrep.dim for irrep in layer.irreps_out]
        assert relative_error(to_e3nn(x, dims), stored[f"mp_layer_{k}"]) < limit
    (compressed,) = paracetamol.compression((x[:, paracetamol.vector_rows],))
    found = to_e3nn(compressed, [3])
    assert relative_error(found, stored["LinearCompression"]) < limit
    (targets,) = paracetamol.readout((compressed,))
    assert relative_error(to_e3nn(targets, [3]), stored["LinearReadOut"]) < limit
    displacements, velocities = conserved_forecast(paracetamol, state)
    config = paracetamol.config
    final = torch.cat(
        [displacements / config.displacement_rms, velocities / config.velocity_rms], 1
    )
    assert relative_error(final, stored["final_target"]) < 10 * limit


# ----- refusals


def refuse(match, options, tensors, elements=TINY_ELEMENTS):
    with pytest.raises(ValueError, match=match) as error:
        import_published(options, tensors, elements=elements, horizon_fs=7.0)
    assert "\n" not in str(error.value)


@needs(BENZENE)
@pytest.mark.parametrize(
    "config",
    [
        "architecture.yaml",
        "architecture_momentum.yaml",
        "architecture_trajcast_model.yaml",
    ],
)
@pytest.mark.parametrize(
    "file", ["model_weights.pt", "model_params_no_pbc_crossing.pt"]
)
def test_older_files_are_refused_by_name(config, file):
    refuse("older class FlexibleModel", BENZENE / config, BENZENE / file)


def test_older_classes_are_refused_by_name():
    zero = torch.zeros(3)
    flexible = {"layers.MessagePassingLayer1.fc.layer0.weight": zero}
    refuse("older class FlexibleModel, which is not supported", CONFIG, flexible)
    other = {"model.mp_1.weight": zero}
    refuse("older class TrajCastModel or FlexibleModel", CONFIG, other)


@pytest.mark.parametrize("elements", [("H", "C"), ("H", "C", "N", "O"), ()])
def test_number_of_elements_must_fit(weights, elements):
    match = rf"{len(elements)} elements given .*, but the weights are for 3"
    refuse(match, CONFIG, weights, elements)


def test_elements_must_be_distinct_symbols(weights):
    refuse("'Xy' is not a chemical symbol", CONFIG, weights, ("H", "Xy", "O"))
    refuse("distinct", CONFIG, weights, ("H", "H", "O"))


@pytest.mark.parametrize(
    "name",
    [
        "rms_targets",
        "avg_num_neighbors",
        "_int_out.LinearInit.linear.weight",
        "_int_out.mp_layer_1.edge_mlp.layer1.weight",
        "_encoding.EdgeLengthEncoding.radial_basis.bessel_roots",
    ],
)
def test_missing_tensor(weights, name):
    del weights[name]
    refuse(f"the weights lack '{name}'", CONFIG, weights)


@pytest.mark.parametrize(
    "name", ["_int_out.mp_layer_2.tp_resnet.weight", "_int_out.LinearExtra.weight"]
)
def test_unknown_tensor(weights, name):
    refuse(f"unknown tensor '{name}'", CONFIG, weights | {name: torch.ones(4)})


def test_wrong_shapes(weights):
    name = "_int_out.mp_layer_0.vel_mlp.layer0.weight"
    transposed = weights | {name: weights[name].T.contiguous()}
    refuse(rf"'{name}' has the shape \(4, 5\)", CONFIG, transposed)
    name = "_int_out.LinearReadOut.linear.weight"
    refuse(rf"'{name}' has the shape \(3,\)", CONFIG, weights | {name: torch.ones(3)})
    name = "_encoding.EdgeLengthEncoding.radial_basis.bessel_roots"
    refuse(f"'{name}' has the shape", CONFIG, weights | {name: torch.ones(9)})


def test_weights_that_are_not_finite(weights):
    name = "_int_out.LinearInit.linear.weight"
    weights[name][5] = torch.nan
    refuse(
        f"'{name}' in the weights holds numbers that are not finite", CONFIG, weights
    )


@pytest.mark.parametrize("value", [None, 3, "text", {"state": {"a": 1}}])
def test_state_dict_of_something_else(tmp_path, value):
    torch.save(value, tmp_path / "other.pt")
    refuse(
        "other.pt is not a mapping of names to tensors", CONFIG, tmp_path / "other.pt"
    )


def test_damaged_state_dict(weights, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(weights, path)
    content = path.read_bytes()
    for size in (0, 10, 1000, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:size])
        refuse("weights.pt is damaged", CONFIG, path)


def test_state_dict_before_torch_1_6(weights, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    refuse(r"weights\.pt is damaged, or was not written by torch.save", CONFIG, path)


def test_state_dict_that_would_fill_the_memory(tmp_path):
    path = tmp_path / "weights.pt"
    zeros = bytes(2**20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for k in range(2):
            archive.writestr(f"weights/data/{k}", zeros)
    # Claim 1 GiB each where the archive lists its records.
    size = len(zeros).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (2**30).to_bytes(4, "little")))
    refuse(r"holds 2,147,483,648 bytes, weights have at most", CONFIG, path)


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.bool, torch.complex128, torch.float16, torch.bfloat16],
)
@pytest.mark.parametrize(
    "name", ["rms_targets", "_int_out.mp_layer_1.linear_contraction.weight"]
)
@pytest.mark.filterwarnings("ignore:Casting complex values to real")
def test_numbers_of_another_type(weights, name, dtype):
    changed = weights | {name: weights[name].to(dtype)}
    refuse(f"'{name}' in the weights is of {dtype}", CONFIG, changed)


def test_tensors_that_are_not_plain(weights):
    name = "_int_out.LinearReadOut.linear.weight"
    for tensor in (weights[name].to_sparse(), weights[name].to("meta")):
        refuse(f"'{name}' in the weights is of", CONFIG, weights | {name: tensor})
    huge = torch.zeros(1).expand(10**12)
    refuse("has the shape", CONFIG, weights | {name: huge})
    refuse("unknown tensor 'x'", CONFIG, weights | {"x": huge})
    refuse("is not a mapping of names", CONFIG, weights | {3: weights[name]})


def test_missing_files_are_named(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        import_published(
            CONFIG, tmp_path / "nothing.pt", elements=TINY_ELEMENTS, horizon_fs=7.0
        )
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml"):
        import_published(
            tmp_path / "nothing.yaml", weights, elements=TINY_ELEMENTS, horizon_fs=7.0
        )


class Intruder:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_state_dict_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"a": Intruder(tmp_path / "trace")}, tmp_path / "weights.pt")
    refuse("weights.pt", CONFIG, tmp_path / "weights.pt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no section 'model'"),
        ("- 1\n- 2\n", "no section 'model'"),
        ("model: 3\n", "no section 'model'"),
        ("model: {edge_cutoff: 3.0}\n", "lacks 'num_chem_elements'"),
        ("model: [1, {]}\n", "is not a YAML file"),
        ("\t:\t- {", "is not a YAML file"),
        ("model: !!python/object/apply:os.getcwd []\n", "is not a YAML file"),
        ("model: !!bool maybe\n", "has the tag tag:yaml.org,2002:bool"),
        ("model: 2001-99-99\n", "is not a YAML file"),
        ("model: &a [1]\nother: *a\n", r"has an alias, \*a; write the value out"),
        ("model: " + "[" * 5000, "nests more than 10 levels"),
        ("model: " + "{a: " * 11, "nests more than 10 levels"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nmodel: *c\n", "has an alias"),
        ("#" * 70_000, "has 70,000 bytes, a configuration at most 65,536"),
    ],
)
def test_nonsense_configuration(weights, tmp_path, text, match):
    (tmp_path / "config.yaml").write_text(text)
    refuse(f"config.yaml.*{match}", tmp_path / "config.yaml", weights)


def test_binary_configuration(weights, tmp_path):
    (tmp_path / "config.yaml").write_bytes(bytes(range(256)))
    refuse("is not a YAML file", tmp_path / "config.yaml", weights)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"edge_mlp_kwargs": 3}, "edge_mlp_kwargs = 3 must hold"),
        ({"vel_mlp_kwargs": {"n_neurons": 4}}, "vel_mlp_kwargs"),
        ({"edge_mlp_kwargs": {"n_neurons": [4], "activation": "relu"}}, "'relu'"),
        ({"nl_gate_kwargs": {"activation_gates": {"e": "relu"}}}, "nl_gate_kwargs"),
        ({"edge_cutoff": -1.0}, "edge_cutoff = -1.0 must lie between"),
        ({"max_rotation_order": 1}, "has the shape"),
        ({"num_mp_layers": 1}, "unknown tensor"),
        ({"num_mp_layers": 3}, "the weights lack"),
        ({"num_hidden_channels": 16}, "has the shape"),
        ({"num_mp_layers": 10**7}, "num_mp_layers = 10000000 must be an integer"),
        ({"num_mp_layers": "2"}, "num_mp_layers = '2' must be an integer"),
        ({"num_mp_layers": 2.5}, r"num_mp_layers = 2\.5 must be an integer"),
        ({"max_rotation_order": True}, "max_rotation_order = True must be"),
        ({"num_hidden_channels": None}, "num_hidden_channels = None must be"),
        ({"num_edge_rbf": float("inf")}, "num_edge_rbf = inf must be"),
        ({"num_chem_elements": "3"}, "num_chem_elements = '3' must be"),
        ({"edge_cutoff": "3.2"}, "edge_cutoff = '3.2' must be a finite number"),
        ({"vel_max": float("nan")}, "vel_max = nan must be a finite number"),
        ({"vel_mlp_kwargs": {"n_neurons": ["4"]}}, "velocity_mlp, a width = '4' must"),
        ({"vel_mlp_kwargs": {"n_neurons": [10**9]}}, "velocity_mlp, a width = 10000"),
        ({"conserve_ang_mom": "no"}, "conserve_ang_mom = 'no' must be true or false"),
        ({"net_ang_mom": 3.0}, r"net_ang_mom = 3\.0 must be a list"),
        ({"net_ang_mom": [0.0, 0.0]}, "must hold three numbers"),
        ({"net_ang_mom": [0.0, "a", 0.0]}, "net_ang_mom, y = 'a' must be"),
    ],
)
def test_configuration_that_does_not_fit(weights, change, match):
    refuse(match, {"model": tiny_config() | change}, weights)
