from __future__ import annotations

import hashlib
import json
import pickle  # noqa: TID251  to craft what must be refused
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from ase.build import molecule
from helpers import BUNDLED, small_model
from safetensors import safe_open

from trajcast_ase import (
    available_models,
    forecast,
    import_published,
    load_model,
    save_model,
)
from trajcast_ase.files import write_atomically
from trajcast_ase.models.fingerprint import fingerprint
from trajcast_ase.models.model_header import (
    ModelCard,
    ModelFileError,
    header_texts,
    parse_header,
    read_header,
    seal,
)
from trajcast_ase.models.model_zoo import bundled_models, find_model

CARD = ModelCard(
    training={"pairs": 1000, "temperature_K": [300, 300]},
    errors={"displacement_percent": 0.4, "n_pairs": 100},
    licence="CC-BY-4.0",
    citation="A. Author, 2026",
    periodic=False,
    masses_amu={"H": 2.014},
)


@pytest.fixture(scope="module")
def network():
    """Return a tiny float32 network."""
    return small_model("thermal", torch.float32, n_layers=1)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    """Return the path of the network's file."""
    path = tmp_path_factory.mktemp("models") / "tiny.trajcast"
    save_model(network, path, metadata=CARD)
    return path


def ethanol():
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(5)
    atoms.set_momenta(rng.normal(0.0, 0.3, (len(atoms), 3)))
    return atoms


def rewritten(network, tmp_path, *, tensors=None, metadata=None, texts=None, name="n"):
    """Write a file whose hash is right but whose content is not a good model."""
    original = tmp_path / "original.trajcast"
    save_model(network, original)
    header = read_header(original)
    values = {name: getattr(header, name) for name in header.__slots__}
    all_texts = header_texts(values | (metadata or {})) | (texts or {})
    all_texts = {key: text for key, text in all_texts.items() if text is not None}
    content = dict(network.state_dict()) if tensors is None else tensors
    path = tmp_path / f"{name}.trajcast"
    path.write_bytes(seal(safetensors.torch.save(content, all_texts)))
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_is_bit_equal_and_keeps_the_dtype(tmp_path, dtype):
    model = small_model("thermal", dtype)
    path = tmp_path / "copy.trajcast"
    save_model(model, path)
    loaded = load_model(path)
    assert loaded.config == model.config
    assert loaded.dtype == dtype
    for name, parameter in model.named_parameters():
        assert torch.equal(dict(loaded.named_parameters())[name], parameter)
    one, two = (
        forecast(network.set_backend("auto"), ethanol()) for network in (model, loaded)
    )
    assert np.array_equal(one.displacements, two.displacements)
    assert np.array_equal(one.velocities, two.velocities)


def test_saving_a_loaded_model_keeps_the_tensor_bytes(file, tmp_path):
    again = tmp_path / "again.trajcast"
    save_model(load_model(file), again)
    with safe_open(file, "np") as one, safe_open(again, "np") as two:
        assert list(one.keys()) == list(two.keys())
        for name in one.keys():  # noqa: SIM118  not a mapping
            assert one.get_tensor(name).tobytes() == two.get_tensor(name).tobytes()


def test_loaded_model_is_frozen_and_knows_its_file(file, network):
    model = load_model(file)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert model.name == "tiny"
    assert model.content_hash == network.content_hash == read_header(file).sha256
    assert model.header == read_header(file)
    assert network.name == "unnamed"


def test_dtype_is_converted_on_request(file):
    single, double = load_model(file), load_model(file, dtype=torch.float64)
    assert double.dtype == torch.float64
    assert double.content_hash == single.content_hash
    one, two = forecast(single, ethanol()), forecast(double, ethanol())
    assert np.allclose(one.displacements, two.displacements, rtol=0, atol=1e-5)
    assert not np.array_equal(one.displacements, two.displacements)


def test_content_hash_follows_weights_and_configuration(network):
    changed = small_model("thermal", torch.float32, n_layers=1)
    assert changed.content_hash == network.content_hash
    with torch.no_grad():
        changed.readout.weight[0] += 1e-3
    assert changed.content_hash != network.content_hash
    longer = small_model("thermal", torch.float32, n_layers=1, horizon_fs=8.0)
    assert longer.content_hash != network.content_hash


