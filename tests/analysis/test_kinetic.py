"""Kinetic shares against sampling, rigid rotors and the equipartition theorem."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from trajcast_ase.analysis.kinetic import kinetic_shares
from trajcast_ase.data import paracetamol
from trajcast_ase.units import EV_PER_AMU_A2_FS2, FS, KB

PERIODIC = np.array([True, True, True])


def canonical(
    rng: np.random.Generator, masses: np.ndarray, n_frames: int
) -> np.ndarray:
    """Return Maxwell-Boltzmann velocities at 300 K, Å/fs."""
    spread = np.sqrt(KB * 300.0 / masses) * FS
    return spread[:, None] * rng.normal(size=(n_frames, len(masses), 3))


def without_momenta(
    positions: np.ndarray, velocities: np.ndarray, masses: np.ndarray
) -> np.ndarray:
    """Return velocities of one frame without total and angular momentum.

    By solving for the angular velocity, another way than by orthonormal vectors.
    """
    arms = positions - masses @ positions / masses.sum()
    rest = velocities - masses @ velocities / masses.sum()
    spin = (masses[:, None] * np.cross(arms, rest)).sum(axis=0)
    inertia = np.einsum("n,nc,nc->", masses, arms, arms) * np.eye(3)
    inertia -= np.einsum("n,na,nb->ab", masses, arms, arms)
    return rest - np.cross(np.linalg.lstsq(inertia, spin, rcond=1e-9)[0], arms)


def sampled(seed: int, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tumbling, jittering paracetamol at 300 K at rest as a whole."""
    rng = np.random.default_rng(seed)
    atoms = paracetamol()
    masses = atoms.get_masses()
    jitter = rng.normal(scale=0.05, size=(n_frames, 20, 3))
    turns = np.linalg.qr(rng.normal(size=(n_frames, 3, 3)))[0]
    positions = (atoms.positions + jitter) @ turns
    velocities = np.stack(
        [
            without_momenta(x, v, masses)
            for x, v in zip(positions, canonical(rng, masses, n_frames), strict=True)
        ]
    )
    return positions, velocities


@pytest.mark.statistical
def test_exact_shares_of_a_molecule_agree_with_sampling():
    # 3 000 independent frames, 50 blocks, 8 groups. Limit of 4.5 standard errors
    # (t, 49 degrees of freedom: 4e-5 each). The naive shares by number of atoms are
    # off by 8 % for H and 20 % for O, which must be found out.
    positions, velocities = sampled(1, 3000)
    atoms = paracetamol()
    shares = kinetic_shares(
        positions, velocities, atoms.get_masses(), atoms.numbers, n_blocks=50
    )
    assert set(shares) == {"all", "H", "C", "N", "O", "x", "y", "z", "internal"}
    assert shares["all"].n_dof == pytest.approx(54.0, abs=1e-9)
    assert shares["internal"].n_dof == pytest.approx(54.0, abs=1e-9)
    elements = [shares[name].n_dof for name in "HCNO"]
    assert sum(elements) == pytest.approx(54.0, abs=1e-9)
    assert all(abs(share.deviation(300.0)) < 4.5 for share in shares.values())
    assert abs(shares["all"].temperature.mean - 300.0) < 5.0
    naive = {"H": 9 * 2.7, "O": 2 * 2.7}
    for name, n_dof in naive.items():
        wrong = 0.5 * KB * 300.0 * n_dof
        assert abs(shares[name].energy.mean - wrong) > 8 * shares[name].energy.error


def test_elements_of_paracetamol_are_those_of_long_reference_runs():
    # 3 ns of MD read 327.5, 285.0, 286.8, 241.2 K when each atom counts 54/20
    # degrees of freedom; one frozen structure comes within 2 %.
    atoms = paracetamol()
    positions = np.stack([atoms.positions] * 10)
    velocities = canonical(np.random.default_rng(2), atoms.get_masses(), 10)
    shares = kinetic_shares(
        positions, velocities, atoms.get_masses(), atoms.numbers, molecules=False
    )
    known = {"H": 327.5, "C": 285.0, "N": 286.8, "O": 241.2}
    for name, kelvin in known.items():
        expected = 300.0 * shares[name].n_dof / (2.7 * list(atoms.symbols).count(name))
        assert expected == pytest.approx(kelvin, rel=0.02)


@pytest.mark.parametrize(("name", "n_rotations"), [("H2O", 3), ("CO2", 2)])
def test_a_free_rotor_has_all_its_energy_in_rotation(name, n_rotations):
    atoms = molecule(name)
    masses = atoms.get_masses()
    arms = atoms.positions - atoms.get_center_of_mass()
    spin = (
        np.array([0.01, 0.02, 0.0]) if name == "CO2" else np.array([0.01, 0.02, 0.03])
    )
    turning = np.cross(spin, arms)
    # A second molecule keeps the total momentum at zero.
    positions = np.concatenate([arms, arms + 6.0])
    velocities = np.concatenate([turning + 0.004, turning - 0.004])
    shares = kinetic_shares(
        np.stack([positions] * 4),
        np.stack([velocities] * 4),
        np.tile(masses, 2),
        np.tile(atoms.numbers, 2),
        cell=20.0 * np.eye(3),
        pbc=PERIODIC,
        n_blocks=2,
    )
    flight = 0.5 * EV_PER_AMU_A2_FS2 * 2 * masses.sum() * 3 * 0.004**2
    rotation = EV_PER_AMU_A2_FS2 * masses @ np.square(turning).sum(axis=1)
    assert shares["molecular translation"].energy.mean == pytest.approx(flight)
    assert shares["molecular rotation"].energy.mean == pytest.approx(rotation)
    assert shares["internal"].energy.mean == pytest.approx(0.0, abs=1e-12)
    assert shares["molecular translation"].n_dof == pytest.approx(3.0)
    assert shares["molecular rotation"].n_dof == pytest.approx(2 * n_rotations)
    assert shares["internal"].n_dof == pytest.approx(18 - 3 - 2 * n_rotations - 3)


