"""Places in tables in one launch, where torch takes ten."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.network.inference.tables import Grid, Places
from trajcast_ase.network.triton.programs import launch, program

VALUES_AT_ONCE = 256


def places(
    grid: Grid,
    values: Float[Tensor, " values"],
    groups: Int[Tensor, " values"] | None = None,
) -> Places:
    """Return where `values` lie, as :meth:`.Grid.places`."""
    rows = torch.empty_like(values, dtype=torch.int64)
    fractions = torch.empty_like(values, dtype=torch.float64)
    launch(
        program("places"),
        (-(-len(values) // VALUES_AT_ONCE),),
        values.contiguous(),
        groups,
        rows,
        fractions,
        len(values),
        on=values,
        START=grid.start,
        STEP=grid.step,
        N_INTERVALS=grid.n_intervals,
        GROUPED=groups is not None,
        BLOCK=VALUES_AT_ONCE,
    )
    return Places(rows, fractions)
