from __future__ import annotations

import pytest
from ase.calculators.emt import EMT
from distill_system import Springs, tetrahedron

from trajcast_ase.distill.calculators import (
    CalculatorError,
    CalculatorSpec,
    parse_options,
    try_calculator,
)


def test_options_are_python_values():
    found = parse_options(["sigma=3.4", "smooth=true", "method=GFN2-xTB", "n=(1, 2)"])

    assert found == {"sigma": 3.4, "smooth": True, "method": "GFN2-xTB", "n": (1, 2)}


@pytest.mark.parametrize("texts", [["sigma"], ["=3"], ["a b=3"], ["a=1", "a=2"]])
def test_options_that_are_none_are_refused(texts):
    with pytest.raises(CalculatorError, match="name=value"):
        parse_options(texts)


def test_names_of_ase_paths_and_objects_are_taken():
    for source in ("emt", "distill_system:Springs", Springs, Springs()):
        try_calculator(CalculatorSpec(source), tetrahedron())


def test_options_reach_the_calculator():
    made = CalculatorSpec("lj", {"sigma": 2.5}).make()

    assert made.parameters["sigma"] == 2.5


def test_each_process_makes_its_own_unless_it_is_given_one():
    assert CalculatorSpec("emt").make() is not CalculatorSpec("emt").make()
    assert CalculatorSpec(EMT()).is_shared
    assert not CalculatorSpec(EMT).is_shared


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("no_such_name", "ASE names no calculator 'no_such_name'"),
        ("no_such_module:maker", "cannot be imported"),
        ("distill_system:absent", "cannot be imported"),
    ],
)
def test_names_that_cannot_be_imported_are_explained(source, match):
    with pytest.raises(CalculatorError, match=match):
        CalculatorSpec(source).make()


def test_wrong_options_are_explained():
    with pytest.raises(CalculatorError, match=r"cannot be made.*--calculator-option"):
        CalculatorSpec("distill_system:tetrahedron", {"wrong": 1}).make()


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("nan", "forces of the first structure, Cu4, that are not finite"),
        ("energy only", "gives no forces"),
        ("raises", "gives no energy.*SCF did not converge"),
    ],
)
def test_calculators_that_do_not_serve_are_refused(fault, match):
    spec = CalculatorSpec("distill_system:Springs", {"fault": fault})

    with pytest.raises(CalculatorError, match=match):
        try_calculator(spec, tetrahedron())
