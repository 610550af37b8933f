"""Verdicts: runs of one ensemble pass with the stated odds, others fail."""

from dataclasses import replace

import numpy as np
import pytest

from trajcast_ase.analysis.overlap import curve_overlap
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.observables import Observables, observe, pool
from trajcast_ase.validation.quantities import Scalar
from trajcast_ase.validation.report import (
    FALSE_ALARM,
    NotComparableError,
    compare,
)

from .conftest import PIECE_FS, drawn_frames


def failed(report) -> set[str]:
    """Return the names of the rows that fail."""
    return {row.observable for row in report.rows if not row.passes}


def test_runs_of_one_ensemble_pass_with_the_stated_odds(methane):
    runs = [observe(drawn_frames(methane, seed), PIECE_FS) for seed in range(40)]
    verdicts = [
        compare(one, other).passes
        for one, other in zip(runs[::2], runs[1::2], strict=True)
    ]
    # More than 5 of 20 failures happen once in 3000 times at 5 %.
    assert FALSE_ALARM == 0.05
    assert verdicts.count(False) <= 5


def test_another_temperature_fails_in_temperatures_only(methane):
    cold = observe(drawn_frames(methane, 1), PIECE_FS)
    hot = observe(drawn_frames(methane, 2, kelvin=350.0), PIECE_FS)
    found = failed(compare(hot, cold))
    assert {"temperature", "temperature of H", "sd of temperature"} <= found
    assert not any("bond" in name or "angle" in name for name in found)


def test_softer_bonds_fail_in_the_structure_only(methane):
    stiff = observe(drawn_frames(methane, 1), PIECE_FS)
    soft = observe(drawn_frames(methane, 2, spread=0.03), PIECE_FS)
    found = failed(compare(soft, stiff))
    assert {"sd of bond C-H", "sd of angle H-C-H"} <= found
    assert not any("temperature" in name for name in found)


def test_another_spectrum_fails(methane):
    frames, other = drawn_frames(methane, 1), drawn_frames(methane, 2)
    smooth = (other.velocities + np.roll(other.velocities, 1, axis=0)) / np.sqrt(2)
    slow = replace(other, velocities=smooth)
    found = failed(compare(observe(slow, PIECE_FS), observe(frames, PIECE_FS)))
    assert "overlap of spectrum" in found


def test_broken_bonds_fail(methane):
    whole = drawn_frames(methane, 1)
    broken = whole.positions.copy()
    broken[700, 1] *= 2.0
    reference = observe(whole, PIECE_FS)
    topology = reference.topology
    torn = observe(replace(whole, positions=broken), PIECE_FS, topology=topology)
    assert failed(compare(torn, reference)) >= {"longest bond C-H"}
    # Gone for good, a type of bond is no longer among those of the last frame.
    broken[700:, 1:] *= 3.0
    gone = observe(replace(whole, positions=broken), PIECE_FS, topology=topology)
    assert "longest bond C-H" in failed(compare(gone, reference))


def test_runs_with_bonds_of_their_own_are_refused(methane):
    reference = observe(drawn_frames(methane, 1), PIECE_FS)
    other = replace(reference.topology, pairs=reference.topology.pairs[:-1])
    with pytest.raises(NotComparableError, match="with other bonds"):
        compare(replace(reference, topology=other), reference)


def test_overlap_of_curves():
    one = np.array([1.0, 1.0, 0.0, 0.0])
    assert curve_overlap(one, one) == 1.0
    assert curve_overlap(one, one[::-1]) == 0.0
    assert curve_overlap(one, np.array([0.0, 1.0, 1.0, 0.0])) == 0.5


def changed(observables: Observables, change: dict[str, object]) -> Observables:
    """Return observables of a run under other conditions."""
    if "piece_fs" in change:
        return replace(observables, **change)
    return replace(observables, conditions=replace(observables.conditions, **change))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"formula": "CH3D"}, "the run is CH3D, the reference CH4"),
        ({"stride_fs": 7.0}, "a frame every 7 fs, the reference every 10 fs"),
        ({"piece_fs": 3000.0}, "pieces of 3000 fs"),
        ({"temperature_K": 350.0}, "keeps 350 K, that of the reference 300 K"),
        ({"pbc": (True, True, False)}, r"of the run are \[True, True, False\]"),
        ({"masses_amu": {"C": 12.011, "H": 2.014}}, "H weighs 2.014 amu in the run"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(methane, change, text):
    reference = observe(drawn_frames(methane, 1), PIECE_FS, temperature_K=300.0)
    with pytest.raises(NotComparableError, match=text):
        compare(changed(reference, change), reference)


def test_other_densities_are_refused(crystal):
    reference = observe(crystal, PIECE_FS)
    other = changed(reference, {"extent": 1.01 * reference.conditions.extent})
    with pytest.raises(NotComparableError, match="compare runs at one density"):
        compare(other, reference)


def test_power_is_what_it_says(methane):
    """A temperature that is off by what is seen fails in four of five runs or more."""
    reference = observe(drawn_frames(methane, 1, n_pieces=30), PIECE_FS)
    rows = {row.observable: row for row in compare(reference, reference).rows}
    seen = rows["temperature"].seen
    rng, count = np.random.default_rng(2), 0
    pieces = reference.scalars["temperature"].pieces
    scatter, mean = pieces.std(ddof=1), pieces.mean()
    for _ in range(60):
        drawn = mean + seen + scatter * rng.normal(size=30)
        hot = replace(
            reference, scalars=reference.scalars | {"temperature": Scalar("K", drawn)}
        )
        verdicts = {row.observable: row.verdict for row in compare(hot, reference).rows}
        count += verdicts["temperature"] is Verdict.FAIL
    # The reference is at its mean: only the run scatters. Fewer than 40 of 60 happen
    # once in 200 times at 80 %.
    assert count >= 40


def test_several_runs_see_more(methane):
    reference = observe(drawn_frames(methane, 1, n_pieces=40), PIECE_FS)
    runs = [observe(drawn_frames(methane, seed), PIECE_FS) for seed in range(2, 6)]
    one, four = compare(runs[0], reference), compare(pool(runs), reference)
    for alone, pooled in zip(one.rows, four.rows, strict=True):
        if alone.memory is not None and alone.error is not None:
            assert abs(pooled.seen) < abs(alone.seen)
    assert "in 4 runs (40 pieces" in four.odds
    assert "With one run a side" in one.memory
    assert "With one run a side" not in four.memory
