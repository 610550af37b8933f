"""Irreducible representations of O(3) as the network orders and couples them.

Node features are tensors ``(n_atoms, dim, n_channels)``, channels last: the rows run
over the irreps in sorted order 0o 0e 1o 1e 2o 2e ..., each with its 2l + 1 components.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Irrep:
    """Angular momentum `l` and parity `p` (-1 odd, +1 even); odd sorts first."""

    l: int  # noqa: E741  the symbol of the field
    p: int

    @property
    def dim(self) -> int:
        """Number of components, 2l + 1."""
        return 2 * self.l + 1

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p > 0 else 'o'}"


Irreps = tuple[Irrep, ...]
Parity = Literal["both", "natural"]
"""Which features a product may give: all, or those with the parity of the harmonics."""


def dimension(irreps: Irreps) -> int:
    """Return the number of components of all irreps together."""
    return sum(irrep.dim for irrep in irreps)


def slices(irreps: Irreps) -> tuple[slice, ...]:
    """Return the rows that each irrep occupies."""
    ends = tuple(accumulate(irrep.dim for irrep in irreps))
    return tuple(slice(end - ir.dim, end) for end, ir in zip(ends, irreps, strict=True))


def harmonics_irreps(lmax: int) -> Irreps:
    """Return the irreps of spherical harmonics up to `lmax`."""
    return tuple(Irrep(degree, (-1) ** degree) for degree in range(lmax + 1))


def all_irreps(lmax: int) -> Irreps:
    """Return both parities of every l up to `lmax`."""
    return tuple(Irrep(degree, p) for degree in range(lmax + 1) for p in (-1, 1))


@dataclass(frozen=True, slots=True)
class Path:
    """One coupling of input block `block` with harmonic `harmonic` to irrep `out`."""

    block: int
    harmonic: int
    out: Irrep


def product_paths(
    irreps: Irreps, lmax: int, parity: Parity = "both"
) -> tuple[Path, ...]:
    """Return the paths of `irreps` times harmonics, sorted by output irrep.

    The order within an output irrep is that of input block, then harmonic; radial
    weights are consumed in this order (arXiv:2503.23794; e3nn's convention).
    """
    natural = harmonics_irreps(lmax)
    paths = [
        Path(block, j, Irrep(l_out, irrep.p * (-1) ** j))
        for block, irrep in enumerate(irreps)
        for j in range(lmax + 1)
        for l_out in range(abs(irrep.l - j), min(irrep.l + j, lmax) + 1)
    ]
    if parity == "natural":
        paths = [path for path in paths if path.out in natural]
    return tuple(sorted(paths, key=lambda path: path.out))


def path_irreps(paths: tuple[Path, ...]) -> Irreps:
    """Return the distinct output irreps of `paths`, sorted."""
    return tuple(sorted({path.out for path in paths}))


@dataclass(frozen=True, slots=True)
class OutputBlock:
    """The paths to one output irrep, which are adjacent: `first`, `first + 1`, ...

    Their outputs share a tensor ``(n_rows, irrep.dim, n_paths * n_channels)``.
    """

    irrep: Irrep
    first: int
    n_paths: int


def output_blocks(paths: tuple[Path, ...]) -> tuple[OutputBlock, ...]:
    """Return the blocks of a product's output, one per distinct irrep."""
    outs = [path.out for path in paths]
    return tuple(
        OutputBlock(irrep, outs.index(irrep), outs.count(irrep))
        for irrep in path_irreps(paths)
    )


@dataclass(frozen=True)
class ProductRule:
    """What a depthwise product of features with harmonics couples.

    Attributes
    ----------
    irreps : Irreps
        Of the features.
    lmax : int
        Of the harmonics and of what comes out.
    parity : "both" or "natural"
    """

    irreps: Irreps
    lmax: int
    parity: Parity = "both"

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """Each has one weight per channel; see :func:`product_paths`."""
        return product_paths(self.irreps, self.lmax, self.parity)

    @cached_property
    def blocks(self) -> tuple[OutputBlock, ...]:
        """Layout of the output."""
        return output_blocks(self.paths)

    @cached_property
    def irreps_out(self) -> Irreps:
        """Distinct irreps of the output."""
        return path_irreps(self.paths)

    @cached_property
    def dim_in(self) -> int:
        """Components of the features."""
        return dimension(self.irreps)

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return len(self.paths)

    @property
    def n_harmonics(self) -> int:
        """Number of harmonics."""
        return (self.lmax + 1) ** 2
