"""Real spherical and solid harmonics: component normalisation, e3nn's order."""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from trajcast_ase.network.wigner import wigner_3j


def spherical_harmonics(
    vectors: Float[Tensor, "rows 3"], lmax: int, *, normalize: bool
) -> Float[Tensor, "rows dim"]:
    """Return Y_0 ... Y_lmax of `vectors`, concatenated along the components.

    Parameters
    ----------
    vectors : (n, 3)
    lmax : int
    normalize : bool
        True: of the directions, where ``|Y_l|² = 2l + 1``; the zero vector gives
        zero for l > 0. False: the solid harmonics ``|v|^l Y_l(v/|v|)``.

    Returns
    -------
    (n, (lmax + 1)²)
    """
    if normalize:
        vectors = torch.nn.functional.normalize(vectors, dim=1, eps=1e-30)
    x, y, z = vectors.unbind(dim=1)
    parts = [torch.ones_like(x)[:, None]]
    if lmax >= 1:
        parts.append(math.sqrt(3.0) * vectors)
    if lmax >= 2:  # noqa: PLR2004
        parts.append(
            math.sqrt(15.0)
            * torch.stack(
                [
                    x * z,
                    x * y,
                    (y * y - 0.5 * (x * x + z * z)) / math.sqrt(3.0),
                    y * z,
                    0.5 * (z * z - x * x),
                ],
                dim=1,
            )
        )
    for degree in range(3, lmax + 1):
        parts.append(_next_degree(vectors, parts[-1], degree))
    return torch.cat(parts, dim=1)


def _next_degree(
    vectors: Float[Tensor, "rows 3"], previous: Float[Tensor, "rows dim"], degree: int
) -> Float[Tensor, "rows next"]:
    """Return Y_l by coupling Y_(l-1) with the vector to the highest degree."""
    coupling = _coupling(degree, vectors.dtype, vectors.device)
    return torch.einsum("ni,nj,ijk->nk", vectors, previous, coupling)


def next_degree(degree: int) -> Float[Tensor, "3 previous next"]:
    """Return what couples a vector and its Y_(l-1) to Y_l, float64."""
    coupling = wigner_3j(1, degree - 1, degree)
    # At the y axis only the middle component is non-zero: sqrt(2l + 1) there.
    at_axis = coupling[1, degree - 1, degree] * math.sqrt(2 * degree - 1)
    return coupling * (math.sqrt(2 * degree + 1) / at_axis)


@cache
def _coupling(
    degree: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "3 previous next"]:
    """Return :func:`next_degree` on a device.

    Kept, since a CUDA graph cannot be captured while the host copies to the device.
    """
    with torch.inference_mode(mode=False):  # for those who need a gradient later, too
        return next_degree(degree).to(dtype=dtype, device=device)