def test_loading_leaves_the_global_random_stream(file):
    before = torch.random.get_rng_state()
    load_model(file)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_header_states_the_model(file, network):
    header = read_header(file)
    assert header.name == "tiny"
    assert header.config == json.loads(json.dumps(network.config.to_dict()))
    assert header.horizon_fs == 7.0
    assert header.elements == ("H", "C", "O")
    assert header.masses_amu == (2.014, 12.011, 15.999)
    assert header.cutoff_A == 3.5
    assert header.periodic is False
    assert header.training == CARD.training
    assert header.errors == CARD.errors
    assert (header.licence, header.citation) == (CARD.licence, CARD.citation)
    assert header.units == {"length": "Å", "time": "fs", "mass": "amu"}
    assert header.conserved == (
        "linear momentum",
        "angular momentum without periodic axes",
    )
    assert header.n_parameters == network.n_parameters
    assert header.n_bytes == file.stat().st_size
    assert header.dtypes == ("F32",)


def test_header_says_what_is_not_conserved(tmp_path):
    model = small_model(n_layers=1, conserve_angular_momentum=False)
    header = save_model(model, tmp_path / "spins.trajcast")
    assert header.conserved == ("linear momentum",)


def test_file_hash_covers_the_file(file):
    data, digest = file.read_bytes(), read_header(file).file_sha256.encode()
    unsealed = data.replace(digest, b"0" * 64)
    assert hashlib.sha256(unsealed).hexdigest().encode() == digest


def test_truncated_files_are_refused(file, tmp_path):
    data = file.read_bytes()
    path = tmp_path / "short.trajcast"
    offsets = np.unique(np.linspace(0, len(data) - 1, 100).astype(int))
    assert len(offsets) == 100
    for offset in offsets:
        path.write_bytes(data[:offset])
        with pytest.raises(ModelFileError, match=r"short\.trajcast .*truncated"):
            load_model(path)


def test_longer_files_are_refused(file, tmp_path):
    path = tmp_path / "long.trajcast"
    path.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelFileError, match="bytes of tensors instead of"):
        load_model(path)


def test_flipped_bytes_are_refused(file):
    data = file.read_bytes()
    rng = np.random.default_rng(11)
    n_header = 8 + int.from_bytes(data[:8], "little")
    # Half of them in the header, which is the smaller part.
    positions = np.concatenate(
        [rng.integers(0, n_header, 500), rng.integers(n_header, len(data), 500)]
    )
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        with pytest.raises(ModelFileError, match=r"^tiny\.trajcast .*; "):
            parse_header(bytes(damaged), "tiny.trajcast")


def test_white_space_in_the_header_is_protected_too(file):
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    padded = data[:end].rstrip(b" ")
    assert len(padded) < end, "the header has no padding to test with"
    damaged = padded + b"\t" * (end - len(padded)) + data[end:]
    with pytest.raises(ModelFileError, match="its hash promises"):
        parse_header(damaged, "tiny.trajcast")


def test_foreign_safetensors_is_refused(tmp_path):
    path = tmp_path / "other.trajcast"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="format is None instead of"):
        load_model(path)


def test_newer_version_is_refused(network, tmp_path):
    path = rewritten(network, tmp_path, texts={"version": "2"})
    with pytest.raises(ModelFileError, match=r"version '2', .* update trajcast-ase"):
        load_model(path)


def test_unknown_config_key_is_refused(network, tmp_path):
    config = network.config.to_dict() | {"attention": 8}
    path = rewritten(network, tmp_path, metadata={"config": config})
    with pytest.raises(ModelFileError, match=r"n\.trajcast.*unknown key 'attention'"):
        load_model(path)


