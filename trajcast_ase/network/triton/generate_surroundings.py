"""Triton source of the sums over all atoms and images within a cutoff.

A program has one atom and a slice of the channels. It goes through the atoms of the
system, some at a time, and through all their images that can be near; every harmonic
has its sum. No list of pairs is made, and no pair counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from trajcast_ase.network.harmonics import next_degree
from trajcast_ase.network.inference.terms import DIGITS

HEAD = """
def surroundings(positions, species, systems, offsets, cells, inverses, reaches, counts,
                 faults, values, out, C: tl.constexpr, BLOCK: tl.constexpr,
                 START: tl.constexpr, STEP: tl.constexpr, N_INTERVALS: tl.constexpr,
                 END: tl.constexpr, ATOMS: tl.constexpr):
    DTYPE: tl.constexpr = values.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m = c < C
    s = tl.load(systems + i)
    p0 = tl.load(positions + i * 3)
    p1 = tl.load(positions + i * 3 + 1)
    p2 = tl.load(positions + i * 3 + 2)
"""
ATOMS = """
    first = tl.load(offsets + s)
    last = tl.load(offsets + s + 1)
    for start in range(first, last, ATOMS):
        j = start + tl.arange(0, ATOMS)
        there = j < last
        d0 = tl.load(positions + j * 3, mask=there, other=0.0) - p0
        d1 = tl.load(positions + j * 3 + 1, mask=there, other=0.0) - p1
        d2 = tl.load(positions + j * 3 + 2, mask=there, other=0.0) - p2
        table = tl.load(species + j, mask=there, other=0) * (N_INTERVALS + 3)
"""
IMAGES = """
        for n0 in range(tl.load(counts + s * 3)):
            for n1 in range(tl.load(counts + s * 3 + 1)):
                for n2 in range(tl.load(counts + s * 3 + 2)):
                    k0 = low0 + n0
                    k1 = low1 + n1
                    k2 = low2 + n2
"""
PAIR = """
square = v0 * v0 + v1 * v1 + v2 * v2
here = (k0 == 0) & (k1 == 0) & (k2 == 0)
near = there & (square < END * END) & ((j != i) | (here == 0))
length = tl.sqrt(square)
scaled = (tl.minimum(length, END) - START) / STEP
whole = tl.where(scaled >= 0, tl.floor(scaled), 0.0)
row = tl.minimum(whole.to(tl.int64), N_INTERVALS - 1)
t = (scaled - row).to(DTYPE)
a0 = (-t * (t - 1) * (t - 2) / 6)[:, None]
a1 = ((t + 1) * (t - 1) * (t - 2) / 2)[:, None]
a2 = (-(t + 1) * t * (t - 2) / 2)[:, None]
a3 = ((t + 1) * t * (t - 1) / 6)[:, None]
inverse = 1.0 / tl.maximum(length, 1e-30)
x0 = (v0 * inverse).to(DTYPE)
x1 = (v1 * inverse).to(DTYPE)
x2 = (v2 * inverse).to(DTYPE)
both = near[:, None] & m[None, :]
"""
TAIL = """
    ones = tl.full((16, ATOMS), 1.0, DTYPE)
    only = (tl.arange(0, 16) == 0)[:, None] & m[None, :]
    nothing = tl.arange(0, 16)[:, None] * 0
"""


@cache
def surroundings_source(lmax: int) -> str:
    """Return the kernel of the sums up to `lmax`."""
    return "\n".join(_lines(lmax)) + "\n"


def _lines(lmax: int) -> Iterator[str]:
    n_harmonics = (lmax + 1) ** 2
    yield HEAD.strip("\n")
    for k in range(3):
        for axis in range(3):
            yield f"    c{k}{axis} = tl.load(cells + s * 9 + {3 * k + axis})"
            yield f"    b{axis}{k} = tl.load(inverses + s * 9 + {3 * axis + k})"
        yield f"    r{k} = tl.load(reaches + s * 3 + {k})"
    yield "    nothing = tl.load(faults + s).to(DTYPE)"
    for k in range(n_harmonics):
        yield f"    s{k} = tl.full((ATOMS, BLOCK), 0.0, DTYPE) + nothing"
    yield ATOMS.strip("\n")
    for k in range(3):
        scaled = " + ".join(f"d{axis} * b{axis}{k}" for axis in range(3))
        yield f"        low{k} = tl.ceil(-r{k} - ({scaled}))"
    yield IMAGES.strip("\n")
    deep = " " * 20
    for axis in range(3):
        image = " + ".join(f"k{k} * c{k}{axis}" for k in range(3))
        yield f"{deep}v{axis} = d{axis} + ({image})"
    for line in (*PAIR.strip().splitlines(), *_harmonics(lmax), *_sums(lmax)):
        yield deep + line
    yield TAIL.strip("\n")
    for k in range(n_harmonics):
        # A sum over atoms: the language's own is not a builtin.
        product = f"tl.dot(ones, s{k}, input_precision='ieee', out_dtype=DTYPE)"
        yield f"    all{k} = {product}"
        place = f"out + (i * {n_harmonics} + {k}) * C + c[None, :] + nothing"
        yield f"    tl.store({place}, all{k}, mask=only)"


def _harmonics(lmax: int) -> Iterator[str]:
    """Yield the real harmonics of the direction ``x0, x1, x2``."""
    before = [""]
    for degree in range(1, lmax + 1):
        names = [f"y{degree**2 + k}" for k in range(2 * degree + 1)]
        if degree == 1:
            for k, name in enumerate(names):
                yield f"{name} = {3**0.5!r} * x{k}"
        else:
            coupling = next_degree(degree).tolist()
            for k, name in enumerate(names):
                terms = (
                    f"{coupling[i][j][k]!r} * x{i} * {other}"
                    for j, other in enumerate(before)
                    for i in range(3)
                    if round(coupling[i][j][k], DIGITS) != 0
                )
                yield f"{name} = {' + '.join(terms)}"
        before = names


def _sums(lmax: int) -> Iterator[str]:
    """Yield the weights of each degree, times its harmonics."""
    for degree in range(lmax + 1):
        for k in range(4):
            at = f"values + ((table + row + {k}) * {lmax + 1} + {degree})[:, None] * C"
            yield f"w{k} = tl.load({at} + c[None, :], mask=both, other=0.0)"
        yield "w = a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3"
        for k in range(degree**2, (degree + 1) ** 2):
            yield f"s{k} += w" if k == 0 else f"s{k} += w * y{k}[:, None]"
