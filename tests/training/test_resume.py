"""Checkpoints that were edited and sealed again: refused, and nothing has changed."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from spring_runs import spring_run, write_hdf5

from trajcast_ase.sealed import seal
from trajcast_ase.training import checkpoint as checkpoints
from trajcast_ase.training.checkpoint import load_checkpoint, save_checkpoint
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.log import CsvLog, TrainingStep
from trajcast_ase.training.trainer import Trainer


def settings(folder, **optimizer) -> TrainingConfig:
    content = {
        "data": {"train": ["run.h5"], "horizon_fs": 4.0, "validation_pairs": 5},
        "network": {
            "cutoff": 3.0,
            "n_channels": 4,
            "n_layers": 1,
            "edge_mlp": [8],
            "velocity_mlp": [8],
        },
        "optimizer": {"steps": 9, "batch_size": 2, "warmup_steps": 1, **optimizer},
        "run": {"directory": "out", "dtype": "float64", "threads": 1},
    }
    return TrainingConfig.from_dict(content, folder=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    write_hdf5(folder / "run.h5", *spring_run(20, 3))
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return load_data(settings(folder).data, 3.0)


def trainer_of(folder, data, **optimizer):
    return Trainer(settings(folder, **optimizer), data, Ranks())


@pytest.fixture(scope="module")
def good(folder, data):
    """Return the checkpoint of two steps."""
    trainer = trainer_of(folder, data)
    for _ in range(2):
        trainer.unreported.append(trainer.optimize())
    trainer.save()
    return load_checkpoint(trainer.path)


@pytest.mark.parametrize("optimizer", ["soap", "muon", "adamw", "adam-amsgrad"])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_every_honest_checkpoint_is_gone_on_from(folder, data, optimizer, n_steps):
    trainer = trainer_of(folder, data, optimizer=optimizer)
    for _ in range(n_steps):
        trainer.unreported.append(trainer.optimize())
    trainer.save()
    other = trainer_of(folder, data, optimizer=optimizer)
    assert other.resume() == torch.get_num_threads()
    assert other.step == n_steps
    trainer.optimize()
    other.optimize()
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


def without(tensors, part):
    return {name: tensor for name, tensor in tensors.items() if part not in name}


MOMENTS = "optimizer/exp_avg_sq/edge_basis.roots"
WEIGHT = "model/readout.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: without(t, "optimizer/"), "it lacks the tensor 'optimizer/"),
        (lambda t: without(t, MOMENTS), f"it lacks the tensor '{MOMENTS}'"),
        (lambda t: without(t, WEIGHT), f"it lacks the tensor '{WEIGHT}'"),
        (lambda t: without(t, "n_averaged"), "it lacks the tensor 'average/n_av"),
        (lambda t: without(t, ""), "it lacks the tensor 'average/"),
        (lambda t: t | {"optimizer/a": torch.ones(1)}, "holds a tensor 'optimizer/a'"),
        (lambda t: t | {"optimizer/a/b": torch.ones(1)}, "a tensor 'optimizer/a/b'"),
        (lambda t: t | {WEIGHT: t[WEIGHT].float()}, f"'{WEIGHT}' is of shape"),
        (lambda t: t | {WEIGHT: t[WEIGHT][1:]}, f"'{WEIGHT}' is of shape"),
        (lambda t: t | {WEIGHT: t[WEIGHT] * math.nan}, f"'{WEIGHT}' holds numbers"),
        (lambda t: t | {MOMENTS: t[MOMENTS] * math.inf}, f"'{MOMENTS}' holds numbers"),
        (lambda t: t | {MOMENTS: -1 - t[MOMENTS]}, f"'{MOMENTS}' holds mean squares"),
        (
            lambda t: (
                t
                | {
                    name: one - 3
                    for name, one in t.items()
                    if name.startswith("optimizer/step/")
                }
            ),
            r"optimizer/step/.* = -1\.0 must lie between 0 and 2",
        ),
        (
            lambda t: t | {"average/n_averaged": torch.tensor(-1)},
            "n_averaged = -1.0 must lie",
        ),
    ],
)
def test_edited_tensors_are_refused(folder, data, good, change, message):
    trainer = trainer_of(folder, data)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    edited = replace(good, tensors=change(dict(good.tensors)))
    save_checkpoint(edited, trainer.path)
    with pytest.raises(ValueError, match=rf"checkpoint\.safetensors .*{message}"):
        trainer.resume()
    assert trainer.step == 0
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name])


PLATEAU = {"reductions": 0, "best": math.inf, "waited": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": None}, "identity = None must be a dict"),
        ({"identity": {}}, "belongs to a training with"),
        ({"seconds": "1"}, "seconds = '1' must be a finite number"),
        ({"seconds": -1.0}, r"seconds = -1\.0 must lie"),
        ({"seconds_reported": math.nan}, "seconds_reported = nan must be"),
        ({"unreported": 3}, "unreported = 3 must be a list"),
        ({"unreported": [0.0, None]}, "unreported, a loss = None must be"),
        ({"unreported": [0.0] * 3}, "unreported has 3 losses of 2 steps"),
        ({"plateau": []}, r"plateau = \[\] must be a dict"),
        ({"plateau": {"a": 1}}, "plateau = .* lacks a key"),
        ({"plateau": PLATEAU | {"best": -math.inf}}, r"plateau\.best = -inf"),
        ({"plateau": PLATEAU | {"reductions": True}}, "reductions = True must be"),
        ({"threads": 0}, "threads = 0 must be an integer"),
        ({"threads": 10**9}, "threads = 1000000000 must be an integer"),
        ({"threads": None}, "threads = None must be an integer"),
    ],
)
def test_edited_values_are_refused(folder, data, good, change, message):
    trainer = trainer_of(folder, data)
    save_checkpoint(replace(good, extra=good.extra | change), trainer.path)
    with pytest.raises(ValueError, match=rf"checkpoint\.safetensors .*{message}"):
        trainer.resume()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("4.5", "{}"), r"step = '4\.5' is no number of steps"),
        (("-1", "{}"), "step = '-1' is no number"),
        (("9" * 5000, "{}"), "step = '9999.* is no number"),
        (("2", "[" * 100_000), "no training checkpoint .*recursion"),
        (("2", "{"), "no training checkpoint"),
        (("2", "[]"), r"extra = \[\] must be a dict"),
        (("2", "{}"), "unreported = None must be a list"),
    ],
)
def test_sealed_nonsense_is_refused(folder, data, good, texts, message):
    step, extra = texts
    trainer = trainer_of(folder, data)
    metadata = {
        "format": checkpoints.CHECKPOINT_FORMAT,
        "step": step,
        "extra": extra,
        "sha256": seal(step, extra, good.tensors),
    }
    save_file(good.tensors, trainer.path, metadata)
    with pytest.raises(ValueError, match=rf"checkpoint\.safetensors .*{message}"):
        trainer.resume()


def test_a_checkpoint_is_of_json_and_tensors_only(folder, data, good):
    trainer = trainer_of(folder, data)
    save_checkpoint(good, trainer.path)
    with safe_open(trainer.path, "pt") as file:
        assert json.loads(file.metadata()["extra"]) == good.extra


@pytest.mark.parametrize(
    "content", ["step\n1\nx\n", "a,b\n1,2\n", "step,loss\n,\n", "step\n1\n"]
)
def test_a_log_that_is_none_is_refused(folder, data, good, content):
    trainer = trainer_of(folder, data)
    save_checkpoint(good, trainer.path)
    trainer.log.path.write_text(content)
    try:
        with pytest.raises(ValueError, match=r"log\.csv is no log of a training"):
            trainer.resume()
        assert trainer.log.path.read_text() == content
    finally:
        trainer.log.path.unlink()


def test_a_log_without_its_checkpoint_is_set_aside(folder, data):
    trainer = trainer_of(folder, data)
    trainer.path.unlink(missing_ok=True)
    trainer.log.path.write_text("rows of a training that was killed")
    assert trainer.resume() is None
    assert not trainer.log.path.exists()
    old = trainer.log.path.with_name("log.csv.old")
    assert old.read_text() == "rows of a training that was killed"


def test_a_kill_while_the_log_is_cut_leaves_it_whole(tmp_path, monkeypatch):
    log = CsvLog(tmp_path, tensorboard=False)
    for step in (1, 2, 3):
        log.write(TrainingStep(step, 9, step / 9, 0.5, 0.1, 0.2))
    whole = log.path.read_bytes()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", die)
        with pytest.raises(KeyboardInterrupt):
            log.cut_after(2)
    assert log.path.read_bytes() == whole
    log.cut_after(2)
    assert whole.startswith(log.path.read_bytes())
    assert log.path.read_bytes().count(b"\n") == 3