def test_wrapped_molecules_give_the_same_shares():
    rng = np.random.default_rng(3)
    one = molecule("H2O")
    positions = np.concatenate(
        [one.positions, one.positions + np.array([0.1, 3.0, 4.4])]
    )
    frames = positions + rng.normal(scale=0.03, size=(12, 6, 3))
    masses, numbers = np.tile(one.get_masses(), 2), np.tile(one.numbers, 2)
    velocities = canonical(rng, masses, 12)
    cell = 9.0 * np.eye(3)
    straight, wrapped = (
        kinetic_shares(
            where, velocities, masses, numbers, cell=cell, pbc=PERIODIC, n_blocks=3
        )
        for where in (frames, frames % 9.0)
    )
    assert np.abs(frames % 9.0 - frames).max() > 8.0
    for name, share in straight.items():
        assert wrapped[name].energy.mean == pytest.approx(share.energy.mean, rel=1e-9)
        assert wrapped[name].n_dof == pytest.approx(share.n_dof, rel=1e-9)


def test_a_periodic_solid_loses_three_degrees_by_mass():
    rng = np.random.default_rng(4)
    masses, numbers = np.array([28.0, 16.0, 16.0]), np.array([14, 8, 8])
    velocities = canonical(rng, masses, 20)
    arguments = (np.zeros((20, 3, 3)), velocities, masses, numbers)
    cell = 9.0 * np.eye(3)
    shares = kinetic_shares(*arguments, cell=cell, pbc=PERIODIC, molecules=False)
    assert shares["Si"].n_dof == pytest.approx(3 * (1 - 28 / 60))
    assert shares["O"].n_dof == pytest.approx(3 * (2 - 32 / 60))
    free = kinetic_shares(
        *arguments, cell=cell, pbc=PERIODIC, molecules=False, conserved="nothing"
    )
    assert free["Si"].n_dof == pytest.approx(3.0)
    total = 0.5 * EV_PER_AMU_A2_FS2 * (masses[:, None] * velocities**2).sum((1, 2))
    assert free["all"].energy.mean == pytest.approx(total.mean(), rel=1e-12)
    # A drift of the whole is no thermal motion.
    moving = (arguments[0], velocities + 0.1, masses, numbers)
    drifting = kinetic_shares(*moving, cell=cell, pbc=PERIODIC, molecules=False)
    assert drifting["all"].energy.mean == pytest.approx(
        shares["all"].energy.mean, rel=1e-9
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"velocities": None}, "has no velocities"),
        ({"velocities": np.zeros((5, 2, 3))}, "5 frame.s. are too few"),
        ({"velocities": np.zeros((20, 3, 3))}, "differ in shape"),
        ({"masses": np.ones(3)}, "do not fit 2 atoms"),
        ({"conserved": "both momenta"}, "does not conserve angular momentum"),
        ({"cell": np.stack([9 * np.eye(3), 8 * np.eye(3)])}, "cell changes at frame 1"),
    ],
)
def test_bad_input_is_refused_with_the_reason(change, message):
    arguments = {
        "positions": np.zeros((20, 2, 3)) + np.eye(3)[:2],
        "velocities": np.ones((20, 2, 3)),
        "masses": np.ones(2),
        "atomic_numbers": np.ones(2, dtype=int),
        "cell": 9.0 * np.eye(3),
        "pbc": PERIODIC,
    }
    with pytest.raises(ValueError, match=message):
        kinetic_shares(**(arguments | change))


def test_single_atoms_do_not_turn():
    """Though the rounding of a centre of mass looks like a moment of inertia."""
    rng = np.random.default_rng(2)
    lattice = 5.0 * np.indices((3, 3, 3)).reshape(3, -1).T
    positions = lattice + rng.normal(scale=0.1, size=(40, 27, 3))
    masses, numbers = np.full(27, 39.95), np.full(27, 18)
    velocities = canonical(rng, masses, 40)
    shares = kinetic_shares(
        positions, velocities, masses, numbers, cell=15.0 * np.eye(3), pbc=PERIODIC
    )
    assert "molecular rotation" not in shares
    assert shares["molecular translation"].n_dof == pytest.approx(78.0)


def test_fixed_atoms_have_no_degrees_of_freedom():
    """Half of a slab is fixed: the others are at 300 K, not all at 150 K."""
    rng, masses = np.random.default_rng(3), np.full(32, 63.546)
    positions = np.broadcast_to(rng.uniform(0.0, 10.0, size=(32, 3)), (500, 32, 3))
    velocities = canonical(rng, masses, 500)
    velocities[:, :16] = 0.0
    shares = kinetic_shares(
        positions,
        velocities,
        masses,
        np.full(32, 29),
        cell=10.0 * np.eye(3),
        pbc=PERIODIC,
        molecules=False,
    )
    # 24 000 normal numbers: 300 K within 0.9 %; four of them.
    assert shares["all"].n_dof == pytest.approx(48.0)
    assert shares["all"].temperature.mean == pytest.approx(300.0, rel=0.036)
