"""C++ source of a whole message-passing layer without gradients.

The two products come from :mod:`.generate_product`, the loops from ``layer.cpp``. What
is written here are the linear maps, gates and residuals, irrep by irrep.
"""

from __future__ import annotations

from itertools import accumulate

from trajcast_ase.network.cpu.generate_product import (
    product_code,
    template,
    vectors_code,
)
from trajcast_ase.network.inference.shape import EVEN, ODD, LayerShape
from trajcast_ase.network.irreps import OutputBlock, slices
from trajcast_ase.network.radial import SILU_NORM, TANH_NORM

ATOMS_AT_A_TIME = 12
"""About as many; more reuse the matrices better, fewer leave more in the cache."""


def layer_source(shape: LayerShape, real: str) -> str:
    """Return the C++ program of a layer for `real` = "float" or "double"."""
    return "\n".join(
        (
            vectors_code(shape.n_channels, real),
            product_code("edge", shape.edge),
            product_code("velocity", shape.velocity, shape.updated),
            template("layer.hpp"),
            template(
                "layer.cpp",
                atoms=ATOMS_AT_A_TIME,
                dim_out=shape.dim_out,
                dim_gated=sum(ir.dim for ir in shape.outputs if ir != EVEN),
                even_columns=shape.even_columns,
                residuals=len(shape.residuals),
                silu_norm=repr(SILU_NORM),
                tanh_norm=repr(TANH_NORM),
                contract=_contract(shape),
                update=_update(shape),
                finish=_finish(shape),
            ),
        )
    )


def _contract(shape: LayerShape) -> str:
    blocks = shape.edge.blocks
    sizes = [block.n_paths * shape.n_channels**2 for block in blocks]
    return "\n".join(
        f"  linear<{block.irrep.dim}>({_products(blocks, b)}, "
        f"{block.n_paths} * CHANNELS, layer.contraction + {start}, CHANNELS, n, "
        f"middle + {rows.start} * CHANNELS, DIM_MIDDLE * CHANNELS);"
        for b, (block, start, rows) in enumerate(
            zip(blocks, _starts(sizes), slices(shape.velocity.irreps), strict=True)
        )
    )


def _update(shape: LayerShape) -> str:
    blocks = shape.velocity.blocks
    lines, start, gated_rows = [], 0, 0
    for b, block in enumerate(blocks):
        if block.irrep not in shape.updated:
            continue
        columns, out = 1, f"gated + {gated_rows} * ATOMS * CHANNELS"
        if block.irrep == EVEN:
            columns, out = shape.even_columns, "even"
        else:
            gated_rows += block.irrep.dim
        lines.append(
            f"  linear<{block.irrep.dim}>({_products(blocks, b)}, "
            f"{block.n_paths} * CHANNELS, layer.update + {start}, "
            f"{columns} * CHANNELS, n, {out}, "
            f"{block.irrep.dim * columns} * CHANNELS);"
        )
        start += block.n_paths * columns * shape.n_channels**2
    return "\n".join(lines)


def _finish(shape: LayerShape) -> str:
    rows_in = dict(zip(shape.irreps_in, slices(shape.irreps_in), strict=True))
    gate = int(EVEN in shape.outputs)
    lines, gated_rows = [], 0
    for irrep, rows in zip(shape.outputs, slices(shape.outputs), strict=True):
        out = f"fresh + {rows.start} * CHANNELS"
        if irrep in shape.residuals:
            number = shape.residuals.index(irrep)
            lines.append(
                f"    residual<{irrep.dim}>(old + {rows_in[irrep].start} * CHANNELS, "
                f"own + {number} * CHANNELS * CHANNELS, {out});"
            )
        else:
            lines.append(
                f"    std::fill({out}, {out} + {irrep.dim} * CHANNELS, real(0));"
            )
        values = f"gated + ({gated_rows} * ATOMS + i * {irrep.dim}) * CHANNELS"
        if irrep == EVEN:
            lines.append(f"    add_scalars(gates, {out});")
            continue
        gated_rows += irrep.dim
        if irrep == ODD:
            lines.append(f"    add_tanh({values}, {out});")
            continue
        lines.append(
            f"    add_gated<{irrep.dim}>({values}, gates + {gate} * CHANNELS, {out});"
        )
        gate += 1
    return "\n".join(lines)


def _products(blocks: tuple[OutputBlock, ...], number: int) -> str:
    """Return where the rows of a block begin in the scratch of the products."""
    start = sum(block.irrep.dim * block.n_paths for block in blocks[:number])
    return f"products + {start} * ATOMS * CHANNELS"


def _starts(sizes: list[int]) -> list[int]:
    return [0, *accumulate(sizes)][:-1]
