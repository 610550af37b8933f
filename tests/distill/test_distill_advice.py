"""What a user is told to try never is what was tried, nor its opposite."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trajcast_ase.distill.advice import Course, advice
from trajcast_ase.distill.baths import Bath
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.report import Row

COURSE = Course(
    horizon_fs=60.0,
    cutoff_A=4.0,
    n_channels=8,
    bath=Bath(1000.0),
    tried=(Bath(5000.0), Bath(2000.0), Bath(1000.0), Bath(500.0)),
    limit="steps",
    makes_md=True,
    budget_s=1740.0,
)


def row(name, value=0.0, reference=1.0, verdict=Verdict.FAIL):
    return Row(name, "", value, 0.1, reference, 0.1, "", 0.1, None, verdict, None)


COLD = row("temperature at 109-133 cm⁻¹", 240.0, 304.0)
HOT = row("temperature of H", 345.0, 313.0)
SPECTRUM = row("overlap of spectrum of C", 0.7)


def told(rows, **changes):
    return advice(rows, replace(COURSE, **changes))


def test_each_line_is_an_option_that_can_be_given():
    lines = told([COLD, row("bond Cu-Cu"), row("overlap of g(r) of Cu-Cu")])
    whats, options = zip(*(line.rsplit(": ", 1) for line in lines), strict=True)
    assert whats == (
        "a longer training, since steps or the network limit it",
        "a shorter stride, which is easier to learn (bonds or angles)",
        "a larger network with more time to train it (bonds or angles)",
        "a stride that sees farther (structure or diffusion)",
    )
    assert options == (
        "the same command with --redo training --budget 58min",
        "--horizon 30 in another --out",
        "--channels 16 --budget 58min in another --out",
        "--cutoff 5 in another --out",
    )


@pytest.mark.parametrize(
    ("rows", "changes", "option"),
    [
        ([COLD], {"bath": Bath(500.0)}, "--langevin 250"),
        ([COLD], {"bath": Bath(1000.0)}, None),  # 500 fs was tried
        ([COLD], {"bath": Bath(800.0), "tried": ()}, "--langevin 400"),
        ([SPECTRUM], {"bath": Bath(5000.0)}, "--langevin 10000"),
        ([SPECTRUM], {"bath": Bath(1000.0)}, None),  # 5000 fs was tried
        ([SPECTRUM], {"bath": Bath(800.0), "tried": ()}, "--langevin 1600"),
        ([COLD, SPECTRUM], {"bath": Bath(500.0)}, None),  # stronger and weaker
        ([COLD, SPECTRUM], {"bath": Bath(800.0), "tried": ()}, None),
        ([HOT], {"bath": Bath(500.0)}, None),
        ([row("sd of temperature", 50.0, 60.0)], {"bath": Bath(500.0)}, None),
    ],
)
def test_a_bath_is_named_only_where_it_was_not_tried(rows, changes, option):
    baths = [line for line in told(rows, **changes) if "--langevin" in line]
    if option is None:
        assert not baths
    else:
        (line,) = baths
        assert f"{option} in another --out" in line


def test_what_is_too_hot_is_not_called_cold():
    assert not any("cold" in line for line in told([HOT]))
    assert any("too hot" in line for line in told([HOT]))


def test_what_limits_the_training_is_told_once():
    (line, *rest) = told([COLD], limit="data")
    assert line.startswith("more reference MD, since data limit the training: ")
    assert "--redo training --budget 58min" in line
    assert not any("limit" in one for one in rest)
    (line,) = told([COLD], limit="data", makes_md=False)
    assert line.startswith("more trajectories")


def test_a_larger_network_only_where_data_suffice():
    assert not any("--channels" in line for line in told([SPECTRUM], limit="data"))


def test_rows_that_are_not_trustworthy_want_longer_runs_first():
    (first, second) = told([row("bond H-O", verdict=Verdict.DOUBTFUL)])
    assert first.startswith("longer runs on both sides, since no row fails for sure")
    assert "--redo training" in second


def test_runs_that_break_down_want_shorter_strides():
    (training, stride) = advice([], COURSE, lost=True)
    assert "--redo training" in training
    assert "(runs that break down): --horizon 30 in another --out" in stride
