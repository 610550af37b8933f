"""Random numbers of a stride on a device: by key, stride, atom and purpose.

The counter of :mod:`.philox` is (item, purpose, stride): what a system draws at a
stride depends neither on its batch nor on what was drawn before. All thermostats and
the noise draw at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.device.layout import LaidOutState
from trajcast_ase.device.philox import Philox, halves, normals

CANDIDATES = 16
"""Of a chi-squared variate. Each is accepted with a probability above 0.95, so that
none is once in 1e20 draws; then the first counts, which is nearly of the distribution:
no statistics of any length can tell."""


class Purpose(Enum):
    """What one item draws for; a system or candidate is one item, or an atom."""

    SYSTEM = 0
    OTHER_SYSTEM = 1
    ATOM = 8
    LAST_OF_ATOM = 9
    NOISE_X = 12
    NOISE_Y = 13
    NOISE_Z = 14
    CANDIDATE = 16
    ACCEPTANCE = 17
    OTHER_CANDIDATE = 18
    OTHER_ACCEPTANCE = 19
    BOOST = 24
    OTHER_BOOST = 25


PURPOSES = 32
"""Room for purposes of one thermostat, or of the noise."""


class Need(Enum):
    """What a thermostat or the noise draws at each stride."""

    FOR_SYSTEMS = (
        (Purpose.SYSTEM, 1),
        (Purpose.CANDIDATE, CANDIDATES),
        (Purpose.ACCEPTANCE, CANDIDATES),
        (Purpose.BOOST, 1),
    )
    FOR_SYSTEMS_TWICE = (
        *FOR_SYSTEMS,
        (Purpose.OTHER_SYSTEM, 1),
        (Purpose.OTHER_CANDIDATE, CANDIDATES),
        (Purpose.OTHER_ACCEPTANCE, CANDIDATES),
        (Purpose.OTHER_BOOST, 1),
    )
    FOR_ATOMS = ((Purpose.ATOM, 1), (Purpose.LAST_OF_ATOM, 1))
    FOR_NOISE = ((Purpose.NOISE_X, 1), (Purpose.NOISE_Y, 1), (Purpose.NOISE_Z, 1))

    @property
    def is_of_atoms(self) -> bool:
        """Whether each atom draws, not each system."""
        return self in {Need.FOR_ATOMS, Need.FOR_NOISE}


@dataclass(frozen=True, slots=True)
class Draws:
    """What one thermostat or the noise draws at one stride.

    Attributes
    ----------
    uniforms, normals : (2, n)
        In the order of :class:`Need`.
    """

    uniforms: Float[Tensor, "2 n"]
    normals: Float[Tensor, "2 n"]

    def both(self) -> tuple[Draws, Draws]:
        """Return what was drawn for systems first, and then once more."""
        first, second = zip(
            self.uniforms.chunk(2, dim=1), self.normals.chunk(2, dim=1), strict=True
        )
        return Draws(*first), Draws(*second)

    def atom_normals(self) -> Float[Tensor, "atoms 3"]:
        """Return unit normals for each atom, of those drawn for atoms."""
        first, last = self.normals.chunk(2, dim=1)
        return torch.cat([first, last[:1]]).T

    def noise_normals(self) -> Float[Tensor, "atoms 2 3"]:
        """Return two unit normals for each atom and axis, of those for noise."""
        return torch.stack(self.normals.chunk(3, dim=1), dim=2).transpose(0, 1)

    def system_normals(self) -> Float[Tensor, " systems"]:
        """Return a unit normal for each system, of those drawn for systems."""
        return self._rows(self.normals)[0]

    def chi_squared(self, n_dof: Int[Tensor, " systems"]) -> Float[Tensor, " systems"]:
        r"""Return a chi-squared variate for each system; 0 for 0 degrees of freedom.

        Twice a gamma variate of shape :math:`a = n/2`, by the method of Marsaglia and
        Tsang (ACM Trans. Math. Softw. 26, 363, 2000), with all candidates made at once
        instead of one after the other. For :math:`n = 1` it is the one of shape
        :math:`a + 1` times :math:`U^{1/a}`.
        """
        normal = self._rows(self.normals)[1 : 1 + CANDIDATES]
        uniform = self._rows(self.uniforms)[1 + CANDIDATES :]
        shape = 0.5 * n_dof.double()
        is_small = shape < 1.0
        d = torch.where(is_small, shape + 1.0, shape) - 1.0 / 3.0
        cube = (1.0 + normal / torch.sqrt(9.0 * d)) ** 3
        positive = cube > 0
        safe = torch.where(positive, cube, 1.0)
        limit = 0.5 * normal.square() + d - d * safe + d * torch.log(safe)
        accepted = positive & (torch.log(uniform[:-1]) < limit)
        first = accepted.to(torch.int64).argmax(dim=0)
        gamma = d * safe.gather(0, first[None])[0]
        exponent = 1.0 / torch.where(is_small & (n_dof > 0), shape, 1.0)
        gamma = torch.where(is_small, gamma * uniform[-1] ** exponent, gamma)
        return torch.where(n_dof > 0, 2.0 * gamma, 0.0)

    def _rows(self, values: Float[Tensor, "2 n"]) -> Float[Tensor, "items systems"]:
        """Return the first numbers of all items of each system."""
        return values[0].view(2 * CANDIDATES + 2, -1)


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """Which numbers thermostats and noise of a batch draw at each stride.

    Attributes
    ----------
    items, purposes : (n,) int64
        First words of the counters.
    owners : (n,) int64
        Whose key and stride: one who draws after the other, system by system.
    counts : tuple of int
        How many of the numbers each of them draws.
    philox : Philox
    """

    items: Int[Tensor, " n"]
    purposes: Int[Tensor, " n"]
    owners: Int[Tensor, " n"]
    counts: tuple[int, ...]
    philox: Philox

    @classmethod
    def of(cls, needs: Sequence[Need], frame: LaidOutState) -> DrawPlan:
        """Return the plan of thermostats and noise, of which each has a need."""
        systems = torch.arange(frame.n_systems, device=frame.device)
        items, purposes, owners, counts = [], [], [], []
        for place, need in enumerate(needs):
            own = []
            for purpose, n_items in need.value:
                if need.is_of_atoms:
                    numbers, whose = frame.number_in_system, frame.system_index
                else:
                    numbers = torch.arange(n_items, device=frame.device)
                    numbers = numbers.repeat_interleave(frame.n_systems)
                    whose = systems.repeat(n_items)
                own.append(numbers)
                kind = place * PURPOSES + purpose.value
                purposes.append(torch.full_like(numbers, kind))
                owners.append(whose + place * frame.n_systems)
            items += own
            counts.append(sum(len(one) for one in own))
        return cls(
            torch.cat(items),
            torch.cat(purposes),
            torch.cat(owners),
            tuple(counts),
            Philox.on(frame.device),
        )

    def draw(
        self,
        keys: Sequence[Int[Tensor, " systems"]],
        strides: Sequence[Int[Tensor, " systems"]],
    ) -> list[Draws]:
        """Return what each thermostat, or the noise, draws.

        Parameters
        ----------
        keys : tensors (n_systems,) int64, one for each that draws
            Not negative.
        strides : tensors (n_systems,) int64, one for each that draws
            How many strides drew from each key before.
        """
        key = torch.stack(halves(torch.cat(list(keys))))[:, self.owners]
        stride = torch.stack(halves(torch.cat(list(strides))))[:, self.owners]
        first = torch.stack([self.items, self.purposes])
        uniforms = self.philox.uniforms(torch.cat([first, stride]), key)
        return [
            Draws(uniform, normal)
            for uniform, normal in zip(
                uniforms.split_with_sizes(self.counts, dim=1),
                normals(uniforms).split_with_sizes(self.counts, dim=1),
                strict=True,
            )
        ]
