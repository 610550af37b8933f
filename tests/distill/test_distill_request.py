from __future__ import annotations

from pathlib import Path

import numpy as np
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
    structure_hash,
)
from trajcast_ase.distill.workers import cores

EMT = CalculatorSpec("emt")


def request(**changes):
    values = {"atoms": tetrahedron(), "calculator": EMT, "temperatures_K": (300.0,)}
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


def test_one_temperature_or_a_range_is_read():
    assert parse_temperature("300") == (300.0,)
    assert parse_temperature("280-350") == (280.0, 315.0, 350.0)
    for wrong in ("warm", "350-280", "280-", "1-2-3", "-5"):
        with pytest.raises(ValueError, match=r"no range that ascends|must be positive"):
            request(temperatures_K=parse_temperature(wrong))


def test_a_range_belongs_to_a_structure():
    with pytest.raises(ValueError, match="280-350: a range belongs to a structure"):
        request(
            atoms=None,
            calculator=None,
            trajectories=("a.h5",),
            temperatures_K=(280.0, 315.0, 350.0),
        )


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
        ({"processes": 10_000}, "cores that this process may use"),
        ({"atoms": None, "trajectories": ("a.h5",)}, "leave it out"),
        ({"references": ("a.h5",)}, "belongs to --trajectories"),
        ({"calculator": None}, "needs --calculator"),
        ({"temperatures_K": ()}, "needs --temperature"),
        ({"temperatures_K": (-3.0,)}, "must be positive"),
        ({"atoms": tetrahedron()[:1]}, "fewer than two atoms"),
        ({"atoms": bad(cell=None)}, "periodic but has no cell"),
        ({"atoms": bad(pbc=False)}, "no periodic axis"),
        ({"atoms": bad(constraints=FixAtoms([0]))}, "constraints"),
        ({"atoms": bad()}, "too small for a report.*repeat the cell"),
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

    assert request(budget_s=1.0, processes=cores()).identity() == first
    assert request(seed=1).identity() != first
    moved = tetrahedron()
    moved.positions[0, 0] += 1e-9
    assert request(atoms=moved).identity() != first


def test_identity_is_of_all_that_a_calculator_may_look_at():
    def hash_of(change=lambda _: None):
        atoms = tetrahedron()
        change(atoms)
        return structure_hash(atoms)

    changes = (
        lambda atoms: atoms.set_initial_charges([1, 0, 0, 0]),
        lambda atoms: atoms.set_initial_charges([0, 1, 0, 0]),
        lambda atoms: atoms.set_initial_magnetic_moments([1, 0, 0, 0]),
        lambda atoms: atoms.info.update(charge=1),
        lambda atoms: atoms.info.update(charge=2),
        lambda atoms: atoms.info.update(spin=1),
    )
    assert len({hash_of(), *map(hash_of, changes)}) == 1 + len(changes)
    assert hash_of(lambda atoms: atoms.set_initial_charges([0, 0, 0, 0])) == hash_of()
    assert hash_of(lambda atoms: atoms.info.update(charge=np.int64(1))) == hash_of(
        lambda atoms: atoms.info.update(charge=1)
    )


def test_a_budget_too_short_says_what_is_needed():
    with pytest.raises(BudgetError, match=r"give --budget \d+min or more") as error:
        WallClock(60.0).md_steps(0.01, 1.0, 2)

    budget = parse_budget(str(error.value).split("--budget ")[1].split()[0])
    assert WallClock(budget).md_steps(0.01, 1.0, 2) >= 40_000
    with pytest.raises(BudgetError, match="120 ps are needed for 6 canonical"):
        WallClock(budget).md_steps(0.01, 1.0, 6)


def test_no_time_left_for_a_training_says_what_is_needed():
    clock = WallClock(1000.0)

    assert clock.training(0.1, 400.0, 150.0).seconds == 450.0
    assert clock.training(0.1, 400.0, 900.0).seconds == 420.0  # their whole share
    with pytest.raises(BudgetError, match=r"go on with --budget \d+min") as error:
        clock.training(0.1, 980.0, 150.0)
    budget = parse_budget(str(error.value).split("--budget ")[1].split()[0])
    assert WallClock(budget).training(0.1, 980.0, 150.0).seconds >= 200 * 0.1


def test_without_a_choice_its_share_is_that_of_the_others():
    clock = WallClock(1000.0, chooses=False)
    assert clock.share("choice", 500.0) == 0.0
    assert clock.share("reference", 0.0) == pytest.approx(1000.0 * 0.36 / 0.88)
    assert clock.share("training", 400.0) == pytest.approx(600.0 * 0.34 / 0.52)
    with pytest.raises(BudgetError, match=r"give --budget \d+min or more") as error:
        WallClock(60.0, chooses=False).md_steps(0.01, 1.0, 2)
    budget = parse_budget(str(error.value).split("--budget ")[1].split()[0])
    assert WallClock(budget, chooses=False).md_steps(0.01, 1.0, 2) >= 40_000


def test_what_one_stage_saves_goes_to_the_next():
    clock = WallClock(1000.0)
    planned = [clock.share(stage, 0.0) for stage in ("reference",)]
    assert planned == [pytest.approx(360.0)]
    # As planned, and after a reference that took half or twice its time.
    for spent, factor in ((360.0, 1.0), (180.0, 820 / 640), (720.0, 280 / 640)):
        assert clock.share("choice", spent) == pytest.approx(120.0 * factor)
    assert clock.share("report", 2000.0) == 0.0
