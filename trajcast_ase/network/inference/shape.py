"""What the program of a layer depends on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from trajcast_ase.network.irreps import Irrep, Irreps, Parity, ProductRule, dimension

EVEN, ODD = Irrep(0, 1), Irrep(0, -1)


@dataclass(frozen=True)
class LayerShape:
    """What the program of a layer depends on.

    Attributes
    ----------
    irreps_in : Irreps
        Of the features that come in.
    outputs : Irreps
        Of the features that go out, sorted: all, or those that anyone reads.
    lmax, n_channels : int
    parity : "both" or "natural"
    """

    irreps_in: Irreps
    outputs: Irreps
    lmax: int
    n_channels: int
    parity: Parity

    @cached_property
    def edge(self) -> ProductRule:
        """The product with the harmonics of the edges."""
        return ProductRule(self.irreps_in, self.lmax, self.parity)

    @cached_property
    def velocity(self) -> ProductRule:
        """The product with the harmonics of the velocities."""
        return ProductRule(self.edge.irreps_out, self.lmax, self.parity)

    @cached_property
    def gated(self) -> Irreps:
        """Outputs that have a gate."""
        return tuple(irrep for irrep in self.outputs if irrep.l > 0)

    @cached_property
    def updated(self) -> Irreps:
        """Irreps of the second product that are needed, even scalars for the gates."""
        return tuple(sorted({EVEN, *self.outputs}))

    @cached_property
    def residuals(self) -> Irreps:
        """Irreps that are in the features that come in and in those that go out."""
        return tuple(irrep for irrep in self.irreps_in if irrep in self.outputs)

    @cached_property
    def dim_out(self) -> int:
        """Components of the features that go out."""
        return dimension(self.outputs)

    @cached_property
    def even_columns(self) -> int:
        """Columns of the even scalars of the update, in units of the channels."""
        return (EVEN in self.outputs) + len(self.gated)
