"""Bonds, angles and tetrahedral order against structures whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.spacegroup import crystal

from trajcast_ase.analysis.bonds import bonded_pairs
from trajcast_ase.analysis.structure import (
    angle_distributions,
    angle_triplets,
    angles,
    bond_distributions,
    tetrahedral_order,
)
from trajcast_ase.box import Box

PERIODIC = np.array([True, True, True])


def test_angles_of_a_water_molecule_agree_with_ase():
    water = molecule("H2O")
    pairs = bonded_pairs(water)
    triplets = angle_triplets(pairs)
    assert triplets.tolist() == [[1, 0, 2]]
    found = angles(water.positions[None], triplets, Box.of(None, None))
    assert found[0, 0] == pytest.approx(water.get_angle(1, 0, 2), abs=1e-9)


@pytest.mark.statistical
def test_bond_of_a_harmonic_oscillator_is_normal_with_its_width():
    # x = 1.1 + sqrt(kT/k) noise, 4 000 frames, 20 blocks: 5 standard errors.
    rng = np.random.default_rng(1)
    frames = np.zeros((4000, 2, 3))
    frames[:, 1, 0] = 1.1 + 0.03 * rng.normal(size=4000)
    found = bond_distributions(
        frames, np.array([[0, 1]]), np.array([6, 8]), n_blocks=20
    )["C-O"]
    assert found.unit == "Å"
    assert abs(found.mean.mean - 1.1) < 5 * found.mean.error
    assert abs(found.sd.mean - 0.03) < 5 * found.sd.error


def test_alpha_quartz_has_tetrahedral_silicon_and_one_bridging_angle():
    quartz = crystal(
        ["Si", "O"],
        [(0.4697, 0.0, 2 / 3), (0.4135, 0.2669, 0.7858)],
        spacegroup=154,
        cellpar=[4.94, 4.94, 5.45, 90, 90, 120],
    ).repeat((2, 2, 2))
    rng = np.random.default_rng(2)
    frames = quartz.positions + 0.001 * rng.normal(size=(4, len(quartz), 3))
    cell, pbc = quartz.cell.array, quartz.pbc
    # Wrapped or not makes no difference.
    images = rng.integers(-2, 3, size=(len(quartz), 3))
    frames = frames + images @ cell
    pairs = bonded_pairs(quartz)
    assert len(pairs) == 4 * 24
    found = angle_distributions(
        frames, pairs, quartz.numbers, cell=cell, pbc=pbc, n_blocks=2
    )
    assert set(found) == {"O-Si-O", "Si-O-Si"}
    assert found["Si-O-Si"].n_values == 4 * 48
    assert found["O-Si-O"].n_values == 4 * 24 * 6
    assert found["Si-O-Si"].mean.mean == pytest.approx(143.7, abs=0.3)
    assert found["Si-O-Si"].sd.mean < 0.2
    assert found["O-Si-O"].mean.mean == pytest.approx(109.47, abs=0.1)
    lengths = bond_distributions(
        frames, pairs, quartz.numbers, cell=cell, pbc=pbc, n_blocks=2
    )
    assert lengths["O-Si"].mean.mean == pytest.approx(1.61, abs=0.02)


def test_diamond_is_perfectly_tetrahedral_and_a_square_is_not():
    diamond = bulk("C", cubic=True)
    q = tetrahedral_order(
        np.stack([diamond.positions] * 2),
        diamond.numbers,
        cell=diamond.cell.array,
        pbc=diamond.pbc,
        element="C",
        reach=3.0,
    )
    assert q.shape == (2, 8)
    assert np.allclose(q, 1.0, atol=1e-12)
    # A center with a square around: cosines -1 twice and 0 four times.
    square = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1.0, 0]])
    flat = tetrahedral_order(square[None], np.full(5, 8), reach=4.0)
    assert flat[0, 0] == pytest.approx(1 - 0.375 * (2 * 4 / 9 + 4 / 9))


@pytest.mark.statistical
def test_an_ideal_gas_has_no_tetrahedral_order():
    # 600 frames of 40 atoms; frames are independent: 5 standard errors.
    positions = 10.0 * np.random.default_rng(3).uniform(size=(600, 40, 3))
    q = tetrahedral_order(
        positions, np.full(40, 8), cell=10.0 * np.eye(3), pbc=PERIODIC, reach=8.0
    ).mean(axis=1)
    assert abs(q.mean()) < 5 * q.std() / np.sqrt(600)


def test_bad_input_is_refused_with_the_reason():
    positions = np.random.default_rng(4).uniform(size=(2, 4, 3))
    with pytest.raises(ValueError, match="has 3 neighbors within"):
        tetrahedral_order(positions, np.full(4, 8))
    with pytest.raises(ValueError, match="there is no Si"):
        tetrahedral_order(positions, np.full(4, 8), element="Si")
    with pytest.raises(ValueError, match="too few, at least 10"):
        bond_distributions(positions, np.array([[0, 1]]), np.full(4, 8))
    with pytest.raises(ValueError, match="too few, at least 10"):
        angle_distributions(positions, np.array([[0, 1]]), np.full(4, 8))
