"""One stride, with an analytic model and with the network."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from ase import Atoms, units
from helpers import TOLERANCES, join, random_state, relative_error
from numpy.testing import assert_allclose, assert_array_equal

from trajcast_ase.conservation import Conservation, com_velocity
from trajcast_ase.stride import Forecast, conserved_forecast, forecast, stride


@dataclass
class FreeFlight:
    """Exact forecast of atoms without forces, which records what it was shown."""

    horizon_fs: float = 5.0
    conservation: Conservation = Conservation()  # noqa: RUF009  frozen
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable
    seen: list = field(default_factory=list)

    def check_elements(self, atomic_numbers):
        if bool((atomic_numbers == 92).any()):
            raise ValueError("uranium")

    def raw_forecast(self, state):
        self.seen.append(state)
        return state.velocities * self.horizon_fs, state.velocities


def methane(seed=1, shift=0.0):
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    atoms = Atoms("CH4", corners * 0.63 + 0.02 * rng.normal(size=(5, 3)) + shift)
    atoms.set_momenta(rng.normal(size=(5, 3)) * 0.2)
    return atoms


def test_free_flight_is_exact():
    state = random_state(np.random.default_rng(1), 7, drift=(0.01, 0.0, -0.02))
    after = stride(FreeFlight(), state)
    expected = state.positions + 5.0 * state.velocities
    assert relative_error(after.positions, expected) < 1e-15
    # Straight flight keeps the angular momentum, so nothing is left to correct.
    assert relative_error(after.velocities, state.velocities) < 1e-13


def test_model_sees_each_system_at_rest():
    rng = np.random.default_rng(2)
    states = [random_state(rng, n, drift=rng.normal(size=3)) for n in (3, 5)]
    model = FreeFlight()
    stride(model, join(states))
    (seen,) = model.seen
    momentum = seen.velocities * seen.masses[:, None]
    assert float(com_velocity(seen).abs().max()) < 1e-15 * float(momentum.abs().sum())
    assert torch.equal(seen.positions, join(states).positions)


def test_stride_changes_positions_and_velocities_alone(model):
    state = random_state(np.random.default_rng(3), 7)
    copies = {name: getattr(state, name).clone() for name in state.__slots__}
    after = stride(model, state)
    displacements, velocities = conserved_forecast(model, state)
    assert torch.equal(after.positions, state.positions + displacements)
    assert torch.equal(after.velocities, velocities)
    for name, copy in copies.items():
        assert torch.equal(getattr(state, name), copy), name
        if name not in ("positions", "velocities"):
            assert getattr(after, name) is getattr(state, name)


def test_neighbors_are_searched_at_every_stride(thermal_model):
    # Two atoms out of reach feel nothing; moved together, they do.
    state = random_state(np.random.default_rng(4), 2)
    far = torch.tensor([[0.0, 0, 0], [50.0, 0, 0]]).double()
    near = torch.tensor([[0.0, 0, 0], [1.4, 0, 0]]).double()
    apart = stride(thermal_model, state.moved(far, state.velocities))
    together = stride(thermal_model, state.moved(near, state.velocities))
    again = stride(thermal_model, state.moved(far, state.velocities))
    assert torch.equal(apart.velocities, again.velocities)
    assert relative_error(together.velocities, apart.velocities) > 1e-3


def test_forecast_of_atoms_has_no_side_effects(thermal_model):
    atoms = methane()
    atoms.info["note"] = "kept"
    before = atoms.copy()
    result = forecast(thermal_model, atoms)
    assert isinstance(result, Forecast)
    assert atoms == before
    assert set(atoms.arrays) == set(before.arrays)
    assert atoms.info == before.info
    assert atoms.calc is None
    assert result.displacements.shape == result.velocities.shape == (5, 3)
    assert result.displacements.dtype == result.velocities.dtype == np.float64
    assert result.displacements.flags.writeable


def test_forecast_units():
    atoms = methane()
    result = forecast(FreeFlight(), atoms)
    flown = atoms.get_velocities() * (5.0 * units.fs)
    assert_allclose(result.displacements, flown, rtol=1e-12)
    assert_allclose(result.velocities, atoms.get_velocities() * units.fs, rtol=1e-12)


def test_forecast_of_a_list_equals_single_forecasts(thermal_model):
    systems = [methane(1), methane(2, shift=3.0), Atoms("O", [[0.0, 0, 0]])]
    together = forecast(thermal_model, systems)
    assert isinstance(together, list)
    for one, system in zip(together, systems, strict=True):
        alone = forecast(thermal_model, system)
        for name in ("displacements", "velocities"):
            actual, expected = getattr(one, name), getattr(alone, name)
            limit = TOLERANCES[torch.float64]["batch"] * np.abs(expected).max()
            assert_allclose(actual, expected, rtol=0, atol=limit)


def test_forecast_at_rest_needs_no_momenta(thermal_model):
    atoms = methane()
    del atoms.arrays["momenta"]
    result = forecast(thermal_model, atoms)
    assert np.isfinite(result.displacements).all()
    assert "momenta" not in atoms.arrays


def test_forecast_needs_no_gradients(thermal_model):
    model = thermal_model
    model.requires_grad_(requires_grad=True)
    try:
        result = forecast(model, methane())
    finally:
        model.requires_grad_(requires_grad=False)
    assert_array_equal(result.velocities, forecast(model, methane()).velocities)


def test_forecast_refuses_bad_input(thermal_model):
    with pytest.raises(ValueError, match="element U"):
        forecast(thermal_model, Atoms("HU", np.eye(3)[:2]))
    with pytest.raises(ValueError, match="empty"):
        forecast(thermal_model, Atoms())
    atoms = methane()
    atoms.positions[2, 1] = np.nan
    with pytest.raises(ValueError, match="positions of row 2"):
        forecast(thermal_model, atoms)


def test_forecast_refuses_atoms_at_one_place(thermal_model):
    atoms = methane(shift=3.0)
    atoms.positions[3] = atoms.positions[1] + [0.0, 0.02, 0.0]
    text = r"atoms 1 \(H\) and 3 \(H\) are 0\.02 Å apart, the least .* separate them"
    with pytest.raises(ValueError, match=text):
        forecast(thermal_model, atoms)
    with pytest.raises(ValueError, match=r"1 \(H\) and 3 \(H\) of system 1 are 0\.02"):
        forecast(thermal_model, [methane(), atoms])
    image = Atoms("O", cell=[0.05, 9, 9], pbc=True)
    with pytest.raises(ValueError, match=r"atoms 0 \(O\) and 0 \(O\) are 0\.05 Å"):
        forecast(FreeFlight(), image)


def test_arguments_in_the_wrong_order_are_told(thermal_model):
    text = r"model = Atoms\(.* is no model; the first argument of forecast is one, such"
    with pytest.raises(TypeError, match=text):
        forecast(methane(), thermal_model)
    with pytest.raises(TypeError, match=r"'paracetamol-7fs' is no model; the first"):
        forecast("paracetamol-7fs", methane())