def test_config_value_of_wrong_type_is_refused(network, tmp_path):
    config = network.config.to_dict() | {"cutoff": "far"}
    path = rewritten(network, tmp_path, metadata={"config": config})
    with pytest.raises(ModelFileError, match=r"n\.trajcast"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("readout.weight"), "lacks the tensor 'readout.weight'"),
        (lambda t: t.update(extra=torch.zeros(2)), "holds a tensor 'extra'"),
        (
            lambda t: t.update({"readout.weight": torch.zeros(7)}),
            r"'readout.weight' of shape \(7,\)",
        ),
        (
            lambda t: t.update({"readout.weight": t["readout.weight"] + 1}),
            "other weights than its header names",
        ),
        (
            lambda t: t.update({"readout.weight": t["readout.weight"].double()}),
            "all of them in float32 or all in float64",
        ),
    ],
)
def test_wrong_tensors_are_refused(network, tmp_path, change, message):
    tensors = dict(network.state_dict())
    change(tensors)
    path = rewritten(network, tmp_path, tensors=tensors)
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"licence": None}, "lacks the header key 'licence'"),
        ({"horizon_fs": "soon"}, "horizon_fs = 'soon'"),
        ({"elements": '"H"'}, "elements = 'H' must be a list"),
    ],
)
def test_wrong_header_values_are_refused(network, tmp_path, texts, message):
    path = rewritten(network, tmp_path, texts=texts)
    with pytest.raises(ModelFileError, match=message):
        read_header(path)


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"__metadata__": 3}', b"\xff"])
def test_unreadable_header_is_refused(tmp_path, content):
    path = tmp_path / "bad.trajcast"
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(ModelFileError, match="has no readable header"):
        load_model(path)


