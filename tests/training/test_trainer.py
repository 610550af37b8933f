"""A training that asks its device how it goes only where something depends on it."""

import numpy as np
import pytest
import torch
from spring_runs import spring_run, write_hdf5

from trajcast_ase.training.checkpoint import load_checkpoint
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.loss import ForecastLoss
from trajcast_ase.training.trainer import Trainer

STEPS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("springs")
    write_hdf5(folder / "run.h5", *spring_run(30, 1))
    return folder


def trainer_of(folder, out, *, asks_often, run=None, **optimizer) -> Trainer:
    content = {
        "data": {"train": ["run.h5"], "horizon_fs": 4.0, "validation_pairs": 5},
        "network": {"cutoff": 3.0, "n_channels": 4, "n_layers": 1}
        | {"edge_mlp": [8], "velocity_mlp": [8]},
        "optimizer": {"steps": STEPS, "batch_size": 2, "warmup_steps": 2} | optimizer,
        "run": {"directory": str(out), "dtype": "float64", "threads": 1}
        | {"log_every": 6, "validate_every": 12}
        | (run or {}),
    }
    config = TrainingConfig.from_dict(content, folder=folder)
    trainer = Trainer(config, load_data(config.data, 3.0), Ranks())
    trainer.asks_often = asks_often
    return trainer


def answers(trainer):
    """Return the steps at which a training asks, as they come."""
    asked, ask = [], trainer.update.left_out

    def counted():
        asked.append(trainer.step)
        return ask()

    trainer.update.left_out = counted
    return asked


def without_times(path):
    rows = [line.split(",") for line in (path / "log.csv").read_text().splitlines()]
    return [row[:3] + row[4:] for row in rows]


def spoil(monkeypatch, steps):
    """Make the losses of some steps infinite."""
    forward, calls = ForecastLoss.forward, []

    def spoilt(self, batch):
        calls.append(1)
        factor = torch.inf if len(calls) in steps else 1.0
        return forward(self, batch) * factor

    monkeypatch.setattr(ForecastLoss, "forward", spoilt)


def test_seldom_asking_changes_nothing(folder, tmp_path):
    asked = {}
    for often in (True, False):
        trainer = trainer_of(folder, tmp_path / str(often), asks_often=often)
        asked[often] = answers(trainer)
        trainer.run(None)
    assert asked[True] == list(range(1, STEPS + 1))
    assert asked[False] == [6, 12, 18, 24]
    one, other = (without_times(tmp_path / name) for name in ("True", "False"))
    assert one == other
    first, second = (
        load_checkpoint(tmp_path / name / "checkpoint.safetensors").tensors
        for name in ("True", "False")
    )
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_steps_that_are_left_out_between_two_looks_are_noticed(
    folder, tmp_path, monkeypatch
):
    spoil(monkeypatch, range(2, 13))  # eleven, of which ten are too many
    trainer = trainer_of(folder, tmp_path, asks_often=False, run={"log_every": 20})
    with pytest.raises(FloatingPointError, match="not finite in 11 steps in a row"):
        trainer.run(None)
    assert trainer.step == 12  # a validation is due, and nothing was written before
    assert not trainer.path.exists()


def test_a_checkpoint_waits_for_a_step_that_was_not_left_out(
    folder, tmp_path, monkeypatch
):
    spoil(monkeypatch, range(6, 10))
    trainer = trainer_of(
        folder, tmp_path, asks_often=False, run={"checkpoint_minutes": 1e-9}
    )
    saved, save = [], trainer.save

    def noted():
        saved.append(trainer.step)
        save()

    monkeypatch.setattr(trainer, "save", noted)
    trainer.run(None)
    assert saved == [1, 2, 3, 4, 5, *range(10, STEPS + 1)]
    found = load_checkpoint(trainer.path).tensors
    assert all(bool(torch.isfinite(one).all()) for one in found.values())
    losses = [float(row[1]) for row in without_times(tmp_path)[1:]]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("asks_often", [True, False])
def test_a_training_goes_on_after_a_step_that_was_left_out(
    folder, tmp_path, monkeypatch, asks_often
):
    spoil(monkeypatch, [3])
    whole = trainer_of(folder, tmp_path / "whole", asks_often=asks_often)
    whole.run(None)
    spoil(monkeypatch, [3])
    parts = trainer_of(folder, tmp_path / "parts", asks_often=asks_often)
    for _ in range(4):
        parts.unreported.append(parts.optimize())
    parts.save()
    rest = trainer_of(folder, tmp_path / "parts", asks_often=asks_often)
    rest.resume()
    rest.run(None)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    assert without_times(tmp_path / "whole") == without_times(tmp_path / "parts")


def test_a_last_step_that_was_left_out_is_told(folder, tmp_path, monkeypatch):
    spoil(monkeypatch, [STEPS])
    trainer = trainer_of(folder, tmp_path, asks_often=False)
    with pytest.raises(FloatingPointError, match="not finite in 1 steps in a row"):
        trainer.run(None)
