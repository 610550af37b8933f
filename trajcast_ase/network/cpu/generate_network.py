"""C++ source of a whole network without gradients: what stands around its layers."""

from __future__ import annotations

from trajcast_ase.network.cpu.generate_product import template, vectors_code
from trajcast_ase.network.harmonics import next_degree


def network_source(lmax: int, n_channels: int, real: str) -> str:
    """Return the C++ program of a network for `real` = "float" or "double"."""
    return "\n".join(
        (
            vectors_code(n_channels, real),
            template("layer.hpp"),
            template("network.cpp", lmax=lmax, higher=_higher_harmonics(lmax)),
        )
    )


def _higher_harmonics(lmax: int) -> str:
    """Emit the harmonics of l > 1, each from the one before and the vector."""
    lines = []
    for degree in range(2, lmax + 1):
        before, first = (degree - 1) ** 2, degree**2
        coupling = next_degree(degree).tolist()
        for k in range(2 * degree + 1):
            terms = [
                f"{coupling[i][j][k]!r} * v[{i}] * y[{before + j}]"
                for i in range(3)
                for j in range(2 * degree - 1)
                if coupling[i][j][k] != 0.0
            ]
            lines.append(f"  y[{first + k}] = {' + '.join(terms)};")
    return "\n".join(lines)
