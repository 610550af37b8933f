"""How soon a run forgets what its forces conserve: the friction of its bath."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from trajcast_ase.trajectory import Frames
from trajcast_ase.units import FS
from trajcast_ase.validation.bath_memory import bath_memory_fs, remark
from trajcast_ase.validation.observables import observe, pool
from trajcast_ase.validation.output import markdown
from trajcast_ase.validation.report import compare

from .conftest import PIECE_FS, drawn_frames

STEP_FS = 5.0


def frames_of(dynamics: MolecularDynamics, n_frames: int) -> Frames:
    """Return the frames of a run, one each step."""
    atoms = dynamics.atoms
    found = [
        (atoms.positions.copy(), atoms.get_velocities() * FS)
        for _ in dynamics.irun(n_frames - 1)
    ]
    positions, velocities = map(np.array, zip(*found, strict=True))
    return Frames(
        positions=positions,
        velocities=velocities,
        atomic_numbers=atoms.numbers,
        masses=atoms.get_masses(),
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        stride_fs=STEP_FS,
        source="MD",
    )


def copper(seed: int) -> MolecularDynamics:
    """Return a crystal that moves, and drifts."""
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(seed))
    return VelocityVerlet(atoms, STEP_FS * units.fs)


def test_langevin_friction_is_measured():
    start = copper(1).atoms
    run = Langevin(
        start,
        STEP_FS * units.fs,
        temperature_K=300,
        friction=1 / (60 * units.fs),
        fixcm=False,
        rng=np.random.default_rng(2),
    )
    found = bath_memory_fs(frames_of(run, 1500))
    assert found == pytest.approx(60.0, rel=0.4)
    assert "under a friction of" in remark("the reference", found)


def test_forces_forget_nothing():
    frames = frames_of(copper(1), 400)
    assert bath_memory_fs(frames) is None
    assert remark("the reference", None) == ""


def test_weak_baths_are_not_worth_a_remark():
    assert remark("the run", 2000.0) == ""


def test_a_total_that_is_held_hides_the_bath():
    frames = drawn_frames(bulk("Cu", cubic=True), 1)
    moving = np.average(frames.velocities, axis=1, weights=frames.masses)
    still = replace(frames, velocities=frames.velocities - moving[:, None])
    assert bath_memory_fs(frames) is not None
    assert bath_memory_fs(still) is None


def test_an_isolated_molecule_tells_by_its_rotation():
    frames = drawn_frames(molecule("CH4"), 1)
    moving = np.average(frames.velocities, axis=1, weights=frames.masses)
    still = replace(frames, velocities=frames.velocities - moving[:, None])
    assert bath_memory_fs(still) is not None


def test_the_report_names_the_side(methane):
    drawn = observe(drawn_frames(methane, 1), PIECE_FS)
    calm = replace(drawn, bath_memory_fs=None)
    text = markdown(compare(calm, drawn))
    assert "The reference forgets its total momentum" in text
    assert "The run forgets" not in text
    assert compare(calm, calm).baths == ""
    assert pool([calm, drawn]).bath_memory_fs == drawn.bath_memory_fs
