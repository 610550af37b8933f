"""Observables of runs whose statistics are known."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from trajcast_ase.analysis.temperature import temperature
from trajcast_ase.kinetics import run_temperature, thermal_velocities
from trajcast_ase.validation.conditions import NotComparableError
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.observables import observe, pool
from trajcast_ase.validation.quantities import LAG_SHARE
from trajcast_ase.validation.report import compare

from .conftest import PIECE_FS, STRIDE_FS, drawn_frames


def test_temperature_of_maxwell_velocities(methane):
    found = observe(drawn_frames(methane, 1), PIECE_FS)
    # Drift and rotation have no temperature, whether somebody stopped them or not.
    pieces = found.scalars["temperature"].pieces
    error = pieces.std(ddof=1) / np.sqrt(len(pieces))
    assert abs(pieces.mean() - 300) < 5 * error
    assert (found.n_dof, found.n_pieces, found.conditions.formula) == (9, 10, "CH4")


def test_a_slow_bath_does_not_narrow_the_spread_of_the_temperature(methane):
    """Half of the variance drifts for as long as a piece; the ensemble is the same."""
    frames, rng, found = drawn_frames(methane, 1), np.random.default_rng(8), []
    frames = replace(frames, velocities=thermal_velocities(frames))
    n = frames.n_frames
    for _ in range(40):
        slow = np.repeat(rng.normal(size=10), n // 10)
        kelvin = 300.0 + 20.0 * slow + 20.0 * rng.normal(size=n)
        speeds = np.sqrt(kelvin / temperature(frames.velocities, frames.masses, 9))
        drifting = replace(frames, velocities=frames.velocities * speeds[:, None, None])
        spread = observe(drifting, PIECE_FS).scalars["sd of temperature"].pieces
        assert spread.mean() == pytest.approx(kelvin.std(), rel=1e-6)
        found.append((spread.mean(), spread.std(ddof=1) / np.sqrt(len(spread))))
    means, errors = np.transpose(found)
    # Ten drifts in a run, whose own mean is subtracted: a tenth of their variance less.
    assert means.mean() == pytest.approx(
        20.0 * np.sqrt(1.9), rel=0.06
    )  # within pieces 20
    assert errors.mean() == pytest.approx(means.std(ddof=1), rel=0.3)


def test_spread_of_bonds(methane):
    found = observe(drawn_frames(methane, 2), PIECE_FS)
    bond = methane.get_distance(0, 1)
    # Two ends with 0.02 Å along the bond, and the transverse parts in second order.
    assert found.scalars["sd of bond C-H"].pieces.mean() == pytest.approx(
        0.02 * np.sqrt(2), rel=0.02
    )
    assert found.scalars["bond C-H"].pieces.mean() == pytest.approx(
        bond + 2 * 0.02**2 / bond, abs=5e-4
    )
    assert found.longest_bonds_A["C-H"] > bond + 3 * 0.02


def test_spectrum_of_white_velocities_is_flat(methane):
    curve = observe(drawn_frames(methane, 3), PIECE_FS).curves["spectrum"]
    mean = curve.pieces.mean(axis=0)[1:-1]
    assert mean.std() / mean.mean() < 0.15
    area = curve.pieces.mean(axis=0).sum() * curve.x[1]
    assert area == pytest.approx(1.0, abs=0.01)
    assert curve.x[-1] == pytest.approx(16678 / STRIDE_FS, rel=1e-3)


def test_crystal_has_radial_distributions_and_displacements(crystal):
    found = observe(crystal, PIECE_FS)
    assert {"g(r) of O-O", "g(r) of O-Si", "g(r) of Si-Si"} <= set(found.curves)
    lag = LAG_SHARE * PIECE_FS * 1e-3
    name = f"MSD of O after {lag:.3g} ps"
    # Independent frames: twice the variance along each axis.
    assert found.scalars[name].pieces.mean() == pytest.approx(6 * 0.02**2, rel=0.03)
    assert found.conditions.extent == pytest.approx(abs(np.linalg.det(crystal.cell)))
    assert "angle Si-O-Si" in found.scalars


def test_wrapping_does_not_change_displacements(crystal):
    inside = np.linalg.solve(crystal.cell.T, crystal.positions.reshape(-1, 3).T).T
    wrapped = ((inside % 1.0) @ crystal.cell).reshape(crystal.positions.shape)
    one, other = (
        observe(crystal, PIECE_FS),
        observe(replace(crystal, positions=wrapped), PIECE_FS),
    )
    for name, scalar in one.scalars.items():
        np.testing.assert_allclose(
            other.scalars[name].pieces, scalar.pieces, rtol=1e-6, err_msg=name
        )


def nitrogen() -> Atoms:
    """Return an isolated molecule on a skew line."""
    atoms = molecule("N2")
    atoms.rotate(35.0, (1.0, 2.0, 3.0))
    return atoms


def test_linear_molecules_have_a_temperature():
    frames = drawn_frames(nitrogen(), 6, spread=0.0)
    # Along the bond and apart: the one motion that has a temperature.
    axis = np.diff(frames.positions, axis=1)
    axis /= np.linalg.norm(axis, axis=2, keepdims=True)
    stretch = (np.diff(frames.velocities, axis=1) * axis).sum(axis=2, keepdims=True)
    velocities = stretch / 2 * axis * np.array([-1.0, 1.0])[:, None]
    frames = replace(frames, velocities=velocities)
    found = observe(frames, PIECE_FS)
    pieces = found.scalars["temperature"].pieces
    error = pieces.std(ddof=1) / np.sqrt(len(pieces))
    assert found.n_dof == 1
    assert abs(pieces.mean() - 300.0) < 5 * error
    assert run_temperature(frames) == pytest.approx(pieces.mean(), rel=1e-9)


def test_single_atoms():
    with pytest.raises(ValueError, match="single isolated atom, which has no temp"):
        observe(drawn_frames(Atoms("Ar"), 1), PIECE_FS)
    assert run_temperature(drawn_frames(Atoms("Ar"), 1)) == 0.0
    periodic = Atoms("Ar2", [[0, 0, 0], [4, 4, 4]], cell=[8, 8, 8], pbc=True)
    found = observe(drawn_frames(periodic, 1), PIECE_FS)
    assert (found.n_dof, found.longest_bonds_A) == (3, {})


def test_pooled_runs_stand_one_after_the_other(methane):
    runs = [drawn_frames(methane, seed, n_pieces=n) for seed, n in ((1, 5), (2, 8))]
    each = [observe(run, PIECE_FS) for run in runs]
    both = pool(each)
    assert (both.n_runs, both.n_pieces, both.run_pieces) == (2, 13, (5, 8))
    assert both.length_ps == pytest.approx(13 * PIECE_FS * 1e-3)
    for name, scalar in both.scalars.items():
        for one, pieces in zip(each, both.by_run(scalar.pieces), strict=True):
            np.testing.assert_array_equal(pieces, one.scalars[name].pieces)
    longest = max(one.longest_bonds_A["C-H"] for one in each)
    assert both.longest_bonds_A == {"C-H": longest}


def test_runs_of_two_kinds_are_not_pooled(methane):
    one = observe(drawn_frames(methane, 1), PIECE_FS)
    with pytest.raises(ValueError, match="seed 2 into pieces of"):
        pool([one, observe(drawn_frames(methane, 2), 2 * PIECE_FS)])
    with pytest.raises(ValueError, match="no runs to pool"):
        pool([])


def test_too_short_runs_are_refused(methane):
    frames = drawn_frames(methane, 4, n_pieces=3)
    with pytest.raises(ValueError, match="make 3 pieces"):
        observe(frames, PIECE_FS)
    with pytest.raises(ValueError, match="pieces of at least 1400 fs"):
        observe(frames, 1000.0)


def test_expected_kinetic_energy_is_in_ase_units(methane):
    frames = drawn_frames(methane, 5)
    frames = replace(frames, velocities=thermal_velocities(frames))
    kinetic = 0.5 * (frames.masses[:, None] * frames.velocities**2).sum(axis=(1, 2))
    kelvin = 2 * kinetic.mean() / units.fs**2 / (9 * units.kB)
    found = observe(frames, PIECE_FS).scalars["temperature"].pieces.mean()
    assert found == pytest.approx(kelvin, rel=1e-6)


def test_fixed_atoms_have_no_temperature(crystal):
    """A layer that rests, and an element of which no atom moves."""
    silicon = crystal.atomic_numbers == 14
    for fixed in (np.arange(len(silicon)) % 3 == 0, silicon):
        moves = ~fixed
        held = replace(crystal, velocities=crystal.velocities * moves[:, None])
        found = observe(held, PIECE_FS)
        assert found.n_dof == 3 * moves.sum()
        pieces = found.scalars["temperature"].pieces
        error = pieces.std(ddof=1) / np.sqrt(len(pieces))
        assert abs(pieces.mean() - 300) < 5 * error
        assert found.bath_memory_fs is None  # the fixed atoms take up the momentum
        report = compare(found, found)
        assert report.n_failed == 0
    assert "temperature of Si" not in found.scalars
    assert "spectrum of Si" not in found.curves


def test_pairs_that_never_meet_agree():
    """Two atoms of an element, beyond the range of g(r) on both sides or on one."""
    atoms = Atoms("He8Ne2", cell=[8, 8, 30], pbc=True)
    rng = np.random.default_rng(3)
    atoms.positions = rng.uniform(0, 8, (10, 3))
    atoms.positions[8:] = [[1, 1, 5], [1, 1, 20]]
    apart = drawn_frames(atoms, 1)
    atoms.positions[9] = [1, 1, 9]
    near = drawn_frames(atoms, 2)
    both = [observe(one, PIECE_FS) for one in (apart, near)]
    rows = {row.observable: row for row in compare(both[0], both[0]).rows}
    assert rows["overlap of g(r) of Ne-Ne"].verdict is Verdict.PASS
    for run, reference in (both, both[::-1]):
        rows = {row.observable: row for row in compare(run, reference).rows}
        assert rows["overlap of g(r) of Ne-Ne"].value == 0.0
        assert rows["overlap of g(r) of Ne-Ne"].verdict is not Verdict.PASS


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True)])
def test_slabs_and_wires_are_compared_by_their_cells(pbc):
    atoms = Atoms("He8", np.random.default_rng(3).uniform(0, 8, (8, 3)))
    atoms.set_cell([8, 8, 8])
    atoms.pbc = pbc
    one = observe(drawn_frames(atoms, 1), PIECE_FS)
    atoms.set_cell([8, 8, 9] if pbc[2] else [8, 9, 8])
    with pytest.raises(NotComparableError, match="along its periodic axes"):
        compare(observe(drawn_frames(atoms, 1), PIECE_FS), one)
    atoms.pbc = False
    with pytest.raises(NotComparableError, match="the periodic axes of the run"):
        compare(observe(drawn_frames(atoms, 1), PIECE_FS), one)
    atoms.pbc = pbc
    atoms.set_cell([9, 8, 8] if pbc[2] else [8, 8, 9])  # an open axis has no length
    atoms.center(axis=0 if pbc[2] else 2)
    compare(observe(drawn_frames(atoms, 1), PIECE_FS), one)
