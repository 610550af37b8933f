"""Random numbers of thermostats on a device: by key, stride, atom and purpose.

The counter of :mod:`.philox` is (item, purpose, stride): what a system draws at a
stride depends neither on its batch nor on what was drawn before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.device.layout import LaidOutState
from trajcast_ase.device.philox import Counter, normals, philox, uniforms, words

CANDIDATES = 16
"""Of a chi-squared variate. Each is accepted with a probability above 0.95, so that
none is once in 1e20 draws; then the first counts, which is nearly of the distribution:
no statistics of any length can tell."""
PURPOSES = OF_SYSTEM, OF_ATOM, OF_CANDIDATE, OF_BOOST = range(4)
"""Purposes of random numbers."""
BLOCKS = 8
"""Most pairs of normals for one item and purpose."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What the systems of a batch draw for one thermostat at one stride.

    Attributes
    ----------
    keys : (n_systems,) int64
        Not negative; one for each system.
    strides : (n_systems,) int64
        How many strides drew from each key before.
    place : int
        Of the thermostat in its sequence: members may share a key.
    """

    keys: Int[Tensor, " systems"]
    strides: Int[Tensor, " systems"]
    place: int

    def system_normals(self) -> Float[Tensor, " systems"]:
        """Return a unit normal for each system."""
        return normals(self._of_systems(torch.zeros_like(self.keys), OF_SYSTEM))[0]

    def atom_normals(self, state: LaidOutState) -> Float[Tensor, "atoms 3"]:
        """Return unit normals for each atom."""
        index, item = state.system_index, state.number_in_system
        keys, strides = self.keys[index], self.strides[index]
        x, y = normals(self._words(item, OF_ATOM, 0, keys, strides))
        z, _ = normals(self._words(item, OF_ATOM, 1, keys, strides))
        return torch.stack([x, y, z], dim=1)

    def chi_squared(self, n_dof: Int[Tensor, " systems"]) -> Float[Tensor, " systems"]:
        r"""Return a chi-squared variate for each system; 0 for 0 degrees of freedom.

        Twice a gamma variate of shape :math:`a = n/2`, by the method of Marsaglia and
        Tsang (ACM Trans. Math. Softw. 26, 363, 2000), with all candidates made at once
        instead of one after the other. For :math:`n = 1` it is the one of shape
        :math:`a + 1` times :math:`U^{1/a}`.
        """
        shape = 0.5 * n_dof.double()
        is_small = shape < 1.0
        d = torch.where(is_small, shape + 1.0, shape) - 1.0 / 3.0
        numbers = torch.arange(CANDIDATES, device=self.keys.device)
        items = numbers[:, None].expand(-1, len(self.keys))
        normal, _ = normals(self._of_systems(items, OF_CANDIDATE))
        uniform, _ = uniforms(self._of_systems(items, OF_CANDIDATE, 1))
        cube = (1.0 + normal / torch.sqrt(9.0 * d)) ** 3
        positive = cube > 0
        safe = torch.where(positive, cube, 1.0)
        limit = 0.5 * normal.square() + d - d * safe + d * torch.log(safe)
        accepted = positive & (torch.log(uniform) < limit)
        first = accepted.to(torch.int64).argmax(dim=0)
        gamma = d * safe.gather(0, first[None])[0]
        boost, _ = uniforms(self._of_systems(torch.zeros_like(self.keys), OF_BOOST))
        exponent = 1.0 / torch.where(is_small & (n_dof > 0), shape, 1.0)
        gamma = torch.where(is_small, gamma * boost**exponent, gamma)
        return torch.where(n_dof > 0, 2.0 * gamma, 0.0)

    def _of_systems(self, items: Tensor, purpose: int, block: int = 0) -> Counter:
        return self._words(items, purpose, block, self.keys, self.strides)

    def _words(
        self, items: Tensor, purpose: int, block: int, keys: Tensor, strides: Tensor
    ) -> Counter:
        """Return random words; `block` counts those of one item and purpose."""
        kind = ((self.place * len(PURPOSES)) + purpose) * BLOCKS + block
        low, high = words(strides)
        return philox((items, torch.full_like(low, kind), low, high), words(keys))
