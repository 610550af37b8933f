"""Edges against two oracles: ASE's neighbor list and brute force."""

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from ase.geometry import complete_cell
from ase.neighborlist import primitive_neighbor_list
from helpers import join, make_state, random_state, triclinic_cell
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree

from trajcast_ase import neighbors
from trajcast_ase.neighbors import FEW_ATOMS, find_edges

MAX_PAIRS = 20_000


def cluster_radius(x, y, r, *, max_num_neighbors=32):
    """Stand in for torch_cluster.radius, with its signature, order and truncation."""
    found = cKDTree(x.numpy()).query_ball_point(y.numpy(), r)
    pairs = [(i, j) for i, js in enumerate(found) for j in js[:max_num_neighbors]]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T


@pytest.fixture(scope="module", autouse=True)
def torch_cluster_or_twin():
    """Offer torch_cluster, or its twin where the package is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            import torch_cluster  # noqa: F401, PLC0415
        except ImportError:
            twin = ModuleType("torch_cluster")
            twin.radius = cluster_radius
            patch.setitem(sys.modules, "torch_cluster", twin)
        yield


@dataclass(frozen=True)
class System:
    """One case: atoms anywhere, any cell, any periodicity."""

    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    cutoff: float

    @property
    def state(self):
        return make_state(self.positions, cell=self.cell, pbc=self.pbc)


@st.composite
def systems(draw):
    """Draw a triclinic cell, possibly left-handed, and unwrapped atoms."""
    cutoff = draw(st.floats(1.0, 6.0))
    heights = [cutoff * draw(st.floats(0.3, 5.0)) for _ in range(3)]
    angles = [draw(st.floats(40.0, 140.0)) for _ in range(3)]
    cell = triclinic_cell(heights, angles, left_handed=draw(st.booleans()))
    assume(cell is not None)
    pbc = np.array([draw(st.booleans()) for _ in range(3)])
    density = 4.2 * cutoff**3 / abs(np.linalg.det(cell))
    limit = int(np.clip(np.sqrt(MAX_PAIRS / (1.0 + density)), 1, 60))
    n_atoms = draw(st.integers(1, limit))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scaled = rng.uniform(0.0, 1.0, (n_atoms, 3))
    scaled += np.where(pbc, rng.integers(-9, 10, (n_atoms, 3)), 0.0)
    return System(scaled @ cell, cell, pbc, cutoff)


def brute_force(system):
    """Return every (receiver, sender, shift) within the cutoff, by trying them all."""
    inverse = np.linalg.inv(system.cell)
    delta = system.positions[None] - system.positions[:, None]
    nearest = np.where(system.pbc, -np.round(delta @ inverse), 0.0)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    reach = np.where(system.pbc, np.ceil(system.cutoff / heights + 0.5), 0).astype(int)
    found = []
    for extra in np.ndindex(*(2 * reach + 1)):
        shifts = nearest + (np.array(extra) - reach)
        lengths = np.linalg.norm(delta + shifts @ system.cell, axis=2)
        is_self = np.eye(len(delta), dtype=bool) & ~shifts.any(axis=2)
        near = (lengths < system.cutoff) & ~is_self
        found += [(i, j, *shifts[i, j].astype(int)) for i, j in np.argwhere(near)]
    return np.array(sorted(found), dtype=int).reshape(-1, 5)


def with_shifts(edges, system):
    """Return sorted rows (receiver, sender, shift), with the shift from the vector."""
    receivers, senders = edges.receivers.numpy(), edges.senders.numpy()
    direct = system.positions[senders] - system.positions[receivers]
    cell = complete_cell(system.cell)
    exact = (edges.vectors.numpy() - direct) @ np.linalg.inv(cell)
    shifts = np.round(exact)
    assert_allclose(exact, shifts, atol=1e-9)
    rows = np.column_stack([receivers, senders, shifts.astype(int)])
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("backend", ["vesin", "torch-cluster"])
@given(system=systems())
def test_edges_equal_brute_force(backend, system):
    edges = find_edges(system.state, system.cutoff, backend)
    assert_array_equal(with_shifts(edges, system), brute_force(system))
    # Vectors, and with them distances, by the sign convention of the module.
    receivers, senders = edges.receivers.numpy(), edges.senders.numpy()
    direct = system.positions[senders] - system.positions[receivers]
    shifts = np.round((edges.vectors.numpy() - direct) @ np.linalg.inv(system.cell))
    expected = np.linalg.norm(direct + shifts @ system.cell, axis=1)
    scale = np.abs(system.positions).max() + np.abs(system.cell).max()
    assert_allclose(edges.vectors.norm(dim=1).numpy(), expected, atol=1e-14 * scale)


@pytest.mark.parametrize("backend", ["vesin", "torch-cluster"])
@given(system=systems())
def test_edges_equal_ase(backend, system):
    i, j, shift = primitive_neighbor_list(
        "ijS", system.pbc, system.cell, system.positions, system.cutoff
    )
    rows = np.column_stack([i, j, shift])
    edges = find_edges(system.state, system.cutoff, backend)
    assert_array_equal(with_shifts(edges, system), rows[np.lexsort(rows.T[::-1])])


@given(system=systems())
def test_backends_give_the_same_rows_in_the_same_order(system):
    one = find_edges(system.state, system.cutoff, "vesin")
    other = find_edges(system.state, system.cutoff, "torch-cluster")
    assert torch.equal(one.receivers, other.receivers)
    assert torch.equal(one.senders, other.senders)
    assert bool((one.receivers.diff() >= 0).all())


@pytest.mark.parametrize("backend", ["vesin", "torch-cluster"])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_missing_cell_vectors_on_axes_that_are_not_periodic(backend, rank):
    rng = np.random.default_rng(rank)
    cell = np.zeros((3, 3))
    cell[:rank] = triclinic_cell([3.0, 4.0, 5.0], [70.0, 80.0, 95.0])[:rank]
    pbc = np.arange(3) < rank
    system = System(rng.uniform(0, 6, (12, 3)), cell, pbc, 2.9)
    i, j, shift = primitive_neighbor_list("ijS", pbc, cell, system.positions, 2.9)
    rows = np.column_stack([i, j, shift])
    found = with_shifts(find_edges(system.state, 2.9, backend), system)
    assert_array_equal(found, rows[np.lexsort(rows.T[::-1])])
    assert len(found) > 12


@pytest.mark.parametrize("backend", ["vesin", "torch-cluster"])
def test_one_atom_sees_its_own_images(backend):
    state = make_state([[0.3, 0.2, 0.1]], cell=2.0 * np.eye(3), pbc=True)
    edges = find_edges(state, 2.5, backend)
    vectors = edges.vectors[np.lexsort(edges.vectors.numpy().T)].numpy()
    expected = [[-2, 0, 0], [0, -2, 0], [0, 0, -2], [0, 0, 2], [0, 2, 0], [2, 0, 0]]
    expected = np.array(expected, dtype=float)
    assert_allclose(vectors, expected[np.lexsort(expected.T)], atol=1e-14)
    assert edges.senders.tolist() == edges.receivers.tolist() == [0] * 6


@pytest.mark.parametrize("backend", ["vesin", "torch-cluster"])
@pytest.mark.parametrize("positions", [[[0.0, 0, 0]], [[0.0, 0, 0], [99.0, 0, 0]]])
def test_no_edges(backend, positions):
    edges = find_edges(make_state(positions), 3.0, backend)
    assert edges.vectors.shape == (0, 3)
    assert edges.receivers.dtype == edges.senders.dtype == torch.int64
    assert edges.vectors.dtype == torch.float64


@pytest.mark.parametrize("backend", ["vesin", "torch-cluster"])
def test_vector_points_from_receiver_to_sender(backend):
    edges = find_edges(make_state([[0.0, 0, 0], [1.0, 0.5, 0.2]]), 3.0, backend)
    assert edges.receivers.tolist() == [0, 1]
    assert edges.senders.tolist() == [1, 0]
    assert_allclose(edges.vectors[0].numpy(), [1.0, 0.5, 0.2])


@pytest.mark.parametrize("backend", ["vesin", "torch-cluster"])
def test_batch_never_connects_systems(backend):
    rng = np.random.default_rng(5)
    cell = triclinic_cell([4.0, 5.0, 4.5], [70.0, 110.0, 85.0])
    states = [
        random_state(rng, 5),
        make_state([[0.0, 0, 0]]),
        random_state(rng, 7, cell=cell, pbc=[True, False, True]),
        random_state(rng, 6),
    ]
    edges = find_edges(join(states), 3.0, backend)
    singles = [find_edges(state, 3.0, backend) for state in states]
    starts = np.cumsum([0] + [state.n_atoms for state in states[:-1]])
    for name in ("receivers", "senders"):
        parts = [getattr(e, name) + s for e, s in zip(singles, starts, strict=True)]
        assert torch.equal(getattr(edges, name), torch.cat(parts))
    assert torch.equal(edges.vectors, torch.cat([e.vectors for e in singles]))


def test_atoms_many_cells_away_keep_their_vectors():
    rng = np.random.default_rng(6)
    cell = triclinic_cell([5.0, 6.0, 7.0], [60.0, 100.0, 75.0])
    state = random_state(rng, 9, cell=cell, pbc=True)
    images = torch.tensor(rng.integers(-1000, 1001, (9, 3))).double()
    moved = state.moved(state.positions + images @ state.cell[0], state.velocities)
    near, far = find_edges(state, 4.0), find_edges(moved, 4.0)

    def ordered(edges):
        # Equal up to rounding, so images of one pair are put in order by rounded rows.
        keys = edges.vectors.numpy().round(6)
        rows = [edges.receivers.numpy(), edges.senders.numpy(), *keys.T]
        return np.lexsort(rows[::-1])

    one, other = ordered(near), ordered(far)
    assert_array_equal(near.senders[one], far.senders[other])
    assert_allclose(near.vectors[one], far.vectors[other], atol=1e-10)


@pytest.mark.parametrize("distance", [1e5, 1e9, 1e18])
@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 0, 1)])
def test_atoms_that_have_left_do_not_change_the_others(distance, pbc):
    positions = np.random.default_rng(4).uniform(0.0, 8.0, (12, 3))
    cell = np.array([[9.0, 0.0, 0.0], [4.0, 8.0, 0.0], [0.0, 1.0, 9.0]])
    away = np.array([[3.0, distance, 2.0], [1.0, -2.0 * distance, 4.0]])
    near = make_state(positions, cell=cell, pbc=np.array(pbc, dtype=bool))
    far = make_state(
        np.insert(positions, 3, away, axis=0), cell=cell, pbc=np.array(pbc, dtype=bool)
    )
    expected, found = find_edges(near, 4.0), find_edges(far, 4.0)
    lone = torch.isin(found.receivers, torch.tensor([3, 4]))
    assert torch.equal(found.receivers[lone], found.senders[lone])  # own images alone
    kept = torch.tensor([0, 1, 2, *range(5, 14)])
    assert torch.equal(found.receivers[~lone], kept[expected.receivers])
    assert torch.equal(found.senders[~lone], kept[expected.senders])
    assert_allclose(found.vectors[~lone], expected.vectors, atol=1e-9)


def test_cell_wider_than_can_be_searched_is_refused():
    state = make_state(
        np.zeros((1, 3)), cell=np.diag([1e8, 5.0, 5.0]), pbc=np.array([True, 0, 0])
    )
    with pytest.raises(ValueError, match=r"1e\+08 Å wide along the periodic axis 0"):
        find_edges(state, 4.5)


def test_periodic_axis_without_cell_vector_is_refused():
    cell = np.diag([4.0, 0.0, 4.0])
    state = make_state([[0.0, 0, 0]], cell=cell, pbc=[True, True, False])
    with pytest.raises(ValueError, match="axis 1 is periodic but its cell vector is"):
        find_edges(state, 3.0)


def test_flat_cell_is_refused():
    cell = np.array([[4.0, 0, 0], [8.0, 0, 0], [0, 0, 4.0]])
    state = make_state([[0.0, 0, 0]], cell=cell, pbc=True)
    with pytest.raises(ValueError, match="volume"):
        find_edges(state, 3.0)


@pytest.mark.parametrize("n_atoms", [1, 2, 9, FEW_ATOMS, FEW_ATOMS + 1])
def test_few_atoms_are_compared_as_many_are_searched(n_atoms, monkeypatch):
    rng = np.random.default_rng(n_atoms)
    state = random_state(rng, n_atoms)
    compared = find_edges(state, 3.0)
    monkeypatch.setattr(neighbors, "FEW_ATOMS", 0)
    searched = find_edges(state, 3.0)
    for name in ("receivers", "senders", "vectors"):
        assert torch.equal(getattr(compared, name), getattr(searched, name))


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="unknown neighbor backend 'kdtree'"):
        find_edges(make_state([[0.0, 0, 0]]), 3.0, "kdtree")


def test_missing_torch_cluster_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_cluster", None)
    with pytest.raises(ImportError, match="trajcast-ase\\[torch-cluster\\]"):
        find_edges(make_state([[0.0, 0, 0]]), 3.0, "torch-cluster")
