"""Kernels that do not depend on the irreps of a network, in Triton.

They are Python functions here; :func:`.programs.program` compiles or interprets them.
Only builtins of the language are used, and no functions of our own: what its library
defines is compiled or interpreted once and for all when Triton is imported.
"""

# ruff: noqa: ANN001, ANN201, PLR0917, PLR2004
from __future__ import annotations

import triton.language as tl

from trajcast_ase.network import radial

SILU_NORM = tl.constexpr(radial.SILU_NORM)
TANH_NORM = tl.constexpr(radial.TANH_NORM)
ROOT_HALF = tl.constexpr(0.5**0.5)


def places(
    values,
    groups,
    rows,
    fractions,
    n_values,
    START: tl.constexpr,
    STEP: tl.constexpr,
    N_INTERVALS: tl.constexpr,
    GROUPED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Find where in the tables of a grid some values lie, as ``Grid.places``."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = n < n_values
    scaled = (tl.load(values + n, mask=m, other=0.0).to(tl.float64) - START) / STEP
    # Written so that what is not a number stays so.
    scaled = tl.where(scaled > N_INTERVALS, N_INTERVALS * 1.0, scaled)
    whole = tl.where(scaled >= 0, tl.floor(scaled), 0.0)
    row = tl.minimum(whole.to(tl.int64), N_INTERVALS - 1)
    fraction = scaled - row
    if GROUPED:
        row += tl.load(groups + n, mask=m, other=0) * (N_INTERVALS + 3)
    tl.store(rows + n, row, mask=m)
    tl.store(fractions + n, fraction, mask=m)


def linear(
    a,
    matrices,
    out,
    plan,
    n_atoms,
    C: tl.constexpr,
    DIM_OUT: tl.constexpr,
    COLUMNS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Map the blocks of a product linearly, one matrix for each irrep.

    A program has `M` rows, components of atoms, and `N` columns of one irrep. The plan
    has five numbers for each irrep: components, paths, rows of an atom in front of its
    block, elements in front of its matrix, and the first component of the output.
    """
    plan += tl.program_id(2) * 5
    dim, start = tl.load(plan), tl.load(plan + 2)
    depth, to = tl.load(plan + 1) * C, tl.load(plan + 4)
    a += start * n_atoms * C
    matrices += tl.load(plan + 3)
    rows = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    some, few = rows < n_atoms * dim, columns < COLUMNS
    if tl.program_id(0) * M < n_atoms * dim:
        sums = tl.full((M, N), 0.0, a.dtype.element_ty)
        for first in range(0, depth, K):
            k = first + tl.arange(0, K)
            left = tl.load(
                a + rows[:, None] * depth + k[None, :],
                mask=some[:, None] & (k < depth)[None, :],
                other=0.0,
            )
            right = tl.load(
                matrices + k[:, None] * COLUMNS + columns[None, :],
                mask=(k < depth)[:, None] & few[None, :],
                other=0.0,
            )
            sums = tl.dot(
                left, right, sums, input_precision=PRECISION, out_dtype=sums.dtype
            )
        place = (rows // dim * DIM_OUT + to + rows % dim) * COLUMNS
        tl.store(
            out + place[:, None] + columns[None, :],
            sums,
            mask=some[:, None] & few[None, :],
        )


def finish(
    a,
    matrices,
    even,
    x,
    residuals,
    species,
    out,
    plan,
    n_atoms,
    C: tl.constexpr,
    DIM_IN: tl.constexpr,
    DIM_OUT: tl.constexpr,
    EVEN_COLUMNS: tl.constexpr,
    N_SPECIES: tl.constexpr,
    N_RESIDUALS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Map the second product linearly, apply gates, and add the residual.

    As :func:`linear`; for each irrep of the output the plan has nine numbers:
    components, paths (none for even scalars, which are in `even` already), rows in
    front of its block, elements in front of its matrix, first component of the output,
    kind (0 even scalars, 1 odd ones, 2 gated), column of its gate in `even` in units of
    the channels, number of its residual or -1, and first component of the input.
    """
    plan += tl.program_id(2) * 9
    dim, start = tl.load(plan), tl.load(plan + 2)
    depth, to, kind = tl.load(plan + 1) * C, tl.load(plan + 4), tl.load(plan + 5)
    gate_column, residual = tl.load(plan + 6) * C, tl.load(plan + 7)
    a += start * n_atoms * C
    matrices += tl.load(plan + 3)
    rows = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    some, few = rows < n_atoms * dim, columns < C
    both = some[:, None] & few[None, :]
    atoms = rows // dim
    if tl.program_id(0) * M < n_atoms * dim:
        sums = tl.full((M, N), 0.0, a.dtype.element_ty)
        for first in range(0, depth, K):
            k = first + tl.arange(0, K)
            left = tl.load(
                a + rows[:, None] * depth + k[None, :],
                mask=some[:, None] & (k < depth)[None, :],
                other=0.0,
            )
            right = tl.load(
                matrices + k[:, None] * C + columns[None, :],
                mask=(k < depth)[:, None] & few[None, :],
                other=0.0,
            )
            sums = tl.dot(
                left, right, sums, input_precision=PRECISION, out_dtype=sums.dtype
            )
        gates = gate_column + columns
        g = tl.load(
            even + atoms[:, None] * EVEN_COLUMNS + gates[None, :],
            mask=both & (gates < EVEN_COLUMNS)[None, :],
            other=0.0,
        )
        g = SILU_NORM * g / (1.0 + tl.exp(-g))
        # tanh is in no builtin; of sizes the exponential cannot overflow.
        shrunk = tl.exp(-2.0 * tl.abs(sums))
        tanh = (1.0 - shrunk) / (1.0 + shrunk)
        tanh = TANH_NORM * tl.where(sums < 0, -tanh, tanh)
        scalars = ROOT_HALF * tl.where(kind == 0, g, tanh)
        total = tl.where(kind == 2, sums * g, scalars)
        own = tl.load(species + atoms, mask=some, other=-1)
        component = tl.load(plan + 8) + rows % dim
        old = x + (atoms * DIM_IN + component) * C
        n_kinds = tl.where(residual < 0, 0, N_SPECIES)
        for t in range(n_kinds):
            mine = some & (own == t)
            matrix = residuals + (t * N_RESIDUALS + residual) * C * C
            for begin in range(0, C, K):
                q = begin + tl.arange(0, K)
                features = tl.load(
                    old[:, None] + q[None, :],
                    mask=mine[:, None] & (q < C)[None, :],
                    other=0.0,
                )
                square = tl.load(
                    matrix + q[:, None] * C + columns[None, :],
                    mask=(q < C)[:, None] & few[None, :],
                    other=0.0,
                )
                total = tl.dot(
                    features,
                    square,
                    total,
                    input_precision=PRECISION,
                    out_dtype=total.dtype,
                )
        place = (atoms * DIM_OUT + to + rows % dim) * C
        tl.store(out + place[:, None] + columns[None, :], total, mask=both)


def sum_rows(
    values,
    order,
    firsts,
    rows,
    fractions,
    out,
    COLUMNS: tl.constexpr,
    BETWEEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sum rows of gradients at the rows of weights, or of a table, that they used.

    Edges are sorted by row: those that use row r of a table begin one to three rows in
    front of it, or there.
    """
    r = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m = c < COLUMNS
    total = tl.full((BLOCK,), 0.0, values.dtype.element_ty)
    first = tl.load(firsts + r)
    if BETWEEN:
        first = tl.load(firsts + tl.maximum(r - 3, 0))
    for n in range(first, tl.load(firsts + r + 1)):
        e = tl.load(order + n)
        value = tl.load(values + e * COLUMNS + c, mask=m, other=0.0)
        if BETWEEN:
            t = tl.load(fractions + e).to(total.dtype)
            k = r - tl.load(rows + e)
            low = tl.where(k == 0, -t * (t - 1) * (t - 2) / 6, 0.0)
            low += tl.where(k == 1, (t + 1) * (t - 1) * (t - 2) / 2, 0.0)
            high = tl.where(k == 2, -(t + 1) * t * (t - 2) / 2, 0.0)
            high += tl.where(k == 3, (t + 1) * t * (t - 1) / 6, 0.0)
            value *= low + high
        total += value
    tl.store(out + r * COLUMNS + c, total, mask=m)
