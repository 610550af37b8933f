"""The depthwise product as a list of terms: couplings, and who multiplies whom.

Per row the harmonics are contracted with the Wigner tensors to a few dozen distinct
numbers ("couplings"); a sparse list of multiply-adds does the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trajcast_ase.network.irreps import ProductRule, harmonics_irreps, slices
from trajcast_ase.network.wigner import wigner_3j

# Wigner symbols are exact to a few ulp: smaller entries are zeros, and sums that agree
# to this many digits are one coupling.
DIGITS = 12

Sum = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One non-zero: ``out[block][row] += w[path] sign couplings[index] x[k]``.

    `k` is a component of the input; rows of a block run over components, then paths.
    """

    block: int
    row: int
    k: int
    index: int
    sign: str


@dataclass(frozen=True, slots=True)
class Program:
    """The couplings as sums over harmonics, and the terms of each path."""

    couplings: tuple[Sum, ...]
    paths: tuple[tuple[Term, ...], ...]


def analyze(rule: ProductRule) -> Program:
    """Return the distinct couplings and the sparse terms of all paths."""
    index_of: dict[Sum, int] = {}
    couplings: list[Sum] = []
    paths = []
    irreps, harmonics = rule.irreps, slices(harmonics_irreps(rule.lmax))
    for number, path in enumerate(rule.paths):
        b, block = next(
            (b, o) for b, o in enumerate(rule.blocks) if o.irrep == path.out
        )
        irrep, start = irreps[path.block], slices(irreps)[path.block].start
        symbol = wigner_3j(irrep.l, path.harmonic, path.out.l) * math.sqrt(path.out.dim)
        terms = []
        for component in range(path.out.dim):
            for k in range(irrep.dim):
                values = symbol[k, :, component].tolist()
                key, sum_, sign = _sum(harmonics[path.harmonic].start, values)
                if not key:
                    continue
                if key not in index_of:
                    index_of[key] = len(couplings)
                    couplings.append(sum_)
                position = component * block.n_paths + number - block.first
                terms.append(Term(b, position, start + k, index_of[key], sign))
        paths.append(tuple(terms))
    return Program(tuple(couplings), tuple(paths))


def _sum(first: int, values: list[float]) -> tuple[Sum, Sum, str]:
    """Return rounded and exact terms with a positive leading one, and the sign."""
    exact = [(first + m, v) for m, v in enumerate(values) if round(v, DIGITS) != 0]
    sign = -1.0 if exact and exact[0][1] < 0 else 1.0
    exact = [(m, sign * v) for m, v in exact]
    key = tuple((m, round(v, DIGITS)) for m, v in exact)
    return key, tuple(exact), "-" if sign < 0 else "+"
