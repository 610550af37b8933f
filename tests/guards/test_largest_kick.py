"""Forecasts that no thermal atom could make end a run."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from helpers import small_model

from trajcast_ase import CSVR, Replicas, TrajCast, load_model
from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.losses import LostReplicaWarning
from trajcast_ase.guards.motion import kicks
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import state_from_atoms

MODEL = "paracetamol-7fs"


def moving(atoms, seed=1):
    model = load_model(MODEL)
    draw_momenta(atoms, 300.0, np.random.default_rng(seed), model.conservation)
    return atoms


def pulled():
    """Return paracetamol with one C-C bond of 2.5 Å."""
    atoms = paracetamol()
    carbons = [i for i, symbol in enumerate(atoms.symbols) if symbol == "C"]
    pairs = [(i, j) for i in carbons for j in carbons if i < j]
    atoms.set_distance(*min(pairs, key=lambda p: atoms.get_distance(*p)), 2.5, fix=0)
    return atoms


@pytest.mark.filterwarnings(
    "ignore::trajcast_ase.dynamics.domain.OutsideTrainingWarning"
)
@pytest.mark.parametrize(
    "make", [pulled, lambda: molecule("NH3"), lambda: molecule("H2")]
)
def test_a_run_does_not_go_on_with_garbage(make):
    atoms, model = moving(make()), load_model(MODEL)
    rng = np.random.default_rng(2)
    dynamics = TrajCast(
        atoms, model, thermostat=model.recommended_thermostat(300.0, rng)
    )
    with pytest.raises(RuntimeError, match="is refused"):
        dynamics.run(400)
    assert np.abs(atoms.positions).max() < 20.0


@pytest.mark.filterwarnings(
    "ignore::trajcast_ase.dynamics.domain.OutsideTrainingWarning"
)
def test_the_error_names_atom_and_way_out():
    atoms = moving(pulled())
    dynamics = TrajCast(atoms, MODEL)
    before = atoms.positions.copy()
    with pytest.raises(
        RuntimeError,
        match=r"forecast of step 1 is refused: it kicks atom \d \(C\) by [\d.]+ times.*"
        r"limit is 10.*Atoms hold step 0.*guards= .*LargestKick",
    ):
        dynamics.run(5)
    assert np.array_equal(atoms.positions, before)
    free = TrajCast(atoms, MODEL, guards=())
    assert free.run(1)


def test_thermal_atoms_are_never_kicked_so():
    model, atoms = load_model(MODEL), moving(paracetamol(), seed=5)
    rng = np.random.default_rng(5)
    state = state_from_atoms(atoms)
    scales = model.thermal_speeds(state.atomic_numbers)
    largest = 0.0
    dynamics = TrajCast(atoms, model, thermostat=CSVR(300.0, 70 * units.fs, rng))
    for _ in range(60):
        before = state_from_atoms(atoms)
        dynamics.run(1)
        after = state_from_atoms(atoms)
        largest = max(largest, float(kicks(before, after, scales, 7.0).max()))
    assert 1.0 < largest < 6.0


def test_a_drift_is_no_kick():
    atoms = moving(paracetamol())
    atoms.set_velocities(atoms.get_velocities() + 5.0)
    assert TrajCast(atoms, MODEL).run(3)


def test_published_networks_know_one_speed():
    model = small_model("direction")
    speeds = model.thermal_speeds(torch.tensor([1, 8]))
    assert speeds.tolist() == pytest.approx(2 * [3**0.5 * model.config.velocity_rms])


def test_a_kicked_replica_is_lost_alone():
    alone = moving(paracetamol(), seed=3)
    starts = [moving(paracetamol(), seed=3), moving(pulled()), moving(paracetamol())]
    replicas = Replicas(starts, MODEL)
    with pytest.warns(LostReplicaWarning, match="replica 1"):
        replicas.run(20)
    assert [one.number for one in replicas.lost] == [1]
    TrajCast(alone, MODEL).run(20)
    np.testing.assert_allclose(starts[0].positions, alone.positions, atol=1e-4)
