"""The analytic forecasters and the assertions for plug-in authors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.verlet import VelocityVerlet
from driver_helpers import HORIZON, STRIDE, crystal, draw_momenta, water

from trajcast_ase.conservation import mass_average
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.state import ase_momenta, state_from_atoms
from trajcast_ase.stride import stride
from trajcast_ase.testing import (
    Ballistic,
    HarmonicCrystal,
    Shrinker,
    assert_equivariant,
    assert_momentum_conserved,
)


class Springs(Calculator):
    """The harmonic crystal as pair forces, for ASE's VelocityVerlet."""

    implemented_properties = ("energy", "forces")

    def __init__(self, reference, spring, spacing):
        super().__init__()
        self.reference, self.spring, self.spacing = reference.copy(), spring, spacing

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        u = self.atoms.positions - self.reference.positions
        forces, energy = np.zeros_like(u), 0.0
        vectors = self.reference.get_all_distances(mic=True)
        n_images = 2 if np.isclose(self.reference.cell[0, 0], 2 * self.spacing) else 1
        for i, j in np.argwhere(np.isclose(vectors, self.spacing)):
            forces[i] += n_images * self.spring * (u[j] - u[i])
            energy += 0.25 * n_images * self.spring * ((u[j] - u[i]) ** 2).sum()
        self.results = {"energy": energy, "forces": forces}


@pytest.mark.parametrize("n_side", [2, 3])
def test_harmonic_crystal_is_the_limit_of_velocity_verlet(n_side):
    model, atoms = crystal(n_side)
    twin = atoms.copy()
    twin.calc = Springs(model_reference(model, atoms), 1.0, 3.0)
    TrajCast(atoms, model).run(2)
    errors = []
    for refinement in (20, 40):
        fine = twin.copy()
        fine.calc = Springs(model_reference(model, atoms), 1.0, 3.0)
        VelocityVerlet(fine, STRIDE / refinement).run(2 * refinement)
        errors.append(np.abs(fine.positions - atoms.positions).max())
    assert errors[1] < 1e-5
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # second order
    assert model.potential_energy(atoms) == pytest.approx(
        fine.get_potential_energy(), rel=1e-3
    )


def model_reference(model, atoms):
    reference = atoms.copy()
    reference.positions = model.reference.numpy()
    return reference


def test_harmonic_crystal_is_reversible_and_symplectic():
    model, atoms = crystal()
    state = state_from_atoms(atoms)
    there = stride(model, state)
    back = stride(model, there.moved(there.positions, -there.velocities))
    torch.testing.assert_close(back.positions, state.positions, rtol=0, atol=1e-13)
    torch.testing.assert_close(back.velocities, -state.velocities, rtol=0, atol=1e-14)
    # The same one-form product p . dr for every pair of tangent vectors.
    rng = np.random.default_rng(0)
    tangents = [
        state.moved(
            state.positions + torch.from_numpy(rng.normal(size=(8, 3))),
            state.velocities + torch.from_numpy(rng.normal(size=(8, 3))),
        )
        for _ in range(2)
    ]
    before = two_form(state, *tangents)
    after = two_form(there, *(stride(model, t) for t in tangents))
    assert after == pytest.approx(before, rel=1e-12)


def two_form(origin, a, b):
    """Return the symplectic area of two differences of states."""
    dr = [t.positions - origin.positions for t in (a, b)]
    dp = [ase_momenta(t) - ase_momenta(origin) for t in (a, b)]
    return float((dr[0] * dp[1] - dr[1] * dp[0]).sum())


def test_halving_the_horizon_and_striding_twice_is_the_same():
    model, atoms = crystal()
    half = replace(model, horizon_fs=HORIZON / 2)
    state = state_from_atoms(atoms)
    once, twice = stride(model, state), stride(half, stride(half, state))
    torch.testing.assert_close(twice.positions, once.positions, rtol=0, atol=1e-13)
    torch.testing.assert_close(twice.velocities, once.velocities, rtol=0, atol=1e-15)


