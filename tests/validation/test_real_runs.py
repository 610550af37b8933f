"""Reference MD held against itself: what is bundled, run by run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.inputs import bundled_reference
from trajcast_ase.validation.observables import Observables
from trajcast_ase.validation.report import compare
from trajcast_ase.validation.storage import load_observables

HOT = Path(__file__).parents[1] / "data" / "paracetamol-310K-observables.json"


def some_runs(observables: Observables, chosen: list[int]) -> Observables:
    """Return some of the runs of a side."""
    index = np.split(
        np.arange(observables.n_pieces), np.cumsum(observables.run_pieces)[:-1]
    )
    pieces = np.concatenate([index[run] for run in chosen])
    return replace(
        observables,
        run_pieces=tuple(observables.run_pieces[run] for run in chosen),
        scalars={
            name: replace(one, pieces=one.pieces[pieces])
            for name, one in observables.scalars.items()
        },
        curves={
            name: replace(one, pieces=one.pieces[pieces])
            for name, one in observables.curves.items()
        },
    )


@pytest.fixture(scope="module")
def paracetamol() -> Observables:
    """Return eight runs of 1 ns at 300 K."""
    return bundled_reference("paracetamol")


@pytest.mark.parametrize("chosen", [[0, 1, 2], [3, 4, 5], [2, 5, 7]])
def test_md_passes_beside_md(paracetamol, chosen):
    others = [run for run in range(8) if run not in chosen]
    report = compare(some_runs(paracetamol, chosen), some_runs(paracetamol, others))
    # A row fails in at most one of twenty reports; these three are fixed data.
    assert report.n_failed == 0, report.verdict


def test_md_ten_kelvin_hotter_fails(paracetamol):
    """A run at 310 K, whose file says so: the judge is not told."""
    hot = load_observables(HOT)
    assert hot.conditions.temperature_K == 310.0
    told = replace(hot, conditions=replace(hot.conditions, temperature_K=None))
    report = compare(told, paracetamol)
    failed = {row.observable for row in report.rows if row.verdict is Verdict.FAIL}
    assert "temperature" in failed
