"""Triton source of the depthwise product summed over edges, forward and backward.

As :mod:`..cpu.generate_product`, straight-line code for one choice of irreps: per edge
the harmonics are contracted with the Wigner tensors to a few dozen numbers, and a
sparse list of multiply-adds does the rest. A program has one receiver and a slice of
the channels; every row of its sum is a variable, which a compiler keeps in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter

from trajcast_ase.network.inference.terms import Program, Sum, Term, analyze
from trajcast_ase.network.irreps import Irreps, OutputBlock, ProductRule, slices

MOST_ROWS = 128
"""Of the sums of one program: each takes a register of every thread, which has 255."""

FACTORS = """
t = tl.load(fractions + e).to(DTYPE)
a0 = -t * (t - 1) * (t - 2) / 6
a1 = (t + 1) * (t - 1) * (t - 2) / 2
a2 = -(t + 1) * t * (t - 2) / 2
a3 = (t + 1) * t * (t - 1) / 6
"""


@dataclass(frozen=True)
class ProductCode:
    """The kernels of one product.

    Attributes
    ----------
    rule : ProductRule
    outputs : Irreps
        Those that are computed.
    between : bool
        Whether weights lie between the rows of a table.
    rowwise : bool
        Whether every atom has one edge, to itself.
    """

    rule: ProductRule
    outputs: Irreps
    between: bool
    rowwise: bool

    @cached_property
    def program(self) -> Program:
        """Couplings and terms."""
        return analyze(self.rule)

    @cached_property
    def starts(self) -> dict[int, int]:
        """Rows of all atoms in front of each block that is computed, per atom."""
        starts, first = {}, 0
        for b, block in enumerate(self.rule.blocks):
            if block.irrep in self.outputs:
                starts[b] = first
                first += n_rows(block)
        return starts

    @property
    def n_rows(self) -> int:
        """Rows of an atom in all blocks that are computed."""
        return sum(n_rows(self.rule.blocks[b]) for b in self.starts)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Blocks whose sums are made by one program."""
        groups: list[list[int]] = []
        size = MOST_ROWS
        for b in self.starts:
            rows = n_rows(self.rule.blocks[b])
            if size + rows > MOST_ROWS:
                groups.append([])
                size = 0
            groups[-1].append(b)
            size += rows
        return tuple(map(tuple, groups))

    def forward(self, group: tuple[int, ...]) -> str:
        """Return the kernel that sums the rows of some blocks at each receiver."""
        lines = [
            "def product_forward(x, harmonics, weights, rows, fractions, offsets,",
            "                    senders, out, n_atoms, C: tl.constexpr,",
            "                    BLOCK: tl.constexpr):",
            *_indented(self._begin("i")),
        ]
        sums = [f"s{b}_{r}" for b in group for r in range(n_rows(self.rule.blocks[b]))]
        lines += [f"    {name} = zero" for name in sums]
        lines += _indented(self._loop("i"))
        lines += _indented(self._edge("senders", "e", "s"), 2)
        lines += _indented(self._by_input(group, self._forward_path, loads=True), 2)
        lines += _indented(self._store(group))
        return "\n".join(lines) + "\n"

    def backward(self) -> str:
        """Return the kernel of the gradients, which goes through senders.

        Weights have as many rows of gradients as there are edges.
        """
        rows = range(self.rule.dim_in)
        lines = [
            "def product_backward(x, harmonics, weights, rows, fractions, offsets,",
            "                     order, receivers, grad_out, grad_x, grad_weights,",
            "                     n_atoms, C: tl.constexpr, BLOCK: tl.constexpr):",
            *_indented(self._begin("s")),
            *(f"    x{k} = {_load(f'x + (s * {len(rows)} + {k}) * C')}" for k in rows),
            *(f"    g{k} = zero" for k in rows),
            *_indented(self._loop("s")),
            *_indented(self._edge("receivers", "tl.load(order + n)", "i"), 2),
            *_indented(self._by_input(tuple(self.starts), self._backward_path), 2),
            *(
                f"    tl.store(grad_x + (s * {len(rows)} + {k}) * C + c, g{k}, mask=m)"
                for k in rows
            ),
        ]
        return "\n".join(lines) + "\n"

    def _begin(self, atom: str) -> Iterator[str]:
        yield "DTYPE: tl.constexpr = x.dtype.element_ty"
        yield f"{atom} = tl.program_id(0).to(tl.int64)"
        yield "c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)"
        yield "m = c < C"
        yield "zero = tl.full((BLOCK,), 0.0, DTYPE)"

    def _loop(self, atom: str) -> Iterator[str]:
        if self.rowwise:
            yield "for n in range(1):"
        else:
            yield f"first = tl.load(offsets + {atom})"
            yield f"last = tl.load(offsets + {atom} + 1)"
            yield "for n in range(first, last):"

    def _edge(self, others: str, number: str, other: str) -> Iterator[str]:
        """Yield what is known of edge e: the other atom, weights, couplings."""
        if self.rowwise:
            mine = "i" if other == "s" else "s"
            yield f"e = {mine}"
            yield f"{other} = {mine}"
        else:
            yield f"e = {'n' if number == 'e' else number}"
            yield f"{other} = tl.load({others} + e)"
        yield f"w = weights + tl.load(rows + e) * {self.rule.n_paths} * C"
        if self.between:
            yield from FACTORS.strip().splitlines()
        for k in range(self.rule.n_harmonics):
            yield f"y{k} = tl.load(harmonics + e * {self.rule.n_harmonics} + {k})"
        for k, terms in enumerate(self.program.couplings):
            yield f"m{k} = {_coupling(terms)}"

    def _by_input(
        self,
        group: Sequence[int],
        emit: Callable[[int, tuple[Term, ...]], Iterator[str]],
        *,
        loads: bool = False,
    ) -> Iterator[str]:
        """Yield the paths of one input irrep after the other, to need few registers."""
        rule = self.rule
        for rows in slices(rule.irreps):
            inputs = range(rows.start, rows.stop)
            paths = [
                (number, terms)
                for number, terms in enumerate(self.program.paths)
                if terms[0].k in inputs and terms[0].block in group
            ]
            if loads and paths:
                for k in inputs:
                    yield f"x{k} = {_load(f'x + (s * {rule.dim_in} + {k}) * C')}"
            for number, terms in paths:
                yield f"f = {self._weight(number)}"
                yield from emit(number, terms)

    def _weight(self, path: int) -> str:
        if not self.between:
            return _load(f"w + {path} * C")
        places = (f"w + {path + k * self.rule.n_paths} * C" for k in range(4))
        return " + ".join(f"a{k} * {_load(at)}" for k, at in enumerate(places))

    def _forward_path(self, _: int, terms: tuple[Term, ...]) -> Iterator[str]:
        for (block, row), group in groupby(terms, key=attrgetter("block", "row")):
            yield f"s{block}_{row} += f * ({_total(group, 'x{0.k}')})"

    def _backward_path(self, path: int, terms: tuple[Term, ...]) -> Iterator[str]:
        block = terms[0].block
        for row in sorted({term.row for term in terms}):
            place = self._place(block, row, "i")
            yield f"o{row} = {_load(f'grad_out + {place}')}"
        yield "d = zero"
        by_input = sorted(terms, key=attrgetter("k"))
        for k, group in groupby(by_input, key=attrgetter("k")):
            yield f"u = {_total(group, 'o{0.row}')}"
            yield f"d += u * x{k}"
            yield f"g{k} += f * u"
        at = f"grad_weights + (e * {self.rule.n_paths} + {path}) * C"
        yield f"tl.store({at} + c, d, mask=m)"

    def _store(self, group: tuple[int, ...]) -> Iterator[str]:
        for b in group:
            for row in range(n_rows(self.rule.blocks[b])):
                place = self._place(b, row, "i")
                yield f"tl.store(out + {place} + c, s{b}_{row}, mask=m)"

    def _place(self, block: int, row: int, atom: str) -> str:
        """Return where a row of an atom begins: blocks of all atoms follow another."""
        rows = n_rows(self.rule.blocks[block])
        return f"({self.starts[block]} * n_atoms + {atom} * {rows} + {row}) * C"


def n_rows(block: OutputBlock) -> int:
    """Return the rows of an atom in a block of a product's output."""
    return block.irrep.dim * block.n_paths


def _coupling(terms: Sum) -> str:
    return " + ".join(f"{value!r} * y{k}" for k, value in terms)


def _total(terms: Iterable[Term], factor: str) -> str:
    """Return the signed sum of couplings times factors."""
    text = " ".join(f"{t.sign} m{t.index} * {factor.format(t)}" for t in terms)
    return text.removeprefix("+ ")


def _load(place: str) -> str:
    return f"tl.load({place} + c, mask=m, other=0.0)"


def _indented(lines: Iterable[str], depth: int = 1) -> Iterator[str]:
    return ("    " * depth + line for line in lines)
