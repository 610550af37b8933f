"""Cells, images and neighbors against explicit sums over images."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from trajcast_ase.box import Box

TILTED = np.array([[6.0, 0.0, 0.0], [-2.9, 5.0, 0.0], [1.0, 2.0, 7.0]])
PERIODIC = np.array([True, True, True])


def brute_force(box: Box, positions: np.ndarray, cutoff: float) -> np.ndarray:
    """Return the sorted distances of all ordered pairs and images within `cutoff`."""
    spans = [range(-4, 5) if periodic else range(1) for periodic in box.pbc]
    found = []
    for image in product(*spans):
        vectors = positions[None] - positions[:, None] + np.array(image) @ box.cell
        lengths = np.linalg.norm(vectors, axis=2).ravel()
        found.append(lengths[(lengths > 1e-9) & (lengths < cutoff)])
    return np.sort(np.concatenate(found))


@pytest.mark.parametrize("pbc", list(product([True, False], repeat=3)))
def test_neighbors_beyond_half_the_height_of_a_tilted_cell(pbc):
    box = Box.of(TILTED, np.array(pbc))
    positions = np.random.default_rng(1).uniform(-9.0, 9.0, size=(7, 3))
    first, second, vectors = box.neighbors(positions, 8.0)
    assert np.all((first >= 0) & (second < 7))
    once = np.linalg.norm(vectors, axis=1)
    assert np.allclose(
        np.sort(np.concatenate([once, once])), brute_force(box, positions, 8.0)
    )


def test_unwrapping_undoes_wrapping():
    rng = np.random.default_rng(2)
    path = np.cumsum(rng.normal(scale=0.3, size=(200, 5, 3)), axis=0)
    images = np.floor(path @ np.linalg.inv(TILTED))
    unwrapped = Box.of(TILTED, PERIODIC).unwrap(path - images @ TILTED)
    assert np.abs(images).max() > 0
    assert np.allclose(unwrapped - unwrapped[0], path - path[0], atol=1e-10)


def test_a_step_of_nearly_half_the_cell_is_refused():
    positions = np.zeros((2, 1, 3))
    positions[1, 0, 0] = 2.45
    with pytest.raises(ValueError, match=r"moves 2.45 Å between two frames"):
        Box.of(5.0 * np.eye(3), PERIODIC).unwrap(positions)


def test_half_height_and_volume_of_a_tilted_cell():
    box = Box.of(TILTED, PERIODIC)
    assert box.volume == pytest.approx(6.0 * 5.0 * 7.0)
    normal = np.cross(TILTED[1], TILTED[2])
    assert box.half_height <= abs(TILTED[0] @ normal) / np.linalg.norm(normal) / 2
    assert Box.of(None, None).half_height == np.inf


def test_a_changing_cell_is_refused():
    cells = np.stack([TILTED, TILTED, 1.01 * TILTED])
    with pytest.raises(ValueError, match="cell changes at frame 2"):
        Box.of(cells, PERIODIC)
    assert np.array_equal(Box.of(cells[:2], PERIODIC).cell, TILTED)


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        (TILTED, None, "belong together"),
        (np.zeros((3, 3)), PERIODIC, "axis 0 is periodic but its cell vector is zero"),
        (np.ones((3, 3)), PERIODIC, "lie in a plane"),
    ],
)
def test_impossible_cells_are_refused(cell, pbc, message):
    with pytest.raises(ValueError, match=message):
        Box.of(cell, pbc)
