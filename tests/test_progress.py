"""What a user reads while a stage or a training runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from trajcast_ase import progress as progress_module
from trajcast_ase.progress import StageProgress, TrainingProgress
from trajcast_ase.training.log import TrainingStep


class Clock:
    """Time as a test wants it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress_module.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress_module, "LINE_INTERVAL_S", 0.0)
    monkeypatch.setattr(TrainingProgress, "interval_s", 0.0)
    return Clock(monkeypatch)


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_training_by_time_shows_its_part_and_the_time_to_its_end(clock):
    stream = io.StringIO()
    with TrainingProgress(console=Console(file=stream, width=200)) as progress:
        # A pause after the first half of the steps is no part of the pace, and more
        # steps are planned than before.
        for now, step, steps, share in ((100, 62, 100, 0.62), (400, 70, 140, 0.66)):
            clock.now = float(now)
            left = 600.0 - now
            progress(TrainingStep(step, steps, share, 0.01, 1e-3, 0.1, None, left))
    assert lines_of(stream) == [
        "62 %  step 62  loss 1.000e-02  lr 1.0e-03  100.0 ms/step  0:08:20 left",
        "66 %  step 70  loss 1.000e-02  lr 1.0e-03  100.0 ms/step  0:03:20 left",
    ]


def test_a_training_by_steps_counts_them(clock):
    stream = io.StringIO()
    with TrainingProgress(console=Console(file=stream, width=200)) as progress:
        progress._total = 100
        for step in (10, 20):
            clock.now = float(step)
            progress(TrainingStep(step, 100, step / 100, 0.01, 1e-3, 0.1))
    first, second = lines_of(stream)
    assert first.startswith("10/100  loss 1.000e-02")
    assert second.endswith("ms/step  0:02:40 left")


@pytest.mark.parametrize(
    ("most", "text"),
    [
        (None, "0:01:30 left"),
        (600.0, "0:01:30 left"),
        (40.0, "0:00:40 left"),  # the stage ends before it is whole
        (-5.0, "0:01:30 left"),  # it goes on to what is needed at least
    ],
)
def test_a_stage_with_a_share_of_the_time_does_not_tell_more(clock, most, text):
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    with StageProgress(1000, console=console) as progress:
        progress.update(0, "0 of 10 ps of MD", at_most_s=most)
        clock.now = 10.0
        progress.update(100, "1 of 10 ps of MD", at_most_s=most)
    assert lines_of(stream) == ["0 of 10 ps of MD", f"1 of 10 ps of MD  {text}"]


def test_the_bar_of_a_terminal_has_the_same_time_left():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with StageProgress(100, console=console) as progress:
        progress.update(62, "62 % of the training", left_s=200.0)
    assert "62 % of the training  0:03:20 left" in stream.getvalue()
