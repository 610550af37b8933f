"""MolecularCSVR in strides that stay on a device: canonical, exact, and refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from driver_helpers import crystal, snapshot
from fakes import NoTransfers, OneOrder, without_numbers
from helpers import join, small_model
from scipy.stats import chi2, kstest

from trajcast_ase.device.engine import Engine
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.kinetics import kinetic_energies, thermal_motion
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import state_from_atoms
from trajcast_ase.streams import Streams
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin
from trajcast_ase.thermostats.molecular import MolecularCSVR

HORIZON = 0.5
TAUT = 20 * units.fs
OF_CENTERS, WITHIN = 3, 12
N_SYSTEMS, N_LOOKS = 64, 12


def dimer(seed: int) -> Atoms:
    """Return two molecules of water in a box, whose centres are cold."""
    one, other = molecule("H2O"), molecule("H2O")
    other.translate([4.5, 4.5, 4.5])
    atoms = one + other
    atoms.set_cell([9.0] * 3)
    atoms.pbc = True
    draw_momenta(atoms, 300.0, np.random.default_rng(seed), small_model().conservation)
    momenta = atoms.get_momenta().reshape(2, 3, 3)
    masses = atoms.get_masses().reshape(2, 3, 1)
    centers = momenta.sum(axis=1, keepdims=True) / masses.sum(axis=1, keepdims=True)
    velocities = momenta / masses - 0.7 * centers
    atoms.set_velocities(velocities.reshape(6, 3))
    return atoms


def twice_energies(state):
    """Return 2 K / kT of centres and within, of each system."""
    motion = thermal_motion(state, small_model().conservation)
    rows = motion.state
    masses, velocities = rows.masses.view(-1, 3, 1), rows.velocities.view(-1, 3, 3)
    centers = (masses * velocities).sum(1, keepdim=True) / masses.sum(1, keepdim=True)
    spread = centers.expand(-1, 3, -1).reshape(-1, 3)
    parts = (spread, rows.velocities - spread)
    return [
        2 * kinetic_energies(rows.moved(rows.positions, one)) / (units.kB * 300.0)
        for one in parts
    ]


def sampled(kind, device):
    """Return 2 K / kT of both motions, with all memory lost between looks."""
    state = state_from_atoms([dimer(k) for k in range(N_SYSTEMS)], device)
    streams = Streams([np.random.default_rng(k) for k in range(N_SYSTEMS)])
    engine = Engine(Ballistic(HORIZON), [kind(300.0, 0.0, streams)], 0.5 * units.fs)
    engine.start(state)
    found = []
    for k in range(N_LOOKS):
        engine.advance(2, [2 * k] * N_SYSTEMS)
        found.append([one.cpu().numpy() for one in twice_energies(engine.now())])
        engine.hand_over()
        engine.start(engine.now())
    return np.array(found).transpose(1, 0, 2).reshape(2, -1)


@pytest.mark.statistical
def test_both_motions_are_canonical(device):
    """Chi-squared; a right one fails for one seed in 1e4, CSVR alone does fail."""
    for values, n_dof in zip(
        sampled(MolecularCSVR, device), (OF_CENTERS, WITHIN), strict=True
    ):
        assert kstest(values, chi2(n_dof).cdf).pvalue > 1e-4
        assert kstest(values, chi2(n_dof + 1).cdf).pvalue < 1e-4
    centers, within = sampled(MolecularCSVR, device)
    assert abs(np.corrcoef(centers, within)[0, 1]) < 4 / np.sqrt(centers.size)
    wrong, _ = sampled(CSVR, device)
    assert kstest(wrong, chi2(OF_CENTERS).cdf).pvalue < 1e-4


def test_a_stride_reads_and_copies_nothing():
    network = small_model("thermal").set_backend("reference")
    bath = MolecularCSVR(300.0, TAUT, np.random.default_rng(0))
    engine = Engine(network, [bath], network.horizon_fs * units.fs)
    engine.start(state_from_atoms([dimer(0)], network.device))
    stride, motion = without_numbers((engine._stride, engine._start))
    with torch.no_grad():
        stride(motion)
    with torch.no_grad(), NoTransfers(), OneOrder():
        after = stride(motion)
    assert after.now.shape == motion.now.shape


def test_a_system_does_not_see_its_batch(device):
    def velocities(states, seeds):
        streams = Streams([np.random.default_rng(seed) for seed in seeds])
        bath = MolecularCSVR(300.0, TAUT, streams)
        engine = Engine(Ballistic(HORIZON), [bath], HORIZON * units.fs)
        engine.start(join(states).to(device))
        engine.advance(5, [0] * len(states))
        engine.hand_over()
        return engine.now().velocities.split(6), bath.transferred_energy

    states = [state_from_atoms([dimer(k)]) for k in (1, 2)]
    both, given = velocities(states, (3, 4))
    for k, state in enumerate(states):
        (alone,), own = velocities([state], (3 + k,))
        assert torch.equal(both[k], alone)
        assert torch.equal(given[k : k + 1], own)


def run(atoms, device, **options):
    """Return a run with both baths of water."""
    rng = np.random.default_rng(5)
    baths = [Langevin(300.0, 0.1 / TAUT, rng), MolecularCSVR(300.0, TAUT, rng)]
    model = small_model("thermal", torch.float64).to(device)
    settings = {"thermostat": baths, "guards": (), "engine": "device"}
    return TrajCast(atoms, model, **settings, **options)


def test_restart_continues_bit_for_bit(device, tmp_path):
    whole = run(dimer(0), device)
    whole.run(20)
    first = run(dimer(0), device)
    first.run(9)
    first.checkpoint(tmp_path / "c")
    model = small_model("thermal", torch.float64).to(device)
    rng = np.random.default_rng(6)
    again = TrajCast.restart(
        tmp_path / "c",
        model,
        thermostat=[Langevin(300.0, 0.1 / TAUT, rng), MolecularCSVR(300.0, TAUT, rng)],
        guards=(),
        engine="device",
    )
    again.run(11)
    assert snapshot(again.atoms) == snapshot(whole.atoms)
    assert again.transferred_energy == whole.transferred_energy


def test_a_crystal_is_refused_as_on_the_host(device):
    model, atoms = crystal()
    bath = MolecularCSVR(300.0, TAUT, np.random.default_rng(0))
    settings = {"thermostat": bath, "guards": (), "engine": "device"}
    with pytest.raises(ValueError, match=r"MolecularCSVR .* use CSVR"):
        TrajCast(atoms, model.to(device), **settings).run(1)
