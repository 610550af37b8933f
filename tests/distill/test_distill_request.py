from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.constraints import FixAtoms
from distill_system import tetrahedron

from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.distill.effort import BudgetError, WallClock
from trajcast_ase.distill.request import (
    Fixed,
    Request,
    parse_budget,
    parse_temperature,
)

EMT = CalculatorSpec("emt")


def request(**changes):
    values = {"atoms": tetrahedron(), "calculator": EMT, "temperature_K": 300.0}
    return Request(out=Path("out"), **(values | changes))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90min", 5400), ("1h 30min", 5400), ("45 s", 45), ("0.5h", 1800)],
)
def test_budgets_are_read(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2h soon", "0s", "-1h"])
def test_other_texts_are_no_budget(text):
    with pytest.raises(ValueError, match="is no time; write for example"):
        parse_budget(text)


def test_a_range_of_temperatures_is_refused_with_the_way_out():
    assert parse_temperature("300") == 300.0
    with pytest.raises(ValueError, match="range of temperatures is not supported"):
        parse_temperature("280-350")
    with pytest.raises(ValueError, match="is no number of K"):
        parse_temperature("warm")


def bad(**changes):
    atoms = bulk("Cu", cubic=True)
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"atoms": None}, "either a structure"),
        ({"trajectories": ("a.h5",)}, "either a structure"),
        ({"atoms": None, "trajectories": ("a.h5",)}, "leave it out"),
        ({"references": ("a.h5",)}, "belongs to --trajectories"),
        ({"calculator": None}, "needs --calculator"),
        ({"temperature_K": None}, "needs --temperature"),
        ({"temperature_K": -3.0}, "must be positive"),
        ({"atoms": tetrahedron()[:1]}, "fewer than two atoms"),
        ({"atoms": bad(cell=None)}, "periodic but has no cell"),
        ({"atoms": bad(pbc=False)}, "no periodic axis"),
        ({"atoms": bad(constraints=FixAtoms([0]))}, "constraints"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        request(**changes)


def test_choices_must_be_positive():
    with pytest.raises(ValueError, match="horizon_fs = 0"):
        Fixed(horizon_fs=0)


def test_identity_does_not_depend_on_budget_and_processes():
    first = request().identity()

    assert request(budget_s=1.0, processes=4).identity() == first
    assert request(seed=1).identity() != first
    moved = tetrahedron()
    moved.positions[0, 0] += 1e-9
    assert request(atoms=moved).identity() != first


def test_a_budget_too_short_says_what_is_needed():
    with pytest.raises(BudgetError, match=r"give --budget [\d.]+ h or more") as error:
        WallClock(60.0).md_steps(0.1, 1, 1.0)

    hours = float(str(error.value).split("--budget ")[1].split()[0])
    assert WallClock(3600.0 * (hours + 0.1)).md_steps(0.1, 1, 1.0) >= 20_000


def test_no_time_left_for_a_training_says_what_is_needed():
    clock = WallClock(1000.0)

    assert clock.training_steps(0.1, 400.0) == int(0.93 * 400 / 0.1)
    with pytest.raises(BudgetError, match="finished stages are kept"):
        clock.training_steps(0.1, 795.0)
