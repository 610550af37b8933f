"""What a model file recommends, and what no model file may recommend."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from ase import units
from helpers import small_model

from trajcast_ase import CSVR, AdaptiveLangevin, Langevin, load_model, save_model
from trajcast_ase.models.model_file import with_thermostat
from trajcast_ase.models.model_header import (
    ModelCard,
    ModelFileError,
    read_header,
    seal,
    split_file,
)
from trajcast_ase.thermostats.recommended import setting_of
from trajcast_ase.thermostats.setting import ThermostatSetting

BOTH = ThermostatSetting(
    (
        {"kind": "Langevin", "time_constant_fs": 2000.0},
        {"kind": "CSVR", "time_constant_fs": 70.0},
    ),
    "a test",
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return a model file without a recommendation."""
    path = tmp_path_factory.mktemp("models") / "plain.trajcast"
    model = small_model("thermal", torch.float32, n_layers=1)
    save_model(model, path, metadata=ModelCard(licence="CC0-1.0"))
    return path


def test_a_file_is_written_anew_with_another_setting(plain, tmp_path):
    old = read_header(plain)
    assert old.thermostat is None
    new_path = tmp_path / "new.trajcast"
    new = with_thermostat(plain, BOTH, new_path)
    assert new.thermostat == BOTH
    assert str(new.thermostat) == "Langevin 2000 fs, CSVR 70 fs"
    same = {"name": old.name, "thermostat": None}
    sizes = {"file_sha256": old.file_sha256, "n_bytes": old.n_bytes}
    assert replace(new, **same, **sizes) == old
    back = with_thermostat(new_path, None, tmp_path / "plain.trajcast")
    # The order of a header's keys, and with it the hash of the file, is safetensors'.
    assert replace(back, file_sha256=old.file_sha256) == old
    tensors = [safetensors.torch.load(path.read_bytes()) for path in (plain, new_path)]
    assert tensors[0].keys() == tensors[1].keys()
    for name in tensors[0]:
        assert torch.equal(tensors[0][name], tensors[1][name])


def test_saved_with_its_card(plain, tmp_path):
    model = load_model(plain)
    path = tmp_path / "model.trajcast"
    assert save_model(model, path, metadata={"thermostat": BOTH}).thermostat == BOTH
    with pytest.raises(ValueError, match="does not end in"):
        with_thermostat(path, BOTH, tmp_path / "model.pt")


def test_recommended_thermostats_are_ready_to_use(plain, tmp_path):
    adaptive = {
        "kind": "AdaptiveLangevin",
        "time_constant_fs": 1000,
        "response_fs": 500,
    }
    setting = replace(BOTH, members=(*BOTH.members, adaptive))
    with_thermostat(plain, setting, tmp_path / "new.trajcast")
    model = load_model(tmp_path / "new.trajcast")
    rng = np.random.default_rng(1)
    langevin, csvr, third = model.recommended_thermostat(310, rng)
    assert isinstance(langevin, Langevin)
    assert langevin.friction == pytest.approx(1 / (2000 * units.fs))
    assert isinstance(csvr, CSVR)
    assert csvr.taut == pytest.approx(70 * units.fs)
    assert isinstance(third, AdaptiveLangevin)
    assert third.friction == pytest.approx(1 / (1000 * units.fs))
    assert third.taut == pytest.approx(500 * units.fs)
    for one in (langevin, csvr, third):
        assert one.temperature_K == 310
        assert one.streams.generators == (rng,)


def test_without_a_setting_it_is_the_papers(plain):
    (csvr,) = load_model(plain).recommended_thermostat(300)
    assert isinstance(csvr, CSVR)
    assert csvr.taut == pytest.approx(10 * 7 * units.fs)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ethanol-gfn2", "Langevin 5000 fs, CSVR 65 fs"),
        ("paracetamol-7fs", "Langevin 5000 fs, CSVR 70 fs"),
        ("quartz-30fs", "Langevin 10000 fs, CSVR 75 fs"),
        ("quartz-30fs-bulk", "Langevin 5000 fs, CSVR 75 fs"),
        ("water-5fs", "MolecularCSVR 50 fs"),
    ],
)
def test_bundled_models_recommend_a_weak_bath_beside_csvr(name, words):
    setting = setting_of(load_model(name))
    assert str(setting) == words
    assert "trajcast validate" in setting.chosen_by


BAD = [
    ([], "without members says nothing"),
    ([{"kind": "Berendsen", "time_constant_fs": 1.0}], "unknown kind .* 'Berendsen'"),
    ([{"time_constant_fs": 1.0}], "unknown kind of thermostat None"),
    ([{"kind": "CSVR"}], "CSVR lacks time_constant_fs"),
    (
        [{"kind": "AdaptiveLangevin", "time_constant_fs": 5.0}],
        "AdaptiveLangevin lacks response_fs",
    ),
    (
        [{"kind": "Langevin", "time_constant_fs": 5.0, "friction": 1.0}],
        "Langevin has no key 'friction'",
    ),
    ([{"kind": "CSVR", "time_constant_fs": 0}], "time_constant_fs = 0 .* positive"),
    ([{"kind": "CSVR", "time_constant_fs": -1.5}], "= -1.5 .* positive number"),
    ([{"kind": "CSVR", "time_constant_fs": "70"}], "= '70' .* positive number"),
    ([{"kind": "CSVR", "time_constant_fs": True}], "= True .* positive number"),
]


@pytest.mark.parametrize(("members", "message"), BAD)
def test_a_bad_setting_is_one_sentence(plain, tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        ThermostatSetting(tuple(members))
    path = resealed(
        plain, tmp_path, json.dumps({"members": members, "chosen_by": "nobody"})
    )
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"CSVR"',
        '{"members": 3, "chosen_by": ""}',
        '{"members": [3], "chosen_by": ""}',
        '{"members": [{"kind": "CSVR", "time_constant_fs": 70}]}',
    ],
)
def test_a_setting_of_another_form_is_refused(plain, tmp_path, text):
    with pytest.raises(ModelFileError, match=r"bad\.trajcast: "):
        read_header(resealed(plain, tmp_path, text))


def resealed(plain, tmp_path, text):
    """Write a file whose hash is right and whose setting is `text`."""
    data = plain.read_bytes()
    entries, texts, _ = split_file(data, "plain")
    length = int.from_bytes(data[:8], "little")
    header = {"__metadata__": texts | {"thermostat": text}} | entries
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    path = tmp_path / "bad.trajcast"
    size = len(encoded).to_bytes(8, "little")
    path.write_bytes(seal(size + encoded + data[8 + length :]))
    return path
