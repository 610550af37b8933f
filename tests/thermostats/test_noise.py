"""Calibrated noise: its covariance, its place before conservation, its errors."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from driver_helpers import water
from helpers import small_model

from trajcast_ase import ForecastNoise, TrajCast, save_model
from trajcast_ase.conservation import com_velocity
from trajcast_ase.models.model_header import ModelCard
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.stride import stride
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.noise import NoisyModel, ResidualCovariance

HYDROGEN = ResidualCovariance(4e-4, 6e-5, 1.6e-5)
OXYGEN = ResidualCovariance(1e-4, -1e-5, 4e-6)
STRIDE = 5.0


def noise(seed: int = 0) -> ForecastNoise:
    return ForecastNoise({"H": HYDROGEN, "O": OXYGEN}, np.random.default_rng(seed))


def atoms_of(numbers: list[int]) -> State:
    return state_from_atoms(Atoms(numbers, np.zeros((len(numbers), 3))))


def test_draws_have_the_covariance_of_their_element():
    numbers = torch.tensor([1, 8]).repeat(100_000)
    moved, kicked = noise().draw(atoms_of(numbers.tolist()))
    assert moved.dtype == torch.float64
    for z, wanted in ((1, HYDROGEN), (8, OXYGEN)):
        pair = torch.stack([moved[numbers == z].ravel(), kicked[numbers == z].ravel()])
        found = torch.cov(pair)
        # 300 000 draws: relative errors of 0.4 %.
        assert found[0, 0] == pytest.approx(wanted.displacement, rel=0.02)
        assert found[1, 1] == pytest.approx(wanted.velocity, rel=0.02)
        assert found[0, 1] == pytest.approx(wanted.cross, rel=0.05)
        between_axes = torch.corrcoef(moved[numbers == z].T)[0, 1]
        assert abs(between_axes) < 0.02


def test_one_component_may_be_free_of_noise():
    only_kicks = ResidualCovariance(0.0, 0.0, 1e-6)
    source = ForecastNoise({"O": only_kicks}, np.random.default_rng(1))
    moved, kicked = source.draw(atoms_of([8] * 1000))
    assert not moved.any()
    assert kicked.std() == pytest.approx(1e-3, rel=0.1)


def test_momentum_and_angular_momentum_are_conserved():
    model = NoisyModel(Ballistic(STRIDE), noise())
    state = state_from_atoms(water())
    after = stride(model, state)
    assert not torch.equal(after.velocities, stride(model.model, state).velocities)
    torch.testing.assert_close(
        com_velocity(after), com_velocity(state), rtol=0, atol=1e-14
    )


def test_runs_are_given_by_the_seed():
    def end(seed: int) -> np.ndarray:
        atoms = water()
        TrajCast(atoms, Ballistic(STRIDE), noise=noise(seed)).run(20)
        return atoms.get_positions()

    np.testing.assert_array_equal(end(3), end(3))
    assert not np.array_equal(end(3), end(4))
    atoms = water()
    dynamics = TrajCast(atoms, Ballistic(STRIDE), noise=noise(3))
    for _ in range(20):
        dynamics.run(1)
    np.testing.assert_array_equal(atoms.get_positions(), end(3))


def test_free_particles_heat_at_the_rate_of_the_noise():
    atoms = Atoms("O200", np.random.default_rng(0).normal(0.0, 50.0, (200, 3)))
    atoms.set_velocities(np.random.default_rng(1).normal(0.0, 1e-3, (200, 3)))
    before = atoms.get_velocities() * units.fs
    TrajCast(atoms, Ballistic(STRIDE), noise=noise()).run(25)
    gained = (atoms.get_velocities() * units.fs - before).var()
    assert gained == pytest.approx(25 * OXYGEN.velocity, rel=0.2)


def test_settings_stand_in_the_trajectory_header():
    dynamics = TrajCast(water(), Ballistic(STRIDE), noise=noise())
    assert dynamics.todict()["noise"]["H"]["cross"] == 6e-5
    assert "noise" not in TrajCast(water(), Ballistic(STRIDE)).todict()


def test_noise_comes_from_the_model_file(tmp_path):
    path = tmp_path / "one.trajcast"
    covariances = {"H": {"displacement": 4e-4, "cross": 6e-5, "velocity": 1.6e-5}}
    model = small_model()
    save_model(model, path, metadata=ModelCard(errors={"covariances": covariances}))
    assert ForecastNoise.of_model(path).covariances == {"H": HYDROGEN}
    with pytest.raises(ValueError, match="no covariance for O, only for H"):
        TrajCast(water(), Ballistic(STRIDE), noise=ForecastNoise.of_model(path))
    save_model(model, path)
    with pytest.raises(ValueError, match="carries no residual covariances"):
        ForecastNoise.of_model(path)


@pytest.mark.parametrize(
    "values", [(1.0, 2.0, 1.0), (-1.0, 0.0, 1.0), (1.0, 0.0, float("nan"))]
)
def test_impossible_covariances_are_refused(values):
    with pytest.raises(ValueError, match="is no covariance"):
        ForecastNoise({"H": ResidualCovariance(*values)})


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="is no ForecastNoise"):
        TrajCast(water(), Ballistic(STRIDE), noise=True)
