"""Bonds of the reference: what breaks, jumps or flies off is seen at any frame."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from trajcast_ase.trajectory import Frames
from trajcast_ase.validation.observables import observe
from trajcast_ase.validation.report import Report, compare
from trajcast_ase.validation.topology import TopologyError, topology_of, watch_bonds

from .conftest import PIECE_FS, drawn_frames

EDGE = 11.0
SPACING = 5.5
EXCHANGED = "bonds with a nearer partner"


def liquid() -> Atoms:
    """Return eight molecules of water in a periodic cell, some across its faces."""
    atoms = Atoms(cell=[EDGE] * 3, pbc=True)
    for place in np.ndindex(2, 2, 2):
        one = molecule("H2O")
        one.translate(SPACING * np.array(place) + 0.2)
        atoms += one
    atoms.wrap()
    return atoms


@pytest.fixture(scope="module")
def water() -> Frames:
    """Return frames of water."""
    return drawn_frames(liquid(), 1, n_pieces=8)


def judged(positions: np.ndarray, water: Frames) -> Report:
    """Return the report on changed positions beside the unchanged."""
    reference = observe(water, PIECE_FS)
    run = replace(water, positions=positions)
    return compare(observe(run, PIECE_FS, topology=reference.topology), reference)


def failed(report: Report) -> set[str]:
    """Return the names of the bond rows that fail."""
    names = {row.observable for row in report.rows if not row.passes}
    return {name for name in names if "bond" in name and "sd" not in name}


def stretched(water: Frames, frames: slice, length: float) -> np.ndarray:
    """Return positions with the first O-H bond of the given length."""
    positions = water.positions.copy()
    axis = water.positions[0, 1] - water.positions[0, 0]
    axis -= EDGE * np.round(axis / EDGE)
    axis /= np.linalg.norm(axis)
    positions[frames, 1] = positions[frames, 0] + length * axis
    return positions


def test_intact_runs_pass(water):
    assert failed(judged(water.positions, water)) == set()


@pytest.mark.parametrize(
    "frames",
    [slice(-1, None), slice(0, 1), slice(503, 504), slice(600, None), slice(None)],
    ids=["last", "first", "one", "from the middle", "all"],
)
def test_one_broken_bond_fails_at_any_frame(water, frames):
    # Bonds of the last frame let the first case pass: 1.92 Å is bonded no more there.
    report = judged(stretched(water, frames, 1.92), water)
    assert "longest bond H-O" in failed(report)
    rows = {row.observable: row for row in report.rows}
    assert rows["longest bond H-O"].value == pytest.approx(1.92, abs=0.05)


def test_bonds_broken_before_the_first_piece_count(water):
    longer = replace(
        water,
        positions=np.concatenate(
            [stretched(water, slice(None), 1.92)[:7], water.positions]
        ),
        velocities=np.concatenate([water.velocities[:7], water.velocities]),
    )
    topology = topology_of(water)
    found = observe(longer, PIECE_FS, topology=topology)
    assert found.n_pieces == 8  # seven frames fill no piece
    assert found.longest_bonds_A["H-O"] > 1.8


def test_fragments_that_fly_through_the_cell_are_seen(water):
    """Its images come near the rest again, and the last frame looks whole."""
    positions = water.positions.copy()
    steps = np.linspace(0.0, 1.0, 400)[:, None]
    positions[-400:, 1] += steps * np.array([0.0, EDGE, 0.0])
    report = judged(positions, water)
    assert "longest bond H-O" in failed(report)
    # The nearest image is at most half a diagonal away, however far it flew.
    rows = {row.observable: row for row in report.rows}
    assert EDGE / 3 < rows["longest bond H-O"].value < EDGE


def shared_proton(water: Frames, share: float) -> np.ndarray:
    """Return positions with two O at 2.5 Å in some frames and a proton between."""
    positions = water.positions.copy()
    near = slice(700, 720)
    axis = np.array([0.0, 0.0, 1.0])
    second = liquid()[3].position * 0 + positions[near, 0] + 2.5 * axis
    shift = second - positions[near, 3]
    for atom in (3, 4, 5):
        positions[near, atom] += shift
    positions[near, 1] = positions[near, 0] + share * 2.5 * axis
    return positions


def test_proton_jumps_fail_where_no_bond_is_long(water):
    reference = observe(water, PIECE_FS)
    for share, jumped in ((0.56, True), (0.44, False)):
        positions = shared_proton(water, share)
        run = replace(water, positions=positions)
        found = watch_bonds(run, reference.topology)
        # 1.4 Å is below the limit of 1.3 times the longest bond.
        assert found.longest_A["H-O"] < 1.3 * reference.longest_bonds_A["H-O"]
        assert found.n_exchanged == int(jumped)
        assert (EXCHANGED in failed(judged(positions, water))) == jumped


def test_partners_that_the_reference_exchanges_are_no_row(water):
    """As in a hot metal: MD must pass beside MD, whichever side counts more."""
    jumped = observe(replace(water, positions=shared_proton(water, 0.56)), PIECE_FS)
    assert jumped.n_exchanged == 1
    twice = replace(jumped, n_exchanged=2)
    names = {row.observable for row in compare(twice, jumped).rows}
    assert EXCHANGED not in names
    assert "longest bond H-O" in names


def test_a_frame_with_a_long_bond_does_not_change_the_reference(water):
    positions = stretched(water, slice(-1, None), 1.92)
    topology = topology_of(replace(water, positions=positions))
    np.testing.assert_array_equal(topology.pairs, topology_of(water).pairs)
    assert len(topology.pairs) == 16


def test_wrapping_does_not_break_bonds(water):
    outside = water.positions + EDGE * np.arange(24)[:, None] * np.array([1.0, -1, 2])
    assert failed(judged(outside, water)) == set()


def reordered(water: Frames, order: list[int]) -> Frames:
    """Return the run with its atoms in another order."""
    return replace(
        water,
        positions=water.positions[:, order],
        velocities=water.velocities[:, order],
        atomic_numbers=water.atomic_numbers[order],
        masses=water.masses[order],
    )


def test_other_orders_are_refused(water):
    topology = topology_of(water)
    elements = sorted(range(24), key=lambda atom: -int(water.atomic_numbers[atom]))
    with pytest.raises(TopologyError, match="atom 1 of seed 1 is O, that of the refer"):
        observe(reordered(water, elements), PIECE_FS, topology=topology)
    order = list(range(24))
    order[1], order[4] = order[4], order[1]
    with pytest.raises(TopologyError, match="begins with a bond between atoms 0 and 4"):
        observe(reordered(water, order), PIECE_FS, topology=topology)
    with pytest.raises(TopologyError, match="seed 1 has 21 atoms, the reference 24"):
        observe(reordered(water, order[:21]), PIECE_FS, topology=topology)
    # Two hydrogens of one molecule have the same bonds: this is no other order.
    order = list(range(24))
    order[1], order[2] = order[2], order[1]
    swapped = observe(reordered(water, order), PIECE_FS, topology=topology)
    assert swapped.n_exchanged == 0
