"""C++ source of the depthwise product summed over edges, forward and backward.

The program is straight-line code for one choice of irreps: per edge, the harmonics are
contracted with the Wigner tensors to a few dozen distinct numbers ("couplings"), and a
sparse list of multiply-adds, vectorized over channels, does the rest. Nothing of the
size of a message is written to memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from trajcast_ase.network.irreps import (
    Irrep,
    Irreps,
    ProductRule,
    harmonics_irreps,
    slices,
)
from trajcast_ase.network.wigner import wigner_3j

# Wigner symbols are exact to a few ulp: smaller entries are zeros, and sums that agree
# to this many digits are one coupling.
DIGITS = 12

Sum = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One non-zero of the product: ``out[row] += w[path] sign couplings[index] x[k]``.

    `row` are array and number of an output row in C++, `k` is a component of the input.
    """

    row: str
    k: int
    index: int
    sign: str


NumberedPath = tuple[int, tuple[Term, ...]]


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
                row = f"out{b}, {position}"
                terms.append(Term(row, start + k, index_of[key], sign))
        paths.append(tuple(terms))
    return Program(tuple(couplings), tuple(paths))


def _sum(first: int, values: list[float]) -> tuple[Sum, Sum, str]:
    """Return rounded and exact terms with a positive leading one, and the sign."""
    exact = [(first + m, v) for m, v in enumerate(values) if round(v, DIGITS) != 0]
    sign = -1.0 if exact and exact[0][1] < 0 else 1.0
    exact = [(m, sign * v) for m, v in exact]
    key = tuple((m, round(v, DIGITS)) for m, v in exact)
    return key, tuple(exact), "-" if sign < 0 else "+"


def product_source(rule: ProductRule, n_channels: int, real: str) -> str:
    """Return the C++ program of a product for `real` = "float" or "double"."""
    return "\n".join(
        (
            vectors_code(n_channels, real),
            product_code("edge", rule),
            template("product.cpp"),
        )
    )


def vectors_code(n_channels: int, real: str) -> str:
    """Return what every kernel begins with."""
    return template("vectors.hpp", channels=n_channels, real=real)


def product_code(
    namespace: str, rule: ProductRule, outputs: Irreps | None = None
) -> str:
    """Return a product in C++; of `outputs` only, where they are given."""
    program, blocks = analyze(rule), rule.blocks
    wanted = [b for b, block in enumerate(blocks) if _is_in(block.irrep, outputs)]
    rows = [block.irrep.dim * block.n_paths for block in blocks]
    names = tuple(f"out{b}, " for b in wanted)
    paths = [
        (n, terms)
        for n, terms in enumerate(program.paths)
        if terms[0].row.startswith(names)
    ]
    return template(
        "product.hpp",
        namespace=namespace,
        harmonics=rule.n_harmonics,
        dim_in=rule.dim_in,
        paths=rule.n_paths,
        blocks=len(blocks),
        all_rows=sum(rows),
        rows=", ".join(map(str, rows)),
        couplings=len(program.couplings),
        couple="\n".join(_coupling(k, s) for k, s in enumerate(program.couplings)),
        name=_names(wanted, "real *__restrict"),
        name_const=_names(wanted, "const real *__restrict"),
        forward=_by_input(rule.irreps, paths, _forward),
        backward=_by_input(rule.irreps, paths, _backward),
    )


def template(file: str, /, **parts: object) -> str:
    """Return a C++ file of this folder with `parts` in place of their names."""
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    for key, part in parts.items():
        text = text.replace(f"@{key}@", str(part))
    return text


def _is_in(irrep: Irrep, irreps: Irreps | None) -> bool:
    return irreps is None or irrep in irreps


def _names(blocks: list[int], kind: str) -> str:
    return "\n".join(f"  {kind} out{b} = out[{b}];" for b in blocks)


def _coupling(index: int, terms: Sum) -> str:
    total = " + ".join(f"real({value!r}) * y[{m}]" for m, value in terms)
    return f"  m[{index}] = {total};"


def _by_input(
    irreps: Irreps,
    paths: list[NumberedPath],
    emit: Callable[[range, list[NumberedPath]], str],
) -> str:
    """Emit the paths of one input irrep after the other, to need few registers."""
    return "\n".join(
        emit(
            range(rows.start, rows.stop),
            [
                (n, terms)
                for n, terms in paths
                if terms[0].k in range(rows.start, rows.stop)
            ],
        )
        for rows in slices(irreps)
    )


def _forward(rows: range, paths: list[NumberedPath]) -> str:
    """Emit ``out[row] += w (M x)[row]`` for the paths from one input irrep."""
    lines = ["  {"]
    lines += [f"    const wide x{k} = get(x, {k});" for k in rows]
    for path, terms in paths:
        lines.append(f"    {{ const wide f = w({path});")
        for row, group in groupby(terms, key=attrgetter("row")):
            total = " ".join(f"{t.sign} m[{t.index}] * x{t.k}" for t in group)
            lines.append(f"      add({row}, f * ({total}));")
        lines.append("    }")
    return "\n".join([*lines, "  }"])


def _backward(rows: range, paths: list[NumberedPath]) -> str:
    """Emit ``u = M^T g``, ``grad_w += u x`` and ``grad_x += w u`` likewise."""
    lines = ["  {"]
    lines += [f"    const vec x{k} = at(x, {k});" for k in rows]
    lines += [f"    vec gx{k} = at(gx, {k});" for k in rows]
    for path, terms in paths:
        lines.append(
            f"    {{ const vec f = load(w + {path} * STRIDE); "
            f"vec d = load(gw + {path} * STRIDE), u;"
        )
        by_input = sorted(terms, key=attrgetter("k"))
        for k, group in groupby(by_input, key=attrgetter("k")):
            total = " ".join(f"{t.sign} m[{t.index}] * at({t.row})" for t in group)
            lines.append(f"      u = {total}; d += u * x{k}; gx{k} += f * u;")
        lines.append(f"      load(gw + {path} * STRIDE) = d; }}")
    lines += [f"    at(gx, {k}) = gx{k};" for k in rows]
    return "\n".join([*lines, "  }"])
