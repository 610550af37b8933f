"""Values of the structure that a correct trajectory gives."""

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray
from system import FloatArray
from vesin import NeighborList

BIN_WIDTH = 0.02
"""Of distances, Å."""
FIT_WIDTH = 0.2
"""On either side of the highest bin, of the distances where a peak is looked for."""


def angles(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the angles between vectors, (..., 3) each, in degrees."""
    cosines = (first * second).sum(axis=-1)
    cosines /= np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    values: FloatArray = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return values


def bond_vectors(
    bonds: NDArray[np.int64], positions: FloatArray, start: Atoms
) -> FloatArray:
    """Return the vectors from first to second atoms of bonds, (..., n_bonds, 3), Å.

    Parameters
    ----------
    bonds : (n_bonds, 2)
    positions : (..., n_atoms, 3), Å
        Unwrapped, so that each bond keeps the periodic image that it has in `start`.
    start : Atoms
        Every bond is shorter there than half the cell.
    """
    i, j = bonds.T
    first = start.positions[j] - start.positions[i]
    images = find_mic(first, start.cell, start.pbc)[0] - first
    vectors: FloatArray = positions[..., j, :] - positions[..., i, :] + images
    return vectors


def first_peak(
    positions: FloatArray,
    cell: FloatArray,
    numbers: NDArray[np.int64],
    elements: tuple[int, int],
    span: tuple[float, float],
) -> tuple[float, float]:
    """Return position and height of a peak of the radial distribution function.

    Parameters
    ----------
    positions : (n_frames, n_atoms, 3), Å
    cell : (3, 3), Å
        Periodic along each axis.
    numbers : (n_atoms,)
    elements : (int, int)
        Atomic numbers of the two kinds of atom.
    span : (float, float), Å
        Where to look.

    Returns
    -------
    position : float, Å
    height : float
        Relative to evenly spread pairs.
    """
    edges = np.arange(span[0], span[1] + BIN_WIDTH / 2, BIN_WIDTH)
    counts = np.zeros(len(edges) - 1)
    search = NeighborList(cutoff=edges[-1], full_list=True)
    for frame in positions:
        i, j, distances = search.compute(frame, cell, periodic=True, quantities="ijd")
        wanted = (numbers[i] == elements[0]) & (numbers[j] == elements[1])
        counts += np.histogram(distances[wanted], edges)[0]
    first, second = ((numbers == element).sum() for element in elements)
    n_pairs = first * (second - 1 if elements[0] == elements[1] else second)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    evenly = len(positions) * n_pairs * shells / abs(np.linalg.det(cell))
    return vertex((edges[1:] + edges[:-1]) / 2.0, counts / evenly)


def vertex(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return the top of a parabola through the values about the highest one."""
    center = x[np.argmax(y)]
    near = np.abs(x - center) < FIT_WIDTH * (x[-1] - x[0])
    square, slope, constant = np.polyfit(x[near] - center, y[near], 2)
    shift = -slope / (2.0 * square)
    return float(center + shift), float(constant + slope * shift / 2.0)
