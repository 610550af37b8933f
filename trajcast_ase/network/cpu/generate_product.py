"""C++ source of the depthwise product summed over edges, forward and backward.

The program is straight-line code for one choice of irreps: per edge, the harmonics are
contracted with the Wigner tensors to a few dozen distinct numbers ("couplings"), and a
sparse list of multiply-adds, vectorized over channels, does the rest. Nothing of the
size of a message is written to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from trajcast_ase.network.inference.terms import Sum, Term, analyze
from trajcast_ase.network.irreps import Irrep, Irreps, ProductRule, slices

NumberedPath = tuple[int, tuple[Term, ...]]


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
    paths = [
        (n, terms) for n, terms in enumerate(program.paths) if terms[0].block in wanted
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
        for (block, row), group in groupby(terms, key=attrgetter("block", "row")):
            total = " ".join(f"{t.sign} m[{t.index}] * x{t.k}" for t in group)
            lines.append(f"      add(out{block}, {row}, f * ({total}));")
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
            total = " ".join(
                f"{t.sign} m[{t.index}] * at(out{t.block}, {t.row})" for t in group
            )
            lines.append(f"      u = {total}; d += u * x{k}; gx{k} += f * u;")
        lines.append(f"      load(gw + {path} * STRIDE) = d; }}")
    lines += [f"    at(gx, {k}) = gx{k};" for k in rows]
    return "\n".join([*lines, "  }"])
