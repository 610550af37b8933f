import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from spring_runs import spring_run, write_hdf5

from trajcast_ase.dynamics.interruption import Interrupted, noted_signals
from trajcast_ase.files import sole_writer
from trajcast_ase.models.model_file import load_model
from trajcast_ase.training import distributed
from trajcast_ase.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.evaluate import evaluate
from trajcast_ase.training.loop import train
from trajcast_ase.training.loss import ForecastLoss

ROOT = Path(__file__).parents[2]
STEPS = 12


class StopHereError(Exception):
    pass


def content(folder: Path, **optimizer) -> dict:
    return {
        "data": {
            "train": ["run-*.h5"],
            "validation": ["held-out.h5"],
            "horizon_fs": 4.0,
            "validation_pairs": 20,
        },
        "network": {
            "cutoff": 3.0,
            "n_channels": 4,
            "n_layers": 1,
            "edge_mlp": [8],
            "velocity_mlp": [8],
        },
        "optimizer": {"steps": STEPS, "batch_size": 4, "warmup_steps": 3, **optimizer},
        "run": {
            "name": "spring",
            "directory": str(folder),
            "dtype": "float64",
            "threads": 1,
            "checkpoint_minutes": 1e-9,
            "validate_every": 4,
            "log_every": 2,
        },
    }


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("springs")
    for seed in range(3):
        write_hdf5(folder / f"run-{seed}.h5", *spring_run(30, seed))
    write_hdf5(folder / "held-out.h5", *spring_run(30, 99))
    return folder


def configured(data_folder, run_folder, **optimizer) -> TrainingConfig:
    return TrainingConfig.from_dict(
        content(run_folder, **optimizer), folder=data_folder
    )


def interrupt_at(step):
    def reporter(progress):
        if progress.step == step:
            raise StopHereError

    return reporter


def log_without_seconds(folder):
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds_per_step")
    return rows


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_resumed_run_continues_exactly(data_folder, tmp_path, schedule):
    options = {"schedule": schedule, "plateau_patience": 0}
    whole = train(configured(data_folder, tmp_path / "whole", **options))
    config = configured(data_folder, tmp_path / "parts", **options)
    for step in (4, 10):
        with pytest.raises(StopHereError):
            train(config, reporter=interrupt_at(step))
    parts = train(config)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, parts.model.state_dict()[name]), name
    assert log_without_seconds(tmp_path / "whole") == log_without_seconds(
        tmp_path / "parts"
    )


