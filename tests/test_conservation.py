"""Momentum and angular momentum after a forecast, against loops over atoms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import (
    TOLERANCES,
    join,
    make_state,
    normal,
    random_state,
    relative_error,
    triclinic_cell,
)
from hypothesis import given
from hypothesis import strategies as st

from trajcast_ase.conservation import (
    Conservation,
    RigidBodies,
    angular_momentum,
    com_velocity,
    conserve,
    conserve_with_bodies,
    mass_average,
)

HORIZON = 7.0
RULE = Conservation()
F64 = TOLERANCES[torch.float64]
DRIFT = (0.02, -0.01, 0.005)


def raw(state, seed=1):
    """Return an arbitrary forecast that conserves nothing."""
    return 0.1 * normal(state.n_atoms, 3, seed=seed), 0.02 * normal(
        state.n_atoms, 3, seed=seed + 1
    )


def conserved(state, rule=RULE, seed=1):
    displacements, velocities = conserve(state, *raw(state, seed), HORIZON, rule)
    return state.moved(state.positions + displacements, velocities)


def loop_momenta(state):
    """Return total and angular momentum of one system by a loop, with their scales."""
    masses = state.masses.tolist()
    positions, velocities = state.positions.numpy(), state.velocities.numpy()
    center = sum(m * r for m, r in zip(masses, positions, strict=True)) / sum(masses)
    drift = sum(m * v for m, v in zip(masses, velocities, strict=True)) / sum(masses)
    total, spin, scale, spin_scale = np.zeros(3), np.zeros(3), 0.0, 0.0
    for m, r, v in zip(masses, positions, velocities, strict=True):
        total += m * v
        spin += m * np.cross(r - center, v - drift)
        scale += m * np.linalg.norm(v)
        spin_scale += m * np.linalg.norm(r - center) * np.linalg.norm(v - drift)
    return total, spin, scale, spin_scale


def assert_conserved(before, after, *, angular):
    total, spin, _, _ = loop_momenta(before)
    new_total, new_spin, scale, spin_scale = loop_momenta(after)
    assert np.abs(new_total - total).max() <= F64["momentum"] * scale
    moved = mass_average(before, after.positions - before.positions)
    expected = com_velocity(before) * HORIZON
    size = float((after.positions - before.positions).abs().max())
    assert float((moved - expected).abs().max()) <= F64["momentum"] * size
    if angular:
        limit = F64["angular_momentum"] * max(spin_scale, np.abs(spin).max())
        assert np.abs(new_spin - spin).max() <= limit


@given(n_atoms=st.integers(3, 20), seed=st.integers(0, 2**32 - 1))
def test_molecule_keeps_both_momenta(n_atoms, seed):
    rng = np.random.default_rng(seed)
    state = random_state(rng, n_atoms, drift=rng.normal(size=3) * 0.02)
    assert_conserved(state, conserved(state, seed=seed % 1000), angular=True)


def test_isotopes_count():
    state = random_state(np.random.default_rng(2), 6, drift=DRIFT)
    heavy = replace(state, masses=state.masses * torch.tensor([1, 9, 1, 3, 1, 2.0]))
    assert_conserved(heavy, conserved(heavy), angular=True)


@pytest.mark.parametrize(
    "pbc", [[True] * 3, [True, False, False], [False, False, True]]
)
def test_periodic_system_keeps_linear_momentum_alone(pbc):
    rng = np.random.default_rng(3)
    cell = triclinic_cell([5.0, 6.0, 7.0], [80.0, 95.0, 100.0])
    state = random_state(rng, 8, cell=cell, pbc=pbc, drift=DRIFT)
    after = conserved(state)
    assert_conserved(state, after, angular=False)
    # Beyond the common shift, velocities are the network's.
    shift = after.velocities - raw(state)[1]
    assert float((shift - shift[0]).abs().max()) < 1e-15
    before_spin, after_spin = loop_momenta(state)[1], loop_momenta(after)[1]
    assert np.abs(before_spin - after_spin).max() > 1e-3


def test_cell_without_pbc_is_a_molecule():
    cell = 20.0 * np.eye(3)
    state = random_state(np.random.default_rng(4), 5, cell=cell, drift=DRIFT)
    assert_conserved(state, conserved(state), angular=True)


def test_displacements_do_not_depend_on_the_angular_rule():
    state = random_state(np.random.default_rng(5), 7)
    with_rule, without = conserved(state), conserved(state, Conservation(angular=False))
    assert torch.equal(with_rule.positions, without.positions)
    assert not torch.allclose(with_rule.velocities, without.velocities)


def test_correction_is_a_rigid_rotation():
    state = random_state(np.random.default_rng(6), 7)
    with_rule, without = conserved(state), conserved(state, Conservation(angular=False))
    change = with_rule.velocities - without.velocities
    positions = with_rule.positions
    # Rigid: the distance between two atoms changes at the same rate as before.
    rate = (positions[:, None] - positions) * (change[:, None] - change)
    assert float(rate.sum(2).abs().max()) < 1e-14


def test_single_atom_flies_straight():
    state = make_state([[1.0, 2.0, 3.0]], [DRIFT], [8])
    after = conserved(state)
    assert relative_error(after.velocities, state.velocities) < 1e-14
    expected = state.positions + HORIZON * state.velocities
    assert relative_error(after.positions, expected) < 1e-14


@pytest.mark.parametrize("axis", [[0, 0, 1.0], [1.0, 2.0, -0.5]])
@pytest.mark.parametrize("n_atoms", [2, 4])
def test_linear_molecule(n_atoms, axis):
    axis = np.array(axis) / np.linalg.norm(axis)
    rng = np.random.default_rng(n_atoms)
    positions = np.outer(1.1 * np.arange(n_atoms), axis)
    across = rng.normal(size=(n_atoms, 3)) * 0.01
    state = make_state(positions, across + DRIFT, [8, 6, 6, 1][:n_atoms])
    # The molecule stays exactly linear, so the inertia tensor is singular.
    stretch = torch.tensor(np.outer(rng.normal(size=n_atoms) * 0.05, axis))
    raw_velocities = 0.02 * normal(n_atoms, 3, seed=7)
    displacements, velocities = conserve(state, stretch, raw_velocities, HORIZON, RULE)
    after = state.moved(state.positions + displacements, velocities)
    assert bool(torch.isfinite(velocities).all())
    # A component along the axis that vanishes for both is all the axis can carry.
    assert_conserved(state, after, angular=True)
    assert float(velocities.abs().max()) < 1.0


def test_mixed_batch_equals_single_systems():
    rng = np.random.default_rng(8)
    cell = triclinic_cell([5.0, 6.0, 7.0], [80.0, 95.0, 100.0])
    states = [
        random_state(rng, 6, drift=DRIFT),
        random_state(rng, 4, cell=cell, pbc=True, drift=DRIFT),
        make_state([[0.0, 0, 0]], [DRIFT], [1]),
        make_state([[0.0, 0, 0], [0, 0, 1.2]], 0.01 * rng.normal(size=(2, 3)), [8, 6]),
    ]
    batch = join(states)
    displacements, velocities = raw(batch)
    together = conserve(batch, displacements, velocities, HORIZON, RULE)
    start = 0
    for state in states:
        rows = slice(start, start + state.n_atoms)
        alone = conserve(state, displacements[rows], velocities[rows], HORIZON, RULE)
        for one, other in zip(together, alone, strict=True):
            assert relative_error(one[rows], other) < F64["batch"]
        start = rows.stop


@pytest.mark.parametrize("fixed", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.1)])
def test_fixed_angular_momentum_is_imposed(fixed):
    state = random_state(np.random.default_rng(9), 8, drift=DRIFT)
    assert np.abs(loop_momenta(state)[1] - fixed).max() > 1e-2
    after = conserved(state, Conservation(fixed_angular=fixed))
    total, spin, scale, spin_scale = loop_momenta(after)
    assert np.abs(spin - fixed).max() <= F64["angular_momentum"] * spin_scale
    expected = loop_momenta(state)[0]
    assert np.abs(total - expected).max() <= F64["momentum"] * scale


def test_conserving_twice_changes_nothing():
    state = random_state(np.random.default_rng(10), 8, drift=DRIFT)
    once = conserve(state, *raw(state), HORIZON, RULE)
    twice = conserve(state, *once, HORIZON, RULE)
    for one, other in zip(once, twice, strict=True):
        assert relative_error(one, other) < 1e-13


def test_angular_momentum_and_averages_equal_loops():
    states = [
        random_state(np.random.default_rng(k), 4 + k, drift=DRIFT) for k in (1, 2)
    ]
    batch = join(states)
    for k, state in enumerate(states):
        total, spin, _, _ = loop_momenta(state)
        drift = torch.tensor(total) / state.masses.sum()
        assert relative_error(com_velocity(batch)[k], drift) < 1e-13
        assert relative_error(angular_momentum(batch)[k], torch.tensor(spin)) < 1e-12


def test_raw_forecast_is_left_alone():
    state = random_state(np.random.default_rng(11), 5)
    displacements, velocities = raw(state)
    before = displacements.clone(), velocities.clone()
    conserve(state, displacements, velocities, HORIZON, RULE)
    assert torch.equal(displacements, before[0])
    assert torch.equal(velocities, before[1])


def test_forecast_that_is_not_finite_raises_nothing_and_stays_so():
    state = random_state(np.random.default_rng(12), 5)
    displacements, velocities = raw(state)
    displacements[2, 1] = torch.nan
    _, velocities = conserve(state, displacements, velocities, HORIZON, RULE)
    assert not bool(torch.isfinite(velocities).all())


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_of_the_correction(symmetric):
    # Equal principal moments are where the derivative of a pseudo-inverse diverges.
    rng = np.random.default_rng(13)
    corners = [[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    state = make_state(corners, 0.01 * rng.normal(size=(4, 3)), [1] * 4)
    displacements, velocities = raw(state)
    if symmetric:
        displacements = torch.zeros_like(displacements)
    parts = [part.requires_grad_() for part in (displacements, velocities)]
    assert torch.autograd.gradcheck(
        lambda *forecast: conserve(state, *forecast, HORIZON, RULE), parts
    )


def batch_of_four():
    rng = np.random.default_rng(14)
    line = np.outer([0.0, 1.1, 2.3], [0.6, 0.8, 0.0])
    return join(
        [
            random_state(rng, 6, drift=DRIFT),
            make_state(line, 0.01 * rng.normal(size=(3, 3)) + DRIFT, [8, 6, 8]),
            make_state([[0.0, 0, 0]], [DRIFT], [1]),
            random_state(rng, 4, cell=6.0 * np.eye(3), pbc=[0, 1, 0], drift=DRIFT),
        ]
    )


def test_number_of_conserved_components():
    batch = batch_of_four()
    assert RigidBodies.of(batch, RULE).n_conserved.tolist() == [6, 5, 3, 3]
    assert (
        RigidBodies.of(batch, Conservation(angular=False)).n_conserved.tolist()
        == [3] * 4
    )


def test_rigid_motion_carries_the_momenta_and_the_rest_none():
    batch = batch_of_four()
    rigid = RigidBodies.of(batch, RULE).motion(batch.velocities)
    rest = batch.moved(batch.positions, batch.velocities - rigid)
    assert float(com_velocity(rest).abs().max()) < 1e-15
    spin = angular_momentum(rest)
    assert float(spin[:3].abs().max()) < 1e-13
    assert float(spin[3].abs().max()) > 1e-4
    product = batch.masses[:, None] * rigid * rest.velocities
    assert abs(float(product.sum())) < 1e-14


@pytest.mark.parametrize("rule", [RULE, Conservation(angular=False)])
def test_bodies_after_a_stride_are_those_of_its_positions_to_the_last_bit(rule):
    # Else a replica would notice that another is lost, whose bodies are made anew.
    batch = batch_of_four()
    displacements, velocities, bodies = conserve_with_bodies(
        batch, *raw(batch), HORIZON, rule
    )
    after = batch.moved(batch.positions + displacements, velocities)
    expected = RigidBodies.of(after, rule)
    assert torch.equal(bodies.n_conserved, expected.n_conserved)
    assert torch.equal(bodies.motion(velocities), expected.motion(velocities))
