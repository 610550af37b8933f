import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from helpers import BUNDLED

from trajcast_ase import CSVR, TrajCast, load_model
from trajcast_ase.data import water
from trajcast_ase.dynamics.domain import (
    OutsideTrainingWarning,
    density,
    warn_outside_training,
)
from trajcast_ase.models.model_header import read_header
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.momenta import draw_momenta


@pytest.fixture(scope="module")
def header():
    found = read_header(find_model("water-5fs"))
    known = {"densities_g_cm3": [0.99, 1.01], "atoms": [96, 192]}
    return replace(found, training=found.training | known)


def heavy():
    atoms = water()
    masses = atoms.get_masses()
    masses[atoms.numbers == 1] = 2.014
    atoms.set_masses(masses)
    return atoms


def squeezed():
    atoms = water()
    atoms.set_cell(0.9 * atoms.cell, scale_atoms=True)
    return atoms


def opened(axes):
    atoms = water()
    atoms.pbc = [name not in axes for name in "abc"]
    return atoms


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (heavy, r"H of 2\.014 amu \(\d+ of \d+\) instead of 1\.008"),
        (lambda: molecule("H2O"), "an isolated system, where the training data were a"),
        (
            lambda: opened("c"),
            "open along axis c, where the training data were a periodic system",
        ),
        (lambda: opened("ab"), "open along axes a and b, where the training data"),
        (squeezed, r"1\.3\d g/cm³ instead of 0\.99 to 1\.01"),
        (
            lambda: water() * (2, 1, 1),
            "a cell of 384 atoms has longer waves than those",
        ),
    ],
)
def test_what_a_model_has_not_seen_is_said(header, make, said):
    with pytest.warns(OutsideTrainingWarning, match=said):
        warn_outside_training(make(), header, ())


def test_open_axes_are_those_of_the_data_where_the_header_tells(header):
    training = header.training | {"densities_g_cm3": [], "neighbors": [1, 99]}
    of_surfaces = replace(header, training=training)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_outside_training(opened("c"), of_surfaces, ())
    with pytest.warns(OutsideTrainingWarning, match="a system periodic along all axes"):
        warn_outside_training(water(), of_surfaces, ())
    silent = replace(header, training={})
    with pytest.warns(OutsideTrainingWarning, match="open along axis c"):
        warn_outside_training(opened("c"), silent, ())


def test_a_thermostat_beyond_the_data_is_said(header):
    rng = np.random.default_rng(1)
    with pytest.warns(OutsideTrainingWarning, match=r"400 K instead of 294 to 305 K"):
        warn_outside_training(water(), header, [CSVR(400.0, 50 * units.fs, rng)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_outside_training(water(), header, [CSVR(lambda _: 900.0, 1.0, rng)])


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_systems_are_what_the_models_know(name):
    model, atoms = load_model(name), BUNDLED[name]()
    rng = np.random.default_rng(1)
    draw_momenta(atoms, 300.0, rng, model.conservation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TrajCast(atoms, model, thermostat=model.recommended_thermostat(300.0, rng))


def test_the_driver_warns_once():
    atoms, model = heavy(), load_model("water-5fs")
    draw_momenta(atoms, 300.0, np.random.default_rng(1), model.conservation)
    with pytest.warns(OutsideTrainingWarning, match=r"water-5fs was not trained"):
        dynamics = TrajCast(atoms, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dynamics.run(1)


def test_density_of_water():
    assert density(water()) == pytest.approx(1.0, abs=0.02)


def test_water_with_a_vacuum_beside_it_is_not_what_it_was_trained_on():
    """As many interfaces are set up: the density tells."""
    atoms = water()
    atoms.cell[2] *= 2.2
    with pytest.warns(OutsideTrainingWarning, match=r"0\.45\d? g/cm³ instead of 1"):
        warn_outside_training(atoms, read_header(find_model("water-5fs")), ())
