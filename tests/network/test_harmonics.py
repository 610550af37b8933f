"""Spherical and solid harmonics against e3nn."""

import pytest
import torch
from e3nn import o3
from helpers import TOLERANCES, normal, relative_error

from trajcast_ase.network.harmonics import spherical_harmonics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("lmax", range(5))
def test_harmonics_equal_e3nn(lmax, normalize, dtype):
    vectors = normal(40, 3, seed=lmax, dtype=dtype)
    expected = o3.spherical_harmonics(
        list(range(lmax + 1)), vectors, normalize, normalization="component"
    )
    ours = spherical_harmonics(vectors, lmax, normalize=normalize)
    assert ours.dtype == dtype
    assert relative_error(ours, expected) < TOLERANCES[dtype]["twin"]


@pytest.mark.parametrize("degree", range(5))
def test_component_normalization(degree):
    harmonics = spherical_harmonics(normal(20, 3), 4, normalize=True)
    squares = harmonics[:, degree**2 : (degree + 1) ** 2].square().sum(1)
    assert relative_error(squares, torch.full_like(squares, 2 * degree + 1)) < 1e-12


@pytest.mark.parametrize("normalize", [True, False])
def test_zero_vector_has_only_the_scalar(normalize):
    vectors = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    harmonics = spherical_harmonics(vectors, 3, normalize=normalize)
    assert harmonics[0].tolist() == [1.0] + [0.0] * 15
    (gradient,) = torch.autograd.grad(harmonics.sum(), vectors)
    assert bool(torch.isfinite(gradient).all())


def test_solid_harmonics_scale_with_the_power_of_the_length():
    vectors = normal(10, 3)
    one = spherical_harmonics(vectors, 4, normalize=False)
    two = spherical_harmonics(2.0 * vectors, 4, normalize=False)
    powers = torch.cat([torch.full((2 * d + 1,), 2.0**d) for d in range(5)])
    assert relative_error(two, one * powers) < 1e-14


def test_directions_do_not_depend_on_the_length():
    vectors = normal(10, 3)
    tiny = spherical_harmonics(1e-12 * vectors, 4, normalize=True)
    assert relative_error(tiny, spherical_harmonics(vectors, 4, normalize=True)) < 1e-14
