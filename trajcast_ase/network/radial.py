"""Functions of edge length and of speed."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Inverse rms of act(N(0, 1)), as the published network normalises its activations.
SILU_NORM = 1.6791767923989418
TANH_NORM = 1.5937334472592695
GAUSSIAN_NORM = 1.12
LENGTH_EPSILON = 1e-5


def polynomial_cutoff(x: Float[Tensor, " edges"], p: int) -> Float[Tensor, " edges"]:
    """Return the envelope that falls smoothly from 1 at x = 0 to 0 at x = 1."""
    envelope = (
        1.0
        - (p + 1.0) * (p + 2.0) / 2.0 * x**p
        + p * (p + 2.0) * x ** (p + 1)
        - p * (p + 1.0) / 2.0 * x ** (p + 2)
    )
    return torch.where(x < 1.0, envelope, torch.zeros_like(x))


class BesselBasis(nn.Module):
    """Bessel functions of the edge length with trainable roots and a cutoff.

    Network.md of the paper's methods: ``e_n(d) = (2/rc) sin(b_n d/rc)/(d + 1e-5) f``.
    """

    def __init__(self, n_basis: int, cutoff: float, p: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.p = p
        self.roots = nn.Parameter(math.pi * torch.arange(1, n_basis + 1).double())

    def forward(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges basis"]:
        """Return the basis functions at `lengths` (Å)."""
        x = lengths / self.cutoff
        envelope = polynomial_cutoff(x, self.p) * (2.0 / self.cutoff)
        amplitude = envelope / (lengths + LENGTH_EPSILON)
        return torch.sin(x[:, None] * self.roots) * amplitude[:, None]


class GaussianBasis(nn.Module):
    """Gaussians of the speed, centres between 0 and `maximum` without both ends."""

    centers: Tensor

    def __init__(self, n_basis: int, maximum: float) -> None:
        super().__init__()
        points = torch.linspace(0.0, maximum, n_basis + 2, dtype=torch.float64)
        self.width = float(points[1])
        self.register_buffer("centers", points[1:-1], persistent=False)
        self.scale = math.sqrt(n_basis) / GAUSSIAN_NORM

    def forward(self, speeds: Float[Tensor, " atoms"]) -> Float[Tensor, "atoms basis"]:
        """Return the Gaussians at `speeds`, in the units of `maximum`."""
        z = (speeds[:, None] - self.centers) / self.width
        return torch.exp(-(z**2)) * self.scale


class MLP(nn.Module):
    """Bias-free perceptron with normalised SiLU, linear in its last layer."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(n_in, n_out, dtype=torch.float64))
            for n_in, n_out in pairwise(widths)
        )

    def forward(self, x: Float[Tensor, "rows n_in"]) -> Float[Tensor, "rows n_out"]:
        """Return the perceptron's output."""
        # Each product is divided by the root of its fan-in; scaling the activations
        # is cheaper than scaling the weights.
        norm = 1.0
        for k, weight in enumerate(self.weights):
            if k > 0:
                x, norm = nn.functional.silu(x), SILU_NORM
            x = (x * (norm / math.sqrt(weight.shape[0]))) @ weight
        return x
