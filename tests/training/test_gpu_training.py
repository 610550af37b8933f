"""What only a CUDA device can show of a training: graphs, data there, going on."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import small_model
from spring_runs import spring_run, write_hdf5

from trajcast_ase.training import resident
from trajcast_ase.training.config import OptimizerConfig, TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.distributed import Ranks
from trajcast_ase.training.loop import train
from trajcast_ase.training.trainer import Trainer
from trajcast_ase.training.update import LeftOut, Update

pytestmark = pytest.mark.gpu
OPTIMIZERS = ["soap", "muon", "adamw", "adam-amsgrad"]


def give_gradients(models, generator):
    """Give all models the same gradients."""
    for parameters in zip(*(model.parameters() for model in models), strict=True):
        shape = parameters[0].shape
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        for one in parameters:
            one.grad = gradient.to(one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_replays_are_the_calls(name, dtype):
    options = OptimizerConfig(steps=100, optimizer=name, refresh_every=4)
    model = small_model("thermal", dtype).requires_grad_().to("cuda")
    twin = copy.deepcopy(model)
    graph, made = Update.of(model, options), Update.of(twin, options)
    calls = Update(twin, made.average, made.optimizers, options, None)
    generator = torch.Generator().manual_seed(2)
    for step in range(12):
        give_gradients([model, twin], generator)
        if step == 7:
            for one in (model, twin):
                next(one.parameters()).grad[...] = torch.inf
        versions = [one._version for one in graph.average.module.parameters()]
        graph(0.1, step)
        calls(0.1, step)
        if step != 7:
            after = [one._version for one in graph.average.module.parameters()]
            assert all(new > old for new, old in zip(after, versions, strict=True))
    assert graph.left_out() == calls.left_out() == LeftOut(0, 1)
    limits = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}
    limits = limits or {"rtol": 1e-10, "atol": 1e-12}
    pairs = ((model, twin), (graph.average.module, calls.average.module))
    for one, other in pairs:
        for found, expected in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(found, expected, **limits)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("springs")
    for seed in range(2):
        write_hdf5(folder / f"run-{seed}.h5", *spring_run(20, seed))
    return folder


def configured(folder, out, **run) -> TrainingConfig:
    content = {
        "data": {"train": ["run-*.h5"], "horizon_fs": 4.0, "validation_pairs": 5},
        "network": {"cutoff": 3.0, "n_channels": 4, "n_layers": 1}
        | {"edge_mlp": [8], "velocity_mlp": [8]},
        # SOAP's first bases are arbitrary where few gradients span little.
        "optimizer": {"steps": 20, "batch_size": 2, "optimizer": "muon"},
        "run": {"directory": str(out), "dtype": "float64", "threads": 1}
        | {"backend": "reference", "log_every": 5, "validate_every": 10}
        | run,
    }
    return TrainingConfig.from_dict(content, folder=folder)


def assert_near(one, other):
    for name, tensor in one.state_dict().items():
        found = other.state_dict()[name].cpu()
        torch.testing.assert_close(found, tensor.cpu(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("where", ["host", "auto"])
def test_a_training_there_takes_the_steps_of_one_here(folder, tmp_path, where):
    here = train(configured(folder, tmp_path / "here"))
    there = train(configured(folder, tmp_path / "there", device="cuda", data_on=where))
    assert_near(here.model, there.model)


def test_a_checkpoint_from_there_is_gone_on_from_here(folder, tmp_path):
    whole = train(configured(folder, tmp_path / "whole"))
    train(configured(folder, tmp_path / "parts", device="cuda"), until=0.5)
    parts = train(configured(folder, tmp_path / "parts"))
    assert_near(whole.model, parts.model)


def test_pairs_without_room_stay_on_the_host(folder, tmp_path, monkeypatch, caplog):
    config = configured(folder, tmp_path, device="cuda")
    data = load_data(config.data, config.network.cutoff)
    monkeypatch.setattr(resident.torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    trainer = Trainer(config, data, Ranks(device="cuda"))
    assert trainer.resident is None
    assert "they stay on the host" in caplog.text


def test_an_update_does_not_wait_for_the_card(folder, tmp_path):
    config = configured(folder, tmp_path, device="cuda")
    trainer = Trainer(
        config, load_data(config.data, config.network.cutoff), Ranks(device="cuda")
    )
    for _ in range(3):  # of which the second captures the graph
        trainer.optimize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.update(0.1, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
