"""A training that diverges goes on at a lower rate."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from trajcast_ase.distill import training_stage


class Job:
    """Keeps plans and lines, as a distillation does."""

    def __init__(self):
        self.lines = []
        self.state = SimpleNamespace(
            plans={"training": {"learning_rate": 0.1}}, keep_plan=self.keep
        )

    def keep(self, stage, plan):
        self.state.plans[stage] = plan

    def bar(self, _total):
        return nullcontext()

    def say(self, _stage, line):
        self.lines.append(line)


def stage_that_diverges_above(highest, monkeypatch):
    """Return a stage, and the rates that it will have tried."""
    tried = []

    def train(rate, **_options):
        tried.append(rate)
        if rate > highest:
            raise FloatingPointError("the gradient is not finite in 10 steps in a row")
        return "result"

    monkeypatch.setattr(training_stage, "train", train)
    monkeypatch.setattr(
        training_stage._Stage,
        "_config",
        lambda stage, *_: stage.job.state.plans["training"]["learning_rate"],
    )
    return training_stage._Stage(Job(), None, None), tried


def test_it_goes_on_at_half_the_rate_until_it_holds(monkeypatch):
    stage, tried = stage_that_diverges_above(0.03, monkeypatch)
    assert stage.train("first", None) == "result"
    assert tried == [0.1, 0.05, 0.025]
    # The next call of the command begins there.
    assert stage.job.state.plans["training"]["learning_rate"] == 0.025
    assert len(stage.job.lines) == 2
    assert "not finite" in stage.job.lines[0]
    assert "a learning rate of 0.05" in stage.job.lines[0]


def test_one_that_diverges_at_any_rate_says_so(monkeypatch):
    stage, tried = stage_that_diverges_above(0.0, monkeypatch)
    with pytest.raises(FloatingPointError, match="not finite"):
        stage.train("first", None)
    assert tried == [0.1, 0.05, 0.025, 0.0125]
