"""Pairs on the device against those of vesin; room; what the host may not read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from fakes import NoTransfers, without_numbers
from helpers import join, make_state, random_state, triclinic_cell
from hypothesis import given, settings
from hypothesis import strategies as st
from test_neighbors import systems

from trajcast_ase.device.candidates import AllPairs, Boxes
from trajcast_ase.device.neighbors import Room, search, within
from trajcast_ase.device.plans import first_room, needed_room, plan_search
from trajcast_ase.neighbors import find_edges


def edges_of(plan, state, room=None):
    """Return the filled part of a search as a counter of pairs with rounded vectors."""
    found = search(plan, state.positions, room or first_room(plan, state))
    n_edges = int(found.edges.offsets[-1])
    assert n_edges == int(found.needed_edges)
    return _counted(
        found.edges.receivers[:n_edges],
        found.edges.senders[:n_edges],
        found.edges.vectors[:n_edges],
    )


def _counted(receivers, senders, vectors):
    rounded = np.round(vectors.cpu().numpy(), 6) + 0.0
    rows = zip(receivers.tolist(), senders.tolist(), rounded.tolist(), strict=True)
    return Counter((i, j, *vector) for i, j, vector in rows)


def expected(state, cutoff):
    edges = find_edges(state, cutoff)
    return _counted(edges.receivers, edges.senders, edges.vectors)


def assert_same(state, cutoff):
    plan = plan_search(state, cutoff)
    assert edges_of(plan, state) == expected(state, cutoff)
    return plan


@given(systems())
def test_pairs_are_those_of_vesin(system):
    assert_same(system.state, system.cutoff)


@given(st.lists(systems(), min_size=2, max_size=4), st.floats(1.5, 5.0))
@settings(max_examples=10)
def test_batches_of_any_mix(several, cutoff):
    assert_same(join([one.state for one in several]), cutoff)


@pytest.mark.parametrize("n_atoms", [1, 2, 9])
def test_cells_smaller_than_the_cutoff(n_atoms, device):
    cell = triclinic_cell([2.2, 2.9, 3.4], [62.0, 115.0, 71.0])
    scaled = np.random.default_rng(n_atoms).uniform(-7, 7, (n_atoms, 3))
    state = make_state(scaled @ cell, cell=cell, pbc=True).to(device)
    plan = assert_same(state, 7.3)
    assert len(edges_of(plan, state)) > 30 * n_atoms


def crowd(rng, n_atoms, cell, pbc, spread=1):
    """Return many atoms, some of them outside of the cell."""
    scaled = rng.uniform(0, 1, (n_atoms, 3))
    scaled += rng.integers(-spread, spread + 1, (n_atoms, 3)) * np.asarray(pbc)
    return make_state(scaled @ cell, cell=cell, pbc=pbc)


@pytest.mark.parametrize(
    ("heights", "pbc"),
    [
        ([18.0, 18.0, 18.0], [True] * 3),
        ([40.0, 9.5, 6.3], [True] * 3),
        ([24.0, 5.0, 14.0], [True, True, False]),
        ([24.0, 5.0, 14.0], [False, True, False]),
        ([20.0, 20.0, 12.0], [False] * 3),
    ],
)
def test_large_systems_are_searched_by_boxes(heights, pbc, device):
    cell = triclinic_cell(heights, [75.0, 98.0, 104.0])
    state = crowd(np.random.default_rng(3), 700, cell, pbc).to(device)
    plan = assert_same(state, 3.1)
    assert any(isinstance(part, Boxes) for part in plan.parts)


def test_small_and_large_systems_in_one_batch(device):
    rng = np.random.default_rng(4)
    cell = triclinic_cell([16.0, 15.0, 17.0], [80.0, 95.0, 100.0])
    parts = [
        random_state(rng, 5),
        crowd(rng, 500, cell, [True] * 3),
        make_state(rng.uniform(0, 3, (3, 3)), cell=3.1 * np.eye(3), pbc=True),
        crowd(rng, 400, cell, [True, False, True]),
    ]
    plan = assert_same(join(parts).to(device), 2.9)
    assert {type(part) for part in plan.parts} == {AllPairs, Boxes}


def test_a_plan_holds_when_atoms_leave_the_boxes(device):
    rng = np.random.default_rng(5)
    cell = triclinic_cell([16.0, 15.0, 17.0], [80.0, 95.0, 100.0])
    for pbc in ([True, False, True], [False] * 3):
        state = crowd(rng, 600, cell, pbc).to(device)
        plan = plan_search(state, 3.0)
        far = rng.uniform(-30, 30, (600, 3))
        moved = torch.from_numpy(far).to(device) + state.positions
        after = state.moved(moved, state.velocities)
        needed = needed_room(plan, after)
        assert edges_of(plan, after, needed) == expected(after, 3.0)


def test_receivers_ascend_and_offsets_bound_them(device):
    state = random_state(np.random.default_rng(0), 9).to(device)
    plan = plan_search(state, 2.5)
    edges = search(plan, state.positions, first_room(plan, state)).edges
    n_edges = int(edges.offsets[-1])
    assert bool((edges.receivers.diff() >= 0).all())
    for atom in range(9):
        own = edges.receivers[edges.offsets[atom] : edges.offsets[atom + 1]]
        assert bool((own == atom).all())
    # What is not filled weighs nothing, and is longer than any edge.
    assert bool((edges.vectors[n_edges:].norm(dim=1) > 2.5).all())


def test_both_directions_are_equally_long_to_the_last_bit(device):
    cell = triclinic_cell([3.0, 4.0, 5.0], [70.0, 95.0, 100.0])
    state = crowd(np.random.default_rng(1), 12, cell, [True] * 3, 5).to(device)
    plan = plan_search(state, 4.4)
    edges = search(plan, state.positions, needed_room(plan, state)).edges
    rows = edges.vectors.tolist()
    both = Counter(zip(edges.receivers.tolist(), edges.senders.tolist(), strict=True))
    there = Counter((i, j, *v) for (i, j), v in zip(_pairs(edges), rows, strict=True))
    back = Counter(
        (j, i, *(-x for x in v)) for (i, j), v in zip(_pairs(edges), rows, strict=True)
    )
    assert there == back
    assert len(both) > 12


def _pairs(edges):
    return list(zip(edges.receivers.tolist(), edges.senders.tolist(), strict=True))


@pytest.mark.parametrize("missing", [1, 30])
def test_edges_without_room_are_counted(missing, device):
    state = random_state(np.random.default_rng(0), 9).to(device)
    plan = plan_search(state, 4.0)
    needed = needed_room(plan, state)
    found = search(plan, state.positions, Room(needed.edges - missing, needed.box))
    assert int(found.needed_edges) == needed.edges
    assert int(found.edges.offsets[-1]) == needed.edges - missing
    enough = search(plan, state.positions, Room(needed.edges + 17, needed.box))
    filled = needed.edges - missing
    for name in ("receivers", "senders", "vectors"):
        part, whole = getattr(found.edges, name), getattr(enough.edges, name)
        assert torch.equal(part[:filled], whole[:filled])


def test_boxes_without_room_are_counted(device):
    cell = triclinic_cell([16.0, 15.0, 17.0], [80.0, 95.0, 100.0])
    state = crowd(np.random.default_rng(6), 600, cell, [True] * 3).to(device)
    plan = plan_search(state, 3.0)
    needed = needed_room(plan, state)
    found = search(plan, state.positions, Room(needed.edges, needed.box - 1))
    assert int(found.needed_box) == needed.box
    assert int(found.needed_edges) < needed.edges


def test_a_narrower_list_of_a_list(device):
    cell = triclinic_cell([5.0, 6.0, 7.0], [80.0, 95.0, 100.0])
    state = crowd(np.random.default_rng(7), 20, cell, [True] * 3).to(device)
    plan = plan_search(state, 5.0)
    wide = search(plan, state.positions, first_room(plan, state)).edges
    narrow, needed = within(wide, 3.3, 4000)
    n_edges = int(needed)
    found = _counted(
        narrow.receivers[:n_edges], narrow.senders[:n_edges], narrow.vectors[:n_edges]
    )
    assert found == expected(state, 3.3)
    assert int(narrow.offsets[-1]) == n_edges


@pytest.mark.parametrize("n_atoms", [20, 600])
def test_a_search_reads_nothing_on_the_host(n_atoms):
    cell = triclinic_cell([16.0, 15.0, 17.0], [80.0, 95.0, 100.0])
    state = crowd(np.random.default_rng(8), n_atoms, cell, [True, True, False])
    plan = plan_search(state, 3.0)
    room = first_room(plan, state)
    plan, positions = without_numbers((plan, state.positions))
    with NoTransfers():
        found = search(plan, positions, room)
        narrow, _ = within(found.edges, 2.0, 50)
    assert found.edges.receivers.shape == (room.edges,)
    assert narrow.vectors.shape == (50, 3)
    with pytest.raises(RuntimeError, match="meta"):
        bool(found.needed_edges > 5)
