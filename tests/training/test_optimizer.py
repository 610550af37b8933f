import numpy as np
import pytest
import torch
from torch import nn

from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.training.average import WeightAverage
from trajcast_ase.training.config import OptimizerConfig
from trajcast_ase.training.optimizer import (
    UPDATE_RMS,
    Muon,
    make_optimizers,
    matrix_blocks,
    orthogonalize,
)


@pytest.fixture
def small_model():
    return Forecaster(
        ForecasterConfig(
            elements=(1, 6),
            horizon_fs=4.0,
            cutoff=3.0,
            displacement_rms=0.05,
            velocity_rms=0.01,
            avg_num_neighbors=4.0,
            n_channels=8,
            n_layers=2,
            edge_mlp=(8,),
            velocity_mlp=(8,),
            velocity_scales=(0.03, 0.01),
        )
    )


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8)])
def test_singular_values_come_near_one(shape):
    generator = torch.Generator().manual_seed(1)
    matrices = torch.randn(5, *shape, generator=generator, dtype=torch.float64)
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.3
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    overlap = (left.mT @ orthogonalize(matrices) @ right.mT).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(overlap, values, rtol=0.0, atol=0.8)
    assert overlap.min() > 0.3


def test_rounding_noise_is_not_blown_up():
    noise = 1e-17 * torch.ones(1, 6, 6, dtype=torch.float64)
    assert orthogonalize(noise).abs().max() < 1e-6


def test_each_block_is_updated_on_its_own():
    generator = torch.Generator().manual_seed(2)
    weight = nn.Parameter(torch.zeros(4 * 6 + 8 * 4, dtype=torch.float64))
    weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    Muon([(weight, ((4, 6), (8, 4)))], lr=0.5).step()
    for part, gradient, shape in zip(
        weight.detach().split([24, 32]),
        weight.grad.split([24, 32]),
        [(4, 6), (8, 4)],
        strict=True,
    ):
        left, _, right = torch.linalg.svd(gradient.view(shape), full_matrices=False)
        ideal = -0.5 * UPDATE_RMS * max(shape) ** 0.5 * left @ right
        cosine = (part.view(shape) * ideal).sum() / part.norm() / ideal.norm()
        assert cosine > 0.97
        assert part.norm() / ideal.norm() == pytest.approx(0.9, abs=0.25)


def test_blocks_must_fill_their_parameter():
    weight = nn.Parameter(torch.zeros(10))
    with pytest.raises(ValueError, match="do not fill"):
        Muon([(weight, ((3, 3),))], lr=0.1)


def test_every_parameter_has_one_optimizer(small_model):
    optimizers = make_optimizers(small_model, OptimizerConfig(steps=1000))
    owned = [
        id(parameter)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(owned) == sorted(id(p) for p in small_model.parameters())


def test_matrices_are_nearly_all_of_the_network(small_model):
    n_matrix = sum(parameter.numel() for parameter, _ in matrix_blocks(small_model))
    assert 0.9 < n_matrix / small_model.n_parameters < 1.0


def test_the_average_forgets_its_beginning(small_model):
    average, one = WeightAverage(small_model, 0.9), torch.ones((), dtype=torch.float64)
    weight = next(small_model.parameters())
    values = np.linspace(1.0, 2.0, 400)
    for value in values:
        with torch.no_grad():
            weight.fill_(value)
        average.follow(small_model, one)
    # At decay 0.9 the average lags a linear drift by 0.9/0.1 = 9 steps.
    found = next(average.module.parameters()).detach()
    np.testing.assert_allclose(found, values[-10], atol=1e-5)
    assert int(average.n_averaged) == 400


def test_the_average_begins_with_the_first_weights(small_model):
    average, one = WeightAverage(small_model, 0.9), torch.ones((), dtype=torch.float64)
    for value in (3.0, 5.0):
        with torch.no_grad():
            for weight in small_model.parameters():
                weight.fill_(value)
        average.follow(small_model, one)
        expected = {3.0: 3.0, 5.0: 3.0 + (1 - 2 / 11) * 2.0}[value]
        for weight in average.module.parameters():
            np.testing.assert_allclose(weight.detach(), expected, rtol=1e-6)
