"""Radial distributions against ideal gases and lattices."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from trajcast_ase.analysis.rdf import rdf, rdf_overlap

PERIODIC = np.array([True, True, True])
TILTED = np.array([[6.0, 0.0, 0.0], [-2.5, 5.0, 0.0], [1.0, 2.0, 7.0]])


@pytest.mark.statistical
def test_ideal_gas_in_a_small_tilted_cell_has_g_of_one_within_its_error_bars():
    # Independent frames; 4 H and 6 He, distances up to 7 Å, beyond every height.
    # 3 pairs x 14 bins of Student's t with 39 degrees of freedom: mean square 39/37,
    # and none beyond 5.5 errors (2.6e-6 each, 1e-4 in all).
    rng = np.random.default_rng(1)
    numbers = np.array([1] * 4 + [2] * 6)
    positions = rng.uniform(size=(4000, 10, 3)) @ TILTED
    result = rdf(
        positions, numbers, cell=TILTED, pbc=PERIODIC, r_max=7.0, n_bins=14, n_blocks=40
    )
    assert set(result.g) == {"H-H", "H-He", "He-He"}
    scores = np.stack([(result.g[k] - 1)[1:] / result.g_error[k][1:] for k in result.g])
    assert np.abs(scores).max() < 5.5
    # Neighboring bins are independent in an ideal gas up to the images: 39 values.
    assert 0.45 < np.mean(scores**2) < 1.9
    assert all(error[-1] < 0.02 for error in result.g_error.values())


@pytest.mark.statistical
def test_coordination_in_an_ideal_gas_is_density_times_volume():
    # 5 He in 216 Å³ around each H; limit of 5 standard errors.
    rng = np.random.default_rng(2)
    numbers = np.array([1, 1, 2, 2, 2, 2, 2])
    positions = 6.0 * rng.uniform(size=(3000, 7, 3))
    cell = 6.0 * np.eye(3)
    result = rdf(positions, numbers, cell=cell, pbc=PERIODIC, r_max=4.0, n_blocks=30)
    around = result.coordination("H", "He", 4.0)
    expected = 5 / 216 * 4 / 3 * np.pi * 64
    assert abs(around.mean - expected) < 5 * around.error
    reverse = result.coordination("He", "H", 4.0)
    assert reverse.mean == pytest.approx(around.mean * 2 / 5, rel=1e-12)


@pytest.mark.parametrize(
    ("structure", "shells"),
    [("fcc", [12, 6, 24, 12]), ("bcc", [8, 6, 12, 24]), ("sc", [6, 12, 8, 6])],
)
@pytest.mark.parametrize("repeats", [1, 2])
def test_coordination_shells_of_lattices_from_a_cell_of_any_size(
    structure, shells, repeats
):
    distances = {
        "fcc": np.sqrt([1 / 2, 1, 3 / 2, 2]),
        "bcc": np.sqrt([3 / 4, 1, 2, 11 / 4]),
        "sc": np.sqrt([1, 2, 3, 4]),
    }[structure]
    atoms = bulk("Cu", structure, a=4.0).repeat(repeats)
    frames = np.stack([atoms.positions] * 2)
    result = rdf(
        frames,
        atoms.numbers,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        r_max=8.5,
        n_bins=850,
        n_blocks=2,
    )
    total = 0
    for shell, distance in zip(shells, 4.0 * distances, strict=True):
        total += shell
        found = result.coordination("Cu", "Cu", distance + 0.1)
        assert found.mean == pytest.approx(total, rel=1e-12)
        assert found.error == 0.0


def test_an_isolated_molecule_needs_a_volume_for_its_density():
    positions = np.zeros((4, 2, 3))
    positions[:, 1, 0] = 1.05
    numbers = np.array([1, 8])
    with pytest.raises(ValueError, match="there is no density"):
        rdf(positions, numbers, n_blocks=2)
    result = rdf(positions, numbers, n_blocks=2, volume=100.0, r_max=2.0, n_bins=20)
    shell = 4 / 3 * np.pi * (1.1**3 - 1.0**3)
    assert result.g["H-O"][10] == pytest.approx(100.0 / shell, rel=1e-9)
    assert result.coordination("O", "H", 1.5).mean == 1.0
    assert result.coordination("O", "H", 0.5).mean == 0.0
    assert "O-O" not in result.g


def test_overlap_is_one_with_itself_and_less_with_another():
    rng = np.random.default_rng(3)
    cell, numbers = 8.0 * np.eye(3), np.array([2] * 8)
    gas, other = (
        rdf(
            scale * rng.uniform(size=(40, 8, 3)),
            numbers,
            cell=cell,
            pbc=PERIODIC,
            n_bins=30,
        )
        for scale in (8.0, 4.0)
    )
    assert rdf_overlap(gas, gas) == {"He-He": 1.0}
    assert rdf_overlap(gas, other)["He-He"] < 0.8
    coarse = rdf(np.zeros((10, 8, 3)), numbers, cell=cell, pbc=PERIODIC, n_bins=20)
    with pytest.raises(ValueError, match="cannot be compared"):
        rdf_overlap(gas, coarse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.zeros((1, 3, 3))}, "1 frame"),
        ({"positions": np.zeros((3, 3))}, "no trajectory"),
        ({"positions": None}, "has no positions"),
        ({"positions": np.full((10, 3, 3), np.nan)}, "frame 0 are not finite"),
        ({"atomic_numbers": np.ones(2, dtype=int)}, "do not fit 3 atoms"),
        ({"cell": np.stack([np.eye(3), 2 * np.eye(3)])}, "cell changes at frame 1"),
        ({"r_max": 0.0}, "no histogram"),
        ({"volume": -1.0}, "a volume of -1"),
    ],
)
def test_bad_input_is_refused_with_the_reason(change, message):
    arguments = {
        "positions": np.zeros((10, 3, 3)),
        "atomic_numbers": np.ones(3, dtype=int),
        "cell": 9.0 * np.eye(3),
        "pbc": PERIODIC,
    }
    with pytest.raises(ValueError, match=message):
        rdf(**(arguments | change))


def test_pairs_and_cutoffs_that_were_not_computed_are_refused():
    result = rdf(
        np.zeros((2, 1, 3)),
        np.array([1]),
        cell=9.0 * np.eye(3),
        pbc=PERIODIC,
        n_blocks=2,
    )
    with pytest.raises(ValueError, match="no pair H-O"):
        result.coordination("H", "O", 2.0)
    with pytest.raises(ValueError, match="raise r_max"):
        result.coordination("H", "H", 6.1)
