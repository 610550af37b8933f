"""Which implementation computes the products of a network.

"reference" are the torch operations of :class:`DepthwiseProduct`, for any device and
every derivative. "cpp" is a kernel that is compiled on demand, runs on the CPU and
differentiates once with respect to features and weights; products whose harmonics
carry a gradient stay with the reference.
"""

from __future__ import annotations

import logging
from typing import Literal, get_args

from torch import nn

from trajcast_ase.network.kernels.build import CompilerError, check_kernels
from trajcast_ase.network.product import Backend, DepthwiseProduct

logger = logging.getLogger(__name__)

BackendChoice = Literal["auto", "reference", "cpp"]


def set_backend(network: nn.Module, choice: BackendChoice) -> None:
    """Choose the backend of every product in `network`.

    Parameters
    ----------
    choice : "auto", "reference" or "cpp"
        "auto" is "cpp" for a network on the CPU if kernels can be compiled and
        loaded, else "reference", with a warning.

    Raises
    ------
    ValueError
        `choice` is unknown, or "cpp" for a network on another device.
    CompilerError
        "cpp" where kernels cannot be compiled or loaded.
    """
    if choice not in get_args(BackendChoice):
        raise ValueError(
            f"unknown backend {choice!r}; choose 'auto', 'reference' or 'cpp'"
        )
    products = [m for m in network.modules() if isinstance(m, DepthwiseProduct)]
    devices = {product.coupling.device.type for product in products}
    backend = _automatic(devices) if choice == "auto" else choice
    if backend == "cpp" and devices - {"cpu"}:
        raise ValueError(
            f"the backend 'cpp' computes on the CPU, the model is on {min(devices)}; "
            "move it or use the backend 'reference'"
        )
    if backend == "cpp" and choice == "cpp":
        check_kernels()
    for product in products:
        product.backend = backend


def backend_of(network: nn.Module) -> Backend:
    """Return what computes the products in `network`: on other devices no kernel."""
    products = (m for m in network.modules() if isinstance(m, DepthwiseProduct))
    first = next(products)
    return first.backend if first.coupling.device.type == "cpu" else "reference"


def _automatic(devices: set[str]) -> Backend:
    if devices != {"cpu"}:
        return "reference"
    try:
        check_kernels()
    except CompilerError as error:
        warn_of_reference(error)
        return "reference"
    return "cpp"


def warn_of_reference(error: CompilerError) -> None:
    """Log why a network computes with the reference though "cpp" would be faster."""
    logger.warning(
        "computing with the backend 'reference', ten times slower: %s", error
    )
