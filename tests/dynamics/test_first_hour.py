"""What users of ASE's dynamics try first: it works, or the error says what to write."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.md.logger import MDLogger
from helpers import small_model

from trajcast_ase import (
    CSVR,
    AdaptiveLangevin,
    Langevin,
    LinearRamp,
    Replicas,
    TrajCast,
)
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.random_thermostat import UnitsWarning


def water(seed=0):
    atoms = molecule("H2O")
    draw_momenta(atoms, 300.0, np.random.default_rng(seed), Ballistic(2.0).conservation)
    return atoms


@pytest.fixture
def atoms():
    return water()


@pytest.fixture
def model():
    return Ballistic(2.0)


def test_the_energies_of_ases_tutorial_get_a_hint(atoms, model):
    dynamics = TrajCast(atoms, model)
    seen = []

    def printenergy(a=atoms):  # of ASE's tutorial on molecular dynamics
        seen.append(a.get_potential_energy() / len(a))

    dynamics.attach(printenergy, interval=2)
    with pytest.raises(RuntimeError, match=r"take TrajCast\(logfile='-'\) in place"):
        dynamics.run(2)
    atoms.calc = LennardJones()
    TrajCast(atoms, model).run(2)
    dynamics.run(2)
    assert len(seen) == 2


def test_an_attached_logger_gets_the_same_hint(atoms, model):
    dynamics = TrajCast(atoms, model)
    dynamics.attach(MDLogger(dynamics, atoms, io.StringIO()), interval=2)
    with pytest.raises(RuntimeError, match="the Atoms have no calculator"):
        dynamics.run(2)


def test_errors_of_observers_stay_what_they_are(atoms, model):
    dynamics = TrajCast(atoms, model)

    def fails():
        raise RuntimeError("mine")

    dynamics.attach(fails)
    with pytest.raises(RuntimeError, match=r"^mine$"):
        dynamics.run(1)


def test_arguments_of_ases_dynamics_get_a_hint(atoms, model):
    step = 2.0 * units.fs
    assert TrajCast(atoms, model, step).dt == step
    for arguments, keywords, message in (
        ((step,), {}, r"model = 0\.19\d* is no model; the second argument"),
        ((model, 2 * step), {}, "one forecast of this model covers 2 fs"),
        ((model,), {"temperature_K": 300}, "'temperature_K'; it belongs to a thermo"),
        ((model,), {"friction": 0.01}, "it belongs to a thermostat"),
        ((model,), {"dt": step}, "the model's horizon: leave it out"),
        ((model,), {"taup": 1.0}, "there is no barostat"),
        ((model,), {"colour": 1}, "it passes comm and master to ASE"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            TrajCast(atoms, *arguments, **keywords)


def test_objects_show_themselves_on_one_line(atoms, model):
    rng = np.random.default_rng(0)
    csvr = CSVR(300, 70 * units.fs, rng)
    assert repr(csvr) == "CSVR(300 K, taut=70 fs)"
    langevin = Langevin(300, 1 / (2000 * units.fs), rng)
    assert repr(langevin) == "Langevin(300 K, friction=0.0005/fs)"
    adaptive = AdaptiveLangevin(300, 0.01 / units.fs, 1e3 * units.fs, rng)
    assert repr(adaptive) == "AdaptiveLangevin(300 K, friction=0.01/fs, taut=1000 fs)"
    assert "LinearRamp" in repr(CSVR(LinearRamp(1.0, 2.0, 3.0), 0.0, rng))
    dynamics = TrajCast(atoms, model, thermostat=[langevin, csvr])
    dynamics.run(3)
    assert repr(dynamics) == f"TrajCast(OH2, Ballistic, {langevin!r}, {csvr!r}, step 3)"
    replicas = Replicas([water(k) for k in range(4)], model)
    assert repr(replicas) == "Replicas(4 of TrajCast(OH2, Ballistic, step 0))"
    shown = repr(small_model())
    assert "\n" not in shown
    assert shown.startswith("Forecaster(unnamed: H C O, ")


def test_the_temperature_of_a_run_can_be_set(atoms, model):
    rng = np.random.default_rng(0)
    members = [Langevin(300, 0.1, rng), CSVR(300, 0.0, rng)]
    dynamics = TrajCast(atoms, model, thermostat=members)
    dynamics.set_temperature(temperature_K=600)
    assert [one.temperature_K for one in members] == [600, 600]
    kelvin = []
    dynamics.attach(lambda: kelvin.append(dynamics.get_temperature()))
    dynamics.run(400)
    # 3 degrees of freedom: a standard deviation of 490 K, of the mean 25 K.
    assert np.mean(kelvin) == pytest.approx(600, abs=130)
    members[1].set_temperature(300)
    with pytest.raises(ValueError, match="temperature_K = -1"):
        dynamics.set_temperature(-1)
    with pytest.raises(ValueError, match="no thermostat whose temperature could be"):
        TrajCast(atoms, model).set_temperature(300)


def test_progress_changes_nothing_and_leaves_nothing(model, monkeypatch):
    monkeypatch.setattr("trajcast_ase.progress.LINE_INTERVAL_S", 0.0)
    quiet, told = water(), water()
    TrajCast(quiet, model).run(10)
    dynamics = TrajCast(told, model)
    dynamics.run(4)
    n_observers = len(dynamics.observers)
    stream = io.StringIO()
    with redirect_stdout(stream):
        dynamics.run(6, progress=True)
    assert np.array_equal(quiet.positions, told.positions)
    assert len(dynamics.observers) == n_observers
    assert stream.getvalue().splitlines()[-1].startswith("6/6  0.0 of 0.0 ps  T ")


def test_progress_of_replicas_is_of_all(model, monkeypatch):
    monkeypatch.setattr("trajcast_ase.progress.LINE_INTERVAL_S", 0.0)
    stream = io.StringIO()
    with redirect_stdout(stream):
        Replicas([water(k) for k in range(3)], model).run(4, progress=True)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("4/4")
    assert last.endswith("in all")


def test_a_time_without_units_is_questioned():
    with pytest.warns(
        UnitsWarning, match=r"taut = 70 is 712\.6 fs.*taut=70 \* units\.fs"
    ):
        CSVR(300, 70)
    with pytest.warns(UnitsWarning):
        AdaptiveLangevin(300, 0.01, 1000)
    for taut in (0, 70 * units.fs, 0.5):
        CSVR(300, taut)
