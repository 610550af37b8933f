"""Strides on a device with layers in Triton: what a GPU is to run, interpreted."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from helpers import small_model

from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin

pytestmark = pytest.mark.usefixtures("interpreter")


def run(backend):
    """Return water after two strides under two thermostats."""
    model = small_model("thermal", torch.float32, n_layers=1).set_backend(backend)
    atoms, rng = molecule("H2O"), np.random.default_rng(1)
    draw_momenta(atoms, 300.0, rng, model.conservation)
    baths = [
        Langevin(300.0, 0.002 / units.fs, rng),
        CSVR(300.0, 70 * units.fs, rng),
    ]
    TrajCast(atoms, model, thermostat=baths, engine="device").run(2)
    return atoms


def test_layers_in_triton_serve_strides_on_a_device():
    ours, wanted = run("triton"), run("reference")
    np.testing.assert_allclose(ours.positions, wanted.positions, atol=1e-6)
    np.testing.assert_allclose(
        ours.get_velocities(), wanted.get_velocities(), rtol=1e-4, atol=1e-7
    )
    assert np.array_equal(run("triton").positions, ours.positions)
