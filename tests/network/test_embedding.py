"""Embeddings against e3nn and loops over atoms."""

import math

import pytest
import torch
from e3nn import o3
from helpers import TOLERANCES, float64_twins, from_e3nn, normal, relative_error

from trajcast_ase.network.embedding import (
    DirectionEmbedding,
    SpeedEmbedding,
    ThermalEmbedding,
)
from trajcast_ase.network.harmonics import spherical_harmonics

TWIN = TOLERANCES[torch.float64]["twin"]

N_SPECIES, N_BASIS, CHANNELS, LMAX = 3, 5, 4, 2
SPECIES = torch.tensor([0, 1, 2, 2, 1, 0])
ONE_HOT = torch.eye(N_SPECIES, dtype=torch.float64)[SPECIES]


@pytest.fixture(autouse=True)
def _float64():
    with float64_twins():
        yield


@pytest.fixture
def inputs():
    speed = normal(len(SPECIES), N_BASIS, seed=1)
    vectors = normal(len(SPECIES), 3, seed=2)
    return ONE_HOT, speed, spherical_harmonics(vectors, LMAX, normalize=False)


def test_speed_embedding_equals_e3nn():
    ours = SpeedEmbedding(N_BASIS, N_SPECIES, 0.1)
    twin = o3.FullyConnectedTensorProduct(
        f"{N_BASIS}x0e", f"{N_SPECIES}x0e", f"{N_BASIS}x0e"
    )
    ours.weight.data = normal(N_BASIS, N_SPECIES, N_BASIS, seed=3)
    twin.weight.data = ours.weight.data.flatten()
    speeds = normal(len(SPECIES), seed=4).abs() * 0.1
    assert (
        relative_error(ours(speeds, ONE_HOT), twin(ours.basis(speeds), ONE_HOT)) < TWIN
    )


def test_direction_embedding_equals_e3nn(inputs):
    one_hot, speed, harmonics = inputs
    ours = DirectionEmbedding(LMAX, CHANNELS, N_SPECIES, N_BASIS)
    twin = o3.Linear(
        f"{N_SPECIES + N_BASIS}x0e+1x1o+1x2e",
        f"{CHANNELS}x0e+{CHANNELS}x1o+{CHANNELS}x2e",
    )
    ours.linear.weight.data = normal(*ours.linear.weight.shape, seed=5)
    twin.weight.data = ours.linear.weight.data.clone()
    expected = twin(torch.cat([one_hot, speed, harmonics[:, 1:]], dim=1))
    expected = from_e3nn(expected, [1, 3, 5], CHANNELS)
    assert relative_error(ours(*inputs), expected) < TWIN


def test_thermal_embedding_by_loop(inputs):
    one_hot, speed, harmonics = inputs
    ours = ThermalEmbedding(LMAX, CHANNELS, N_SPECIES, N_BASIS)
    ours.scalars.data = normal(*ours.scalars.shape, seed=6)
    ours.vectors.data = normal(*ours.vectors.shape, seed=7)
    expected = torch.zeros(len(SPECIES), 9, CHANNELS, dtype=torch.float64)
    for atom, species in enumerate(SPECIES.tolist()):
        scalars = torch.cat([one_hot[atom], speed[atom]])
        expected[atom, 0] = scalars @ ours.scalars / math.sqrt(N_SPECIES + N_BASIS)
        for degree, rows in ((1, slice(1, 4)), (2, slice(4, 9))):
            weight = ours.vectors[degree - 1, species]
            expected[atom, rows] = torch.outer(harmonics[atom, rows], weight)
    assert relative_error(ours(*inputs), expected) < TWIN