def test_tensor_table_that_is_not_one_is_refused():
    header = json.dumps(
        {"__metadata__": {"format": "trajcast-model", "version": "1"}, "a": 1}
    ).encode()
    with pytest.raises(ModelFileError, match="damaged table of tensors"):
        parse_header(len(header).to_bytes(8, "little") + header, "bad.trajcast")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # The header reads well, the library refuses the layout.
        ({"dtype": "F99"}, "not a valid safetensors file"),
        ({"data_offsets": [0, 8]}, "damaged table of tensors .* has 8 bytes"),
        ({"data_offsets": [0, -8]}, "damaged table of tensors .* end = -8 must"),
        ({"data_offsets": "ab"}, "damaged table of tensors .* must be a list"),
        ({"shape": [True]}, "damaged table of tensors .* size = True must be"),
        ({"shape": [10**9, 10**9]}, "damaged table of tensors"),
        ({"shape": None}, "damaged table of tensors .* must be a list"),
        ({"dtype": 3}, "damaged table of tensors .* dtype 3"),
        ({"more": 3}, "damaged table of tensors .* must have"),
    ],
)
def test_faults_of_the_table_are_refused(network, tmp_path, change, message):
    good = rewritten(network, tmp_path).read_bytes()
    length = int.from_bytes(good[:8], "little")
    entries = json.loads(good[8 : 8 + length])
    entries["readout.weight"] |= change
    header = json.dumps(entries, separators=(",", ":")).encode()
    path = tmp_path / "table.trajcast"
    path.write_bytes(
        seal(len(header).to_bytes(8, "little") + header + good[8 + length :])
    )
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def resealed(network, tmp_path, change):
    """Write a file with a changed configuration and hashes that agree with it."""
    config = json.loads(json.dumps(network.config.to_dict())) | change
    digest = fingerprint(config, dict(network.state_dict()))
    return rewritten(network, tmp_path, metadata={"config": config, "sha256": digest})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conserve_angular_momentum": "no"}, "conserve_angular_momentum = 'no'"),
        ({"conserve_angular_momentum": 1}, "conserve_angular_momentum = 1 must be"),
        ({"conserve_angular_momentum": False}, "conserved = .* contradicts"),
        ({"n_channels": "8"}, "n_channels = '8' must be an integer"),
        ({"n_channels": 600}, "of shape .* its configuration asks for"),
        ({"n_layers": 10**7}, "n_layers = 10000000 must be"),
        ({"n_layers": 16}, "lacks the tensor 'layers.1"),
        ({"lmax": 6}, "its configuration asks for"),
        ({"edge_poly_cutoff": 1.5}, r"edge_poly_cutoff = 1\.5 must be"),
        ({"edge_mlp": 6}, "edge_mlp = 6 must be a tuple"),
        ({"elements": [1, 6, "O"]}, "elements, an atomic number = 'O' must be"),
        ({"horizon_fs": 8.0}, "horizon_fs = 7.0 contradicts horizon_fs = 8.0"),
        ({"cutoff": 8.0}, "cutoff_A = 3.5 contradicts cutoff = 8.0"),
        ({"velocity_max": True}, "velocity_max = True must be a finite number"),
        ({"velocity_rms": "0.1"}, "velocity_rms = '0.1' must be a finite number"),
        ({"velocity_rms": 1e-300}, "velocity_rms = 1e-300 must lie between"),
        ({"velocity_scales": None}, "velocity_scales = None must be a tuple"),
        ({"surroundings_cutoff": "9"}, "surroundings_cutoff = '9' must be"),
        ({"fixed_angular_momentum": 3}, "fixed_angular_momentum = 3 must be"),
        ({"parity": ["both"]}, r"parity = \('both',\); choose"),
    ],
)
def test_edited_configurations_are_refused(network, tmp_path, change, message):
    path = resealed(network, tmp_path, change)
    with pytest.raises(ModelFileError, match=rf"n\.trajcast.*{message}"):
        load_model(path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"config": "3"}, "config = 3 must be a dict"),
        ({"config": "[" * 100_000}, "config = .* nests more than"),
        ({"config": '{"a":' * 200 + "1" + "}" * 200}, "config = .* nests more than"),
        ({"horizon_fs": "true"}, "horizon_fs = True must be a finite number"),
        ({"horizon_fs": "NaN"}, "horizon_fs = 'NaN' .* not finite"),
        ({"horizon_fs": "1e999"}, "horizon_fs = '1e999' .* not finite"),
        ({"horizon_fs": "9" * 5000}, "horizon_fs = "),
        ({"horizon_fs": "-7.0"}, "horizon_fs = -7.0 must be positive"),
        ({"units": '{"length":"nm"}'}, "units = .* must be"),
        ({"elements": '["H","C","Xy"]'}, "elements = H, C, Xy contradicts"),
        ({"elements": '["H","C","C"]'}, "must be distinct"),
        ({"elements": '["C","H","O"]'}, "elements = .* contradicts"),
        ({"masses_amu": "[1.0,12.0]"}, "must hold one mass for each"),
        ({"masses_amu": "[1.0,12.0,0]"}, "masses_amu holds a mass of 0"),
        ({"masses_amu": "[1.0,12.0,-1]"}, "masses_amu.* = -1 must lie"),
        ({"masses_amu": '[1.0,12.0,"16"]'}, "masses_amu.* = '16' must be"),
        ({"periodic": '"yes"'}, "periodic = 'yes' must be true or false"),
        ({"conserved": "[3]"}, "conserved.* = 3 must be text"),
        ({"conserved": "[]"}, "conserved = .* contradicts"),
        ({"sha256": "0"}, "sha256 = '0' must be a SHA-256"),
        ({"name": "a\x1b[2J"}, "name = .* without control characters"),
        ({"training": '{"a":["\\u001b"]}'}, r"training\.a = .* control characters"),
        ({"errors": '{"covariances":{"H":3}}'}, r"errors\.covariances\.H = 3 must be"),
        ({"errors": '{"covariances":{"H":{"x":1}}}'}, "must have the keys cross"),
        ({"thermostat": "["}, "thermostat = .* is no JSON"),
        (
            {"thermostat": '{"chosen_by":"","members":[{"kind":[]}]}'},
            r"unknown kind of thermostat \[\]",
        ),
    ],
)
def test_edited_headers_are_refused(network, tmp_path, texts, message):
    path = rewritten(network, tmp_path, texts=texts)
    with pytest.raises(ModelFileError, match=rf"n\.trajcast.*{message}"):
        load_model(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(network, tmp_path, value):
    tensors = dict(network.state_dict())
    tensors["readout.weight"] = tensors["readout.weight"].clone()
    tensors["readout.weight"][1] = value
    digest = fingerprint(network.config.to_dict(), tensors)
    path = rewritten(network, tmp_path, tensors=tensors, texts={"sha256": digest})
    with pytest.raises(
        ModelFileError, match=r"n\.trajcast holds 'readout\.weight' with"
    ):
        load_model(path)


def test_weights_beyond_float32_are_refused_in_float32(tmp_path):
    model = small_model(n_layers=1)
    model.readout.weight[1] = 1e200
    save_model(model, tmp_path / "n.trajcast")
    assert load_model(tmp_path / "n.trajcast").dtype == torch.float64
    with pytest.raises(ModelFileError, match=r"not finite in torch\.float32"):
        load_model(tmp_path / "n.trajcast", dtype=torch.float32)


def test_files_that_no_model_fills_are_not_read(tmp_path):
    path = tmp_path / "sparse.trajcast"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ModelFileError, match="has 1,099,511,627,776 bytes, no model"):
        load_model(path)


