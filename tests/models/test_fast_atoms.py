"""One atom far faster than any of the training data, in the bundled models."""

import dataclasses

import numpy as np
import pytest
import torch
from ase import units
from helpers import BUNDLED

from trajcast_ase import TrajCast, load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster


def largest_speed(model, atoms):
    """Return the largest speed after a stride, in rms speeds of the elements."""
    TrajCast(atoms, model, thermostat=None, guards=[]).run(1)
    speeds = np.linalg.norm(atoms.get_velocities(), axis=1) * units.fs
    return (speeds / model.thermal_speeds(torch.as_tensor(atoms.numbers)).numpy()).max()


def with_a_fast_atom(model, number, multiple):
    atoms = BUNDLED[model.name]()
    draw_momenta(atoms, 300.0, np.random.default_rng(1), model.conservation)
    velocities = atoms.get_velocities()
    atom = int(np.flatnonzero(atoms.numbers == number)[0])
    scale = model.velocity_scales[model.config.elements.index(number)].item() / units.fs
    velocities[atom] *= multiple * scale / np.linalg.norm(velocities[atom])
    atoms.set_velocities(velocities)
    return atoms


@pytest.mark.parametrize("name", BUNDLED)
def test_it_passes_on_at_most_its_own_speed(name):
    model = load_model(name)
    for number in model.config.elements:
        atoms = with_a_fast_atom(model, number, 5.0)
        assert largest_speed(model, atoms) < 5.5


def test_without_the_limits_it_blows_up():
    model = load_model("paracetamol-7fs")
    unlimited = Forecaster(dataclasses.replace(model.config, largest_speeds=()))
    unlimited.load_state_dict(model.state_dict())
    carbon = with_a_fast_atom(model, 6, 5.0)
    assert not largest_speed(unlimited, carbon) < 1e4
