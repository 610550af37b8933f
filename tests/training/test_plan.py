"""What a training tells before its first step, and steps that fit a time."""

from itertools import pairwise

import pytest
import torch
from spring_runs import spring_run, write_hdf5

from trajcast_ase.models.model_header import read_header
from trajcast_ase.training import pace as pace_module
from trajcast_ase.training import trainer
from trajcast_ase.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.data import load_data
from trajcast_ase.training.loop import train
from trajcast_ase.training.plan import steps_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    for seed in range(2):
        write_hdf5(folder / f"run-{seed}.h5", *spring_run(30, seed))
    return folder


def settings(folder, directory, run=None, network=None, **optimizer):
    content = {
        "data": {"train": ["run-0.h5"], "validation": ["run-1.h5"], "horizon_fs": 4.0},
        "network": {
            "cutoff": 3.0,
            "n_channels": 4,
            "n_layers": 1,
            "edge_mlp": [8],
            "velocity_mlp": [8],
            **(network or {}),
        },
        "optimizer": {"steps": 4, **optimizer},
        "run": {"directory": str(directory), "threads": 1, **(run or {})},
    }
    return TrainingConfig.from_dict(content, folder=folder)


def test_a_training_tells_its_plan_before_it_begins(folder, tmp_path):
    told = []
    config = settings(folder, tmp_path)
    result = train(config, announce=told.append, reporter=told.append)
    plan, first = told[:2]
    assert plan.n_atoms == (2,)
    assert (plan.n_pairs, plan.n_validation_pairs) == (28, 28)
    assert plan.batch_size == 10  # of two atoms; of a crystal one
    assert plan.n_parameters == sum(p.numel() for p in result.model.parameters())
    assert plan.seconds > 3 * plan.seconds_per_step > 0.0
    assert first.step == 1  # a word at once, not after log_every
    again = []
    train(config, announce=again.append)
    assert (again[0].first, again[0].steps) == (4, 4)


def test_timing_a_step_changes_nothing(folder, tmp_path):
    quiet = train(settings(folder, tmp_path / "quiet"))
    told = train(settings(folder, tmp_path / "told"), announce=lambda _: None)
    for name, tensor in quiet.model.state_dict().items():
        assert torch.equal(tensor, told.model.state_dict()[name]), name


class Clock:
    """Time that passes by steps: `pace` seconds for each."""

    def __init__(self, monkeypatch, pace):
        self.now, self.pace = 0.0, pace
        monkeypatch.setattr(pace_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(
            "trajcast_ase.training.plan.seconds_per_step", lambda *_: pace
        )
        optimize = trainer.Trainer.optimize

        def step(training):
            self.now += self.pace
            return optimize(training)

        monkeypatch.setattr(trainer.Trainer, "optimize", step)


@pytest.mark.parametrize("slower", [1.0, 3.0, 0.25])
def test_a_training_by_time_ends_in_time_at_any_pace(
    folder, tmp_path, monkeypatch, slower
):
    clock, rates, told = Clock(monkeypatch, 1.0), [], []
    monkeypatch.setattr(trainer, "QUIET_S", -1.0)  # a report at each step

    def report(step):
        rates.append(step.learning_rate)
        told.append((step.share, step.left_s + clock.now))
        if clock.now > 20.0:
            clock.pace = slower

    config = settings(folder, tmp_path, steps=None, minutes=1.5)
    result = train(config, reporter=report)

    assert 75.0 < clock.now < 95.0
    steps = read_header(result.path).training["steps"]
    assert steps == pytest.approx(20 + (85.0 - 20.0) / slower, rel=0.15)
    assert rates[-1] < 0.02 * max(rates)  # the cosine has ended
    falls = [a - b for a, b in pairwise(rates[30:])]
    assert max(falls) < 0.25 * max(rates)  # and never jumps
    assert min(falls) > -1e-9
    shares, ends = zip(*told, strict=True)
    assert list(shares) == sorted(shares)  # although steps are planned anew
    assert shares[-1] == 1.0
    assert ends == pytest.approx([90.0] * len(ends), abs=2.0)


def test_a_training_by_time_that_was_cut_goes_on_in_its_plan(
    folder, tmp_path, monkeypatch
):
    clock = Clock(monkeypatch, 1.0)
    monkeypatch.setattr(trainer, "QUIET_S", -1.0)
    saving = {"checkpoint_minutes": 1e-9}
    config = settings(folder, tmp_path, run=saving, steps=None, minutes=1.0)

    def stop(report):
        if report.step == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, reporter=stop)
    kept = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert kept.extra["pace"]["elapsed"] == pytest.approx(29.0, abs=3.0)
    clock.now += 1000.0  # nobody trains meanwhile
    train(config)

    assert clock.now - 1000.0 < 70.0
    last = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert last.step == pytest.approx(58, abs=4)
    train(config)  # writes its model once more
    longer = settings(folder, tmp_path, run=saving, steps=None, minutes=3.0)
    with pytest.raises(ValueError, match="3 minutes would change nothing: go on from"):
        train(longer)


def test_a_training_pauses_and_goes_on_as_if_it_had_not(folder, tmp_path):
    whole = train(settings(folder, tmp_path / "whole", steps=9))
    first = train(settings(folder, tmp_path / "cut", steps=9), until=0.5)
    assert load_checkpoint(tmp_path / "cut" / CHECKPOINT_NAME).step == 5
    cut = train(settings(folder, tmp_path / "cut", steps=9))

    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, cut.model.state_dict()[name]), name
    assert first.errors.velocity.mae != cut.errors.velocity.mae


def test_too_few_minutes_say_what_is_needed():
    with pytest.raises(
        ValueError, match=r"minutes = 0.1 .* 3 steps of 2e\+03 ms; give"
    ):
        steps_in(0.1, per_step=2.0, validation=0.0, validate_every=1000)
    assert steps_in(1.0, per_step=2.0, validation=0.0, validate_every=1000) == 30


def test_large_systems_come_one_by_one(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("trajcast_ase.training.plan.ATOMS_AT_A_TIME", 5)
    told = []
    train(settings(folder, tmp_path), announce=told.append)
    assert told[0].batch_size == 2


def test_a_device_that_is_not_there_is_named(folder, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    config = settings(folder, tmp_path, run={"device": "cuda"})
    with pytest.raises(ValueError, match="device 'cuda' is not available"):
        train(config)


def test_a_cutoff_below_all_distances_is_named(folder, tmp_path):
    config = settings(folder, tmp_path, network={"cutoff": 0.4})
    with pytest.raises(ValueError, match=r"cutoff = 0\.4 Å is below all distances"):
        train(config)


def test_one_run_does_not_train_and_validate(folder, tmp_path):
    copy = tmp_path / "copy.h5"
    copy.write_bytes((folder / "run-0.h5").read_bytes())
    config = settings(folder, tmp_path)
    for file in (folder / "run-0.h5", copy):
        data = config.data.model_copy(update={"validation": (str(file),)})
        with pytest.raises(
            ValueError, match=r"validation: .* the same frames as .*run-0"
        ):
            load_data(data, 3.0)