def test_what_could_not_be_read_is_not_written(network, tmp_path):
    path = tmp_path / "n.trajcast"
    for card in ({"licence": "\x1b[2J"}, {"masses_amu": {"H": float("inf")}}):
        with pytest.raises(ValueError, match=r"licence|masses_amu"):
            save_model(network, path, metadata=card)
    assert not list(tmp_path.iterdir())


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "torch"])
def test_pickles_are_refused_and_not_run(tmp_path, protocol):
    trace, path = tmp_path / "trace", tmp_path / "bomb.trajcast"
    if protocol == "torch":
        torch.save({"bomb": Bomb(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(trace), protocol=protocol))
    with pytest.raises(ModelFileError, match=r"bomb\.trajcast is a pickle .*import"):
        load_model(path)
    assert not trace.exists()


def test_import_runs_no_code_even_if_the_environment_allows_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace, path = tmp_path / "trace", tmp_path / "bomb.pt"
    torch.save({"weight": Bomb(trace)}, path)
    with pytest.raises(ValueError, match=r"bomb\.pt"):
        import_published({"model": {}}, path, elements=["H"], horizon_fs=7.0)
    assert not trace.exists()


def test_the_bomb_works(tmp_path):
    # Else the two tests above could not fail.
    trace, path = tmp_path / "trace", tmp_path / "bomb.pt"
    torch.save(Bomb(trace), path)
    torch.load(path, weights_only=False)  # noqa: TID251  our own bomb
    assert trace.exists()


def test_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ModelFileError, match="unknown model 'water-99fs'; bundled"):
        load_model("water-99fs")
    for name in available_models():
        with pytest.raises(ModelFileError, match=name):
            load_model("water-99fs")
    missing = tmp_path / "missing.trajcast"
    with pytest.raises(ModelFileError, match=r"no model file .*missing\.trajcast"):
        load_model(missing)


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_header(tmp_path)


def test_bundled_names_are_found(file, monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    for name in ("b.trajcast", "a.trajcast", "notes.txt"):
        (tmp_path / "models" / name).write_bytes(file.read_bytes())
    monkeypatch.setattr("trajcast_ase.models.model_zoo.files", lambda _: tmp_path)
    assert available_models() == ["a", "b"]
    assert find_model("a") == tmp_path / "models" / "a.trajcast"
    monkeypatch.chdir(tmp_path)
    assert find_model(Path("a")) == tmp_path / "models" / "a.trajcast"
    Path("a").touch()
    assert find_model(Path("a")) == Path("a")
    assert load_model("b").name == "tiny"


def test_every_bundled_model_loads_in_float32():
    assert available_models() == list(BUNDLED)  # which other tests go through
    for name, source in bundled_models().items():
        model = load_model(name)
        assert model.name == name
        assert model.dtype == torch.float32
        assert read_header(source).licence


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"errors": {"mae": float("nan")}}, "errors = .* cannot go into a model file"),
        ({"licenze": "MIT"}, "unknown key 'licenze' in the metadata; known: training"),
    ],
)
def test_bad_metadata_is_refused(network, tmp_path, metadata, message):
    path = tmp_path / "n.trajcast"
    with pytest.raises(ValueError, match=message):
        save_model(network, path, metadata=metadata)
    assert not path.exists()


def test_save_refuses_bad_models_and_names(tmp_path):
    model = small_model("thermal", torch.float32, n_layers=1)
    with pytest.raises(ValueError, match=r"does not end in \.trajcast"):
        save_model(model, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"torch\.float16 cannot be used"):
        save_model(small_model(n_layers=1).half(), tmp_path / "half.trajcast")
    with torch.no_grad():
        model.readout.weight[0] = float("inf")
    with pytest.raises(ValueError, match=r"'readout\.weight' is not finite"):
        save_model(model, tmp_path / "model.trajcast")
    assert not list(tmp_path.iterdir())


def test_load_refuses_dtype_and_device(file):
    with pytest.raises(ValueError, match=r"torch\.float16 cannot .* or torch\.float64"):
        load_model(file, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"dtype = 'float64' .* or torch\.float64"):
        load_model(file, dtype="float64")
    with pytest.raises(ValueError, match="unknown device 'abacus'"):
        load_model(file, device="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_is_said(file):
    with pytest.raises(ValueError, match="device 'cuda' is not available"):
        load_model(file, device="cuda")


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "n.trajcast"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("trajcast_ase.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
