"""What backends with kernels for the product share: when a kernel takes its place."""

from __future__ import annotations

from typing import ClassVar, Protocol

from jaxtyping import Float
from torch import Tensor

from trajcast_ase.network.backend import Backend
from trajcast_ase.network.irreps import ProductRule
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows


class ProductKernels(Protocol):
    """The product by its rule, differentiable by features and weights."""

    def convolve(
        self,
        rule: ProductRule,
        x: Float[Tensor, "atoms dim channels"],
        harmonics: Float[Tensor, "edges harmonics"],
        weights: WeightRows,
        routes: Routes,
        /,
    ) -> tuple[Float[Tensor, "atoms _ _"], ...]:
        """Return the product of the senders' features, summed at the receivers."""

    def rowwise(
        self,
        rule: ProductRule,
        x: Float[Tensor, "rows dim channels"],
        harmonics: Float[Tensor, "rows harmonics"],
        weights: Float[Tensor, "rows paths channels"],
        /,
    ) -> tuple[Float[Tensor, "rows _ _"], ...]:
        """Return the product of each row with its own harmonics and weights."""


class KernelBackend(Backend):
    """A backend with kernels for the product; torch keeps gradients of harmonics.

    Attributes
    ----------
    products : ProductKernels
    """

    products: ClassVar[ProductKernels]

    def convolve(
        self,
        product: DepthwiseProduct,
        x: Float[Tensor, "atoms dim channels"],
        harmonics: Float[Tensor, "edges harmonics"],
        weights: WeightRows,
        routes: Routes,
    ) -> tuple[Float[Tensor, "atoms _ _"], ...]:
        """Return the product of the senders' features, summed at the receivers."""
        if harmonics.requires_grad:
            return super().convolve(product, x, harmonics, weights, routes)
        return self.products.convolve(product.rule, x, harmonics, weights, routes)

    def rowwise(
        self,
        product: DepthwiseProduct,
        x: Float[Tensor, "rows dim channels"],
        harmonics: Float[Tensor, "rows harmonics"],
        weights: Float[Tensor, "rows paths channels"],
    ) -> tuple[Float[Tensor, "rows _ _"], ...]:
        """Return the product of each row with its own harmonics and weights."""
        if harmonics.requires_grad:
            return super().rowwise(product, x, harmonics, weights)
        return self.products.rowwise(product.rule, x, harmonics, weights)