@pytest.fixture
def heard_signals():
    """Hear both signals, also where the tests run in the background."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_loses_nothing(data_folder, tmp_path, number):
    def kill_at_two(progress):
        if progress.step == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    whole = train(configured(data_folder, tmp_path / "whole"))
    parts = content(tmp_path / "parts")
    # Nothing but the signal makes it write a checkpoint.
    parts["run"] |= {"checkpoint_minutes": 60.0, "validate_every": STEPS}
    config = TrainingConfig.from_dict(parts, folder=data_folder)
    with pytest.raises(Interrupted, match=f"interrupted at step 2 of {STEPS}") as error:
        train(config, reporter=kill_at_two)
    assert error.value.exit_status == 128 + number
    assert signal.getsignal(number) is before
    assert load_checkpoint(tmp_path / "parts" / CHECKPOINT_NAME).step == 2
    resumed = train(config)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


@pytest.mark.usefixtures("heard_signals")
def test_a_second_signal_ends_at_once_and_ignored_ones_stay_ignored():
    with noted_signals() as noted:
        os.kill(os.getpid(), signal.SIGTERM)
        assert noted == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted_signals() as noted:
            os.kill(os.getpid(), signal.SIGINT)
        assert noted == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_learns_and_the_file_says_how(data_folder, tmp_path):
    config = configured(
        data_folder, tmp_path, steps=150, learning_rate=0.1, batch_size=10
    )
    before = evaluate(
        train(configured(data_folder, tmp_path / "first", steps=4)).model,
        load_data(config.data, config.network.cutoff).validation,
    )
    result = train(config)
    assert result.errors.velocity.mae < 0.5 * before.velocity.mae
    loaded = load_model(result.path)
    again = evaluate(loaded, load_data(config.data, config.network.cutoff).validation)
    assert again.velocity.mae == pytest.approx(result.errors.velocity.mae, rel=1e-9)
    assert loaded.header.training["steps"] == 150
    (least,) = loaded.header.training["least_distances_A"].values()
    assert 1.0 < least < 1.1  # of springs of 1.1 Å
    assert loaded.header.training["neighbors"] == [1, 1]
    assert loaded.header.errors["n_pairs"] == 20


def test_a_model_file_can_be_trained_on(data_folder, tmp_path):
    first = train(configured(data_folder, tmp_path / "first", steps=100))
    start = first.path.relative_to(tmp_path)
    more = content(tmp_path / "more", steps=5, warmup_steps=1, learning_rate=1e-9)
    more["run"]["init"] = str(tmp_path / start)
    config = TrainingConfig.from_dict(more, folder=data_folder)
    second = train(config)
    assert second.errors.velocity.mae == pytest.approx(
        first.errors.velocity.mae, rel=1e-4
    )
    history = load_model(second.path).header.training
    assert history["started_from"]["steps"] == 100
    assert history["started_from"]["sha256"] == load_model(first.path).header.sha256


def test_a_start_of_another_size_is_refused(data_folder, tmp_path):
    first = train(configured(data_folder, tmp_path / "first", steps=4))
    other = content(tmp_path / "other")
    other["run"]["init"] = str(first.path)
    other["network"]["n_channels"] = 8
    with pytest.raises(ValueError, match="n_channels = 4, the"):
        train(TrainingConfig.from_dict(other, folder=data_folder))


def test_a_checkpoint_of_another_start_is_refused(data_folder, tmp_path):
    first = train(configured(data_folder, tmp_path / "first", steps=4))
    config = configured(data_folder, tmp_path / "run")
    with pytest.raises(StopHereError):
        train(config, reporter=interrupt_at(4))
    changed = content(tmp_path / "run")
    changed["run"]["init"] = str(first.path)
    with pytest.raises(ValueError, match="init = None, the configuration says"):
        train(TrainingConfig.from_dict(changed, folder=data_folder))


def test_a_checkpoint_of_another_configuration_is_refused(data_folder, tmp_path):
    config = configured(data_folder, tmp_path)
    with pytest.raises(StopHereError):
        train(config, reporter=interrupt_at(4))
    other = configured(data_folder, tmp_path, batch_size=5)
    with pytest.raises(ValueError, match="batch_size = 4, the configuration says 5"):
        train(other)
    assert train(other, anew=True).errors.n_pairs == 20


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("data", {"horizon_fs": 2.0}),
        ("network", {"cutoff": 3.1}),
        ("network", {"parity": "natural"}),
        ("network", {"conserve_angular_momentum": False}),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(
    data_folder, tmp_path, section, change
):
    with pytest.raises(StopHereError):
        train(configured(data_folder, tmp_path), reporter=interrupt_at(4))
    other = content(tmp_path)
    other[section] |= change
    (name,) = change
    with pytest.raises(ValueError, match=rf"network\.{name} = .*, the configuration"):
        train(TrainingConfig.from_dict(other, folder=data_folder))


def test_a_restart_that_fails_leaves_nothing_to_go_on_with(data_folder, tmp_path):
    config = configured(data_folder, tmp_path)
    with pytest.raises(StopHereError):
        train(config, reporter=interrupt_at(8))
    old = (tmp_path / CHECKPOINT_NAME).read_bytes()
    with pytest.raises(StopHereError):
        train(config, reporter=interrupt_at(2), anew=True)
    assert (tmp_path / f"{CHECKPOINT_NAME}.old").read_bytes() == old
    steps = []
    train(config, reporter=lambda progress: steps.append(progress.step))
    assert steps[0] in {2, 4}
    logged = [int(row["step"]) for row in log_without_seconds(tmp_path)]
    assert logged == sorted(set(logged))


def test_a_resumed_run_keeps_its_threads(data_folder, tmp_path, monkeypatch):
    counts = iter((2, 1))
    monkeypatch.setattr(distributed, "measure_threads", lambda *_: next(counts))
    measured = content(tmp_path)
    measured["run"]["threads"] = "measure"
    config = TrainingConfig.from_dict(measured, folder=data_folder)
    with pytest.raises(StopHereError):
        train(config, reporter=interrupt_at(4))
    seen = []
    train(config, reporter=lambda _: seen.append(torch.get_num_threads()))
    assert set(seen) == {2}


def test_an_edited_checkpoint_is_refused(data_folder, tmp_path):
    config = configured(data_folder, tmp_path)
    with pytest.raises(StopHereError):
        train(config, reporter=interrupt_at(4))
    path = tmp_path / CHECKPOINT_NAME
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    moments = next(name for name in tensors if name.startswith("optimizer/"))
    name = "model/readout.weight"
    for other in (
        {key: value for key, value in tensors.items() if key != moments},
        tensors | {name: tensors[name] + 1e-9},
    ):
        save_file(other, path, metadata)
        with pytest.raises(ValueError, match="do not match their hash"):
            train(config)
    for change in ({"extra": "[" * 100_000}, {"step": "4.5"}, {"sha256": ""}):
        save_file(tensors, path, metadata | change)
        with pytest.raises(ValueError, match="do not match their hash"):
            train(config)


def test_a_damaged_checkpoint_is_refused(data_folder, tmp_path):
    config = configured(data_folder, tmp_path)
    with pytest.raises(StopHereError):
        train(config, reporter=interrupt_at(4))
    path = tmp_path / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        train(config)


def test_a_diverging_run_stops_and_keeps_its_checkpoint(data_folder, tmp_path):
    config = configured(data_folder, tmp_path, steps=30, learning_rate=1e300)
    with pytest.raises(FloatingPointError, match=r"lower optimizer\.learning_rate"):
        train(config)
    checkpoint = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert 1 <= checkpoint.step < STEPS


def test_a_pair_beyond_floats_is_skipped(data_folder, tmp_path, monkeypatch):
    forward, calls = ForecastLoss.forward, []

    def spoilt(self, batch):
        calls.append(1)
        return forward(self, batch) * (torch.inf if len(calls) == 3 else 1.0)

    monkeypatch.setattr(ForecastLoss, "forward", spoilt)
    result = train(configured(data_folder, tmp_path))
    assert len(calls) == STEPS
    assert np.isfinite(result.errors.velocity.mae)
    assert all(bool(torch.isfinite(one).all()) for one in result.model.parameters())


def test_evaluation_refuses_another_horizon(data_folder, tmp_path):
    result = train(configured(data_folder, tmp_path, steps=4))
    config = configured(data_folder, tmp_path)
    data = config.data.model_copy(update={"horizon_fs": 2.0})
    with pytest.raises(ValueError, match="2 fs apart, the model forecasts 4 fs"):
        evaluate(result.model, load_data(data, 3.0).validation)


def test_the_percentages_are_relative_to_the_mean_absolute_target(
    data_folder, tmp_path
):
    result = train(configured(data_folder, tmp_path, steps=4))
    config = configured(data_folder, tmp_path)
    batch = next(load_data(config.data, 3.0).validation.in_order(1000))
    typical = float(batch.displacements.abs().mean())
    error = result.errors.displacement
    np.testing.assert_allclose(error.mae / typical, error.relative_mae, rtol=1e-12)


def start_two_processes(data_folder, folder, **options) -> subprocess.Popen:
    """Return two processes that train together."""
    script = folder / "worker.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        f"sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}\n"
        "from tests.training.test_loop import configured, train\n"
        f"folders = Path({str(data_folder)!r}), Path({str(folder / 'two')!r})\n"
        f"train(configured(*folders, **{options!r}))"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*command, "--nproc-per-node=2", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [1, 3, 4])  # also where a process has none, or fewer
def test_two_processes_train_as_one(data_folder, tmp_path, pairs):
    # SOAP's first bases are arbitrary where few gradients span little: rounding shows.
    options = {"optimizer": "muon", "batch_size": pairs}
    alone = train(configured(data_folder, tmp_path / "alone", **options))
    process = start_two_processes(data_folder, tmp_path, **options)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    both = load_model(tmp_path / "two" / "spring.trajcast")
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(
            tensor, both.state_dict()[name], rtol=1e-9, atol=1e-9
        )
    for one, other in zip(
        log_without_seconds(tmp_path / "alone"),
        log_without_seconds(tmp_path / "two"),
        strict=True,
    ):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-6)


@pytest.mark.slow
def test_a_signal_ends_all_processes_after_the_same_step(data_folder, tmp_path):
    process = start_two_processes(data_folder, tmp_path, steps=100_000)
    path = tmp_path / "two" / CHECKPOINT_NAME
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert "interrupted at step" in errors
    assert load_checkpoint(path).step > 0


def test_two_trainings_do_not_share_a_folder(data_folder, tmp_path):
    config = configured(data_folder, tmp_path)
    config.run.directory.mkdir(parents=True, exist_ok=True)
    with (
        sole_writer(config.run.directory / "checkpoint.safetensors"),
        pytest.raises(FileExistsError, match="by another process"),
    ):
        train(config)
    assert train(config).errors.n_pairs == 20
