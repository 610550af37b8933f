"""FixAtoms and FixCom in strides on a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.constraints import FixAtoms, FixCom
from device_helpers import KINDS, baths, kicks
from driver_helpers import HORIZON, crystal, snapshot, water
from helpers import join, random_state, small_model

from trajcast_ase.constraints import Constraints
from trajcast_ase.device.engine import Engine
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.replicas import Replicas
from trajcast_ase.kinetics import thermal_motion
from trajcast_ase.streams import Streams
from trajcast_ase.testing import Ballistic
from trajcast_ase.units import KB

pytestmark = pytest.mark.filterwarnings("ignore:.*atoms are fixed")
HELD = {
    "atoms": [FixAtoms([0, 3])],
    "centre": [FixCom()],
    "both": [FixAtoms([1]), FixCom()],
}


def held(atoms, kind):
    """Return a copy of the atoms, in motion and with constraints of a kind."""
    atoms = atoms.copy()
    atoms.set_momenta(atoms.get_momenta() + 0.2)
    atoms.set_constraint(HELD[kind])
    return atoms


def on_device(kind, **settings):
    """Return a crystal with constraints whose strides stay on the device."""
    model, atoms = crystal()
    given = {"guards": (), "engine": "device"} | settings
    return TrajCast(held(atoms, kind), model, **given)


@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("pbc", [False, True])
def test_strides_are_those_of_the_host(kind, pbc):
    model = small_model("thermal", torch.float64)
    atoms = water() + water(1)
    atoms.positions[3:] += [0.3, 0.2, 3.1]
    atoms.set_cell([8.0] * 3)
    atoms.pbc = pbc
    ours, theirs = held(atoms, kind), held(atoms, kind)
    TrajCast(ours, model, guards=(), engine="device").run(6)
    TrajCast(theirs, model, guards=()).run(6)
    assert np.abs(ours.positions - atoms.positions).max() > 0.02
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ours.get_momenta(), theirs.get_momenta(), atol=1e-11)


@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("bath", KINDS)
def test_whole_interrupted_and_restarted_runs_are_one(kind, bath, tmp_path):
    whole = on_device(kind, thermostat=baths(bath))
    start = whole.atoms.copy()
    whole.run(16)
    parts = on_device(kind, thermostat=baths(bath))
    for _ in range(3):
        parts.run(1)
    parts.run(4)
    parts.checkpoint(tmp_path / "run.checkpoint")
    again = TrajCast.restart(
        tmp_path / "run.checkpoint",
        parts.model,
        thermostat=baths(bath, rng=np.random.default_rng(99)),
        guards=(),
        engine="device",
    )
    for one in (parts, again):
        one.run(9)
        assert snapshot(one.atoms) == snapshot(whole.atoms)
    atoms = whole.atoms
    assert np.abs(atoms.positions - start.positions).max() > 0.02
    if kind == "atoms":
        assert np.array_equal(atoms.positions[[0, 3]], start.positions[[0, 3]])
        assert not atoms.get_momenta()[[0, 3]].any()
    else:
        center = start.get_center_of_mass()
        np.testing.assert_allclose(atoms.get_center_of_mass(), center, atol=1e-12)
        np.testing.assert_allclose(atoms.get_momenta().sum(0), 0.0, atol=1e-10)


def test_constraints_may_come_and_go_between_strides():
    dyn = on_device("atoms")
    model, atoms = crystal()
    host = TrajCast(held(atoms, "atoms"), model, guards=())
    for run in (dyn, host):
        run.run(3)
        run.atoms.set_constraint()
        run.atoms.set_momenta(np.roll(run.atoms.get_momenta(), 1, axis=0))
        run.run(3)
        run.atoms.set_constraint(FixAtoms([5]))
        run.run(2)
    moved = np.abs(dyn.atoms.positions - atoms.positions).max(axis=1)
    assert (moved[[0, 3]] > 1e-3).all()
    np.testing.assert_allclose(
        dyn.atoms.positions, host.atoms.positions, rtol=0, atol=1e-11
    )


def test_replicas_with_other_constraints_are_the_same_alone():
    starts = [water(seed) for seed in range(3)]
    starts[0].set_constraint(FixAtoms([0]))
    starts[2].set_constraint(FixCom())

    def make(which, first):
        return Replicas(
            [starts[k].copy() for k in which],
            Ballistic(HORIZON),
            thermostat=lambda rng: baths("both", rng=rng),
            noise=kicks,
            first_replica=first,
            guards=(),
            engine="device",
        )

    batch = make(range(3), 0)
    batch.run(12)
    for k in range(3):
        alone = make([k], k)
        alone.run(12)
        assert snapshot(alone[0].atoms) == snapshot(batch[k].atoms)
    assert np.array_equal(batch[0].atoms.positions[0], starts[0].positions[0])
    assert not np.array_equal(batch[1].atoms.positions[0], starts[1].positions[0])


def test_a_system_without_thermal_motion_is_refused():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[9] * 3, pbc=True)
    atoms.set_momenta([[0.1, 0, 0], [0, 0.2, 0]])
    atoms.set_constraint(FixAtoms([0, 1]))
    settings = {"thermostat": baths("langevin"), "guards": (), "engine": "device"}
    dyn = TrajCast(atoms, Ballistic(HORIZON), **settings)
    with pytest.raises(ValueError, match="have 0 degrees of freedom"):
        dyn.run(1)


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["csvr", "langevin"])
def test_free_atoms_beside_fixed_ones_have_their_temperature(kind, device):
    """Mean of 2 K / kT of 64 systems at four times: within 4.5 errors, once in 1e5.

    With the 6 degrees of freedom more or 3 less than right it is off by 8 errors.
    """
    rng = np.random.default_rng(4)
    n_systems, n_fixed = 64, 2
    one = random_state(rng, 8, cell=9 * np.eye(3), pbc=True)
    state = join([one] * n_systems).to(device)
    free = torch.ones(8, dtype=torch.bool)
    free[:n_fixed] = False
    constraints = Constraints(free=free.repeat(n_systems).to(device))
    streams = Streams([np.random.default_rng(k) for k in range(n_systems)])
    engine = Engine(Ballistic(7.0), [baths(kind, rng=streams)], 7.0)
    found = []
    for _ in range(6):
        engine.start(state, constraints=constraints)
        engine.advance(50, [0] * n_systems)
        engine.hand_over()
        state = engine.now()
        motion = thermal_motion(state, Ballistic().conservation, constraints)
        assert motion.n_dof.unique().tolist() == [3 * (8 - n_fixed)]
        found.append(2 * motion.kinetic_energies.cpu().numpy() / (KB * 300.0))
    n_dof, values = 3 * (8 - n_fixed), np.array(found[2:])
    error = np.sqrt(2 * n_dof / values.size)
    assert abs(values.mean() - n_dof) < 4.5 * error