def test_hessians_that_no_forecast_can_follow_are_refused():
    atoms = Atoms("Ar2", [[0, 0, 0], [3, 0, 0]])
    with pytest.raises(ValueError, match="translation has a force"):
        HarmonicCrystal.from_hessian(atoms, np.eye(6))
    saddle = -np.kron([[1, -1], [-1, 1]], np.eye(3))
    with pytest.raises(ValueError, match="negative curvature"):
        HarmonicCrystal.from_hessian(atoms, saddle)
    model, _ = crystal()
    with pytest.raises(ValueError, match="2 atoms, but this crystal has 8"):
        TrajCast(draw_momenta(atoms, np.random.default_rng(0)), model)


def test_ballistic_and_shrinker():
    state = state_from_atoms(water())
    free = stride(Ballistic(HORIZON), state)
    torch.testing.assert_close(free.velocities, state.velocities)
    expected = state.positions + HORIZON * state.velocities
    torch.testing.assert_close(free.positions, expected)
    shrunk = stride(Shrinker(HORIZON, factor=0.5), state)
    torch.testing.assert_close(shrunk.velocities, 0.5 * state.velocities)
    for model in (Ballistic(), Shrinker(), crystal()[0]):
        assert model.to("cpu").device == torch.device("cpu")


def test_assertions_accept_good_models(thermal_model):
    rng = np.random.default_rng(4)
    atoms = water()
    atoms.set_velocities(atoms.get_velocities() + 0.1)
    for model in (Ballistic(HORIZON), thermal_model):
        assert_momentum_conserved(model, atoms)
        assert_equivariant(model, atoms, rng)
    model, solid = crystal()
    assert_momentum_conserved(model, solid)


class Leaning(Ballistic):
    """Pushes along x; conservation hides it from the total momentum only."""

    __slots__ = ()

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        push = torch.zeros_like(velocities)
        push[:, 0] = 1e-3 * state.atomic_numbers
        return displacements + push, velocities


class Ordered(Ballistic):
    """Treats the first atom specially."""

    __slots__ = ()

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        weights = torch.linspace(1, 1.001, state.n_atoms, dtype=torch.float64)
        return displacements * weights[:, None], velocities


class Anchored(Ballistic):
    """Depends on absolute positions."""

    __slots__ = ()

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        scale = 1 + 1e-3 * state.positions.norm(dim=1)
        return displacements * scale[:, None], velocities


class Twisting(Ballistic):
    """Adds a rotation about the center of mass."""

    __slots__ = ()

    def raw_forecast(self, state):
        displacements, velocities = super().raw_forecast(state)
        arms = state.positions - mass_average(state, state.positions)
        axis = torch.tensor([[0.0, 0.0, 1e-3]], dtype=torch.float64)
        return displacements, velocities + torch.linalg.cross(axis, arms)


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Leaning(HORIZON), "displacements under orthogonal map"),
        (Ordered(HORIZON), "displacements under permutation"),
        (Anchored(HORIZON), "displacements under translation"),
    ],
)
def test_equivariance_assertion_finds_wrong_models(model, match):
    with pytest.raises(AssertionError, match=match):
        assert_equivariant(model, water(), np.random.default_rng(4))


def test_momentum_assertion_finds_wrong_models(monkeypatch):
    atoms = water()

    def unconserved(model, state):
        displacements, velocities = model.raw_forecast(state)
        return state.moved(state.positions + displacements, velocities)

    monkeypatch.setattr("trajcast_ase.testing.stride", unconserved)
    with pytest.raises(AssertionError, match="angular momentum"):
        assert_momentum_conserved(Twisting(HORIZON), atoms)
    atoms.set_velocities(atoms.get_velocities() + 0.1 * units.fs)
    with pytest.raises(AssertionError, match="total momentum"):
        assert_momentum_conserved(Shrinker(HORIZON), atoms)
