"""Mean square displacements against random walks, flight and cages."""

from __future__ import annotations

import numpy as np
import pytest

from trajcast_ase.analysis.msd import diffusion, msd, yeh_hummer

PERIOD = 20.0 * np.sqrt(2.0)
PERIODIC = np.array([True, True, True])


def random_walk(n_frames: int, n_atoms: int, step: float, seed: int) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(scale=step, size=(n_frames, n_atoms, 3))
    return np.cumsum(steps, axis=0)


def test_agrees_with_the_plain_double_loop():
    positions = random_walk(40, 3, 0.5, seed=1) + 1000.0
    numbers = np.array([1, 1, 8])
    result = msd(positions, 2.0, numbers, n_blocks=2, max_lag_fs=20.0)
    for name, chosen in {"H": [0, 1], "O": [2]}.items():
        for block, piece in enumerate((positions[:20], positions[20:])):
            for lag in range(11):
                moved = piece[lag:, chosen] - piece[: 20 - lag, chosen]
                direct = np.square(moved).sum(axis=-1).mean()
                found = result.blocks[name][block, lag]
                assert found == pytest.approx(direct, rel=1e-8, abs=1e-9)
    assert np.array_equal(result.lag_fs, 2.0 * np.arange(11))


@pytest.mark.statistical
@pytest.mark.parametrize("wrapped", [False, True])
def test_random_walk_diffuses_as_6_d_t(wrapped):
    # Steps of variance s² per axis and stride: D = s²/(2 stride) = 0.0045 Å²/fs =
    # 45e-9 m²/s. 200 walkers, 10 blocks; limit of 5 standard errors (t with 9
    # degrees of freedom: 7e-4) and an error below 4 %.
    positions = random_walk(2000, 200, 0.3, seed=2)
    cell = 12.0 * np.eye(3)
    if wrapped:
        positions = positions % 12.0
    result = msd(
        positions, 10.0, np.ones(200, dtype=int), cell=cell, pbc=PERIODIC, n_blocks=10
    )
    fit = diffusion(result, "H", (20.0, 300.0))
    assert fit.coefficient.error < 0.04 * 45.0
    assert abs(fit.coefficient.mean - 45.0) < 5 * fit.coefficient.error
    assert fit.exponent.mean == pytest.approx(1.0, abs=0.05)
    assert fit.fit_window_fs == (20.0, 300.0)


def test_free_flight_is_ballistic_and_an_oscillator_caged():
    time = np.arange(400.0)
    flight = np.zeros((400, 1, 3))
    flight[:, 0, 1] = 0.02 * time
    fit = diffusion(msd(flight, 1.0, np.array([1])), "H", (1.0, 30.0))
    assert fit.exponent.mean == pytest.approx(2.0, abs=1e-6)
    swing = np.zeros((1600, 1, 3))
    swing[:, 0, 0] = 0.1 * np.cos(2 * np.pi * np.arange(1600.0) / PERIOD)
    caged = msd(swing, 1.0, np.array([1]), n_blocks=2)
    # A² (1 - cos wt); blocks of 28 periods, starts over whole and part periods.
    expected = 0.01 * (1 - np.cos(2 * np.pi * caged.lag_fs / PERIOD))
    assert np.abs(caged.by_element["H"] - expected).max() < 4e-4
    assert diffusion(caged, "H", (1.0, 400.0)).coefficient.mean < 0.5


def test_a_drifting_system_is_at_rest_relative_to_its_center_of_mass():
    drift = np.zeros((50, 2, 3)) + 0.5 * np.arange(50.0)[:, None, None]
    drift[:, 1] += 1.0
    numbers, masses = np.array([1, 8]), np.array([1.0, 16.0])
    still = msd(drift, 1.0, numbers, masses=masses)
    assert max(curve.max() for curve in still.by_element.values()) < 1e-12
    assert msd(drift, 1.0, numbers).by_element["O"][2] == pytest.approx(3.0)


def test_finite_size_correction_of_water():
    # 2.837297 * 1.380649e-23 * 298.15 / (6 pi * 0.8901e-3 * 2e-9) m²/s.
    cell = 20.0 * np.eye(3)
    correction = yeh_hummer(cell, PERIODIC, 298.15, 0.8901)
    assert correction == pytest.approx(0.34807, rel=1e-4)
    rotated = cell @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    assert yeh_hummer(rotated, PERIODIC, 298.15, 0.8901) == pytest.approx(correction)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [(np.diag([20.0, 20.0, 21.0]), PERIODIC), (20.0 * np.eye(3), PERIODIC & [1, 1, 0])],
)
def test_other_boxes_have_no_simple_correction(cell, pbc):
    with pytest.raises(ValueError, match="not a cubic periodic box"):
        yeh_hummer(cell, pbc.astype(bool), 300.0, 0.85)


def test_bad_input_is_refused_with_the_reason():
    walk, numbers = random_walk(50, 2, 0.1, seed=3), np.array([1, 1])
    with pytest.raises(ValueError, match=r"9 frame\(s\) are too few, at least 10"):
        msd(walk[:9], 1.0, numbers)
    with pytest.raises(ValueError, match="not within a block of 10 frames"):
        msd(walk, 1.0, numbers, max_lag_fs=10.0)
    with pytest.raises(ValueError, match="stride of 0 fs"):
        msd(walk, 0.0, numbers)
    result = msd(walk, 1.0, numbers)
    with pytest.raises(ValueError, match="there is no O"):
        diffusion(result, "O", (1.0, 4.0))
    with pytest.raises(ValueError, match="has 2 lags"):
        diffusion(result, "H", (3.0, 4.0))
    with pytest.raises(ValueError, match="H does not move"):
        diffusion(msd(np.ones((50, 2, 3)), 1.0, numbers), "H", (1.0, 4.0))
