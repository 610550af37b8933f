"""Who draws random numbers at each stride: by streams, and on a device by keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from trajcast_ase.streams import (
    RandomSource,
    Streams,
    generator_state,
    set_generator_state,
)


class Drawing:
    """Random numbers of a thermostat or of noise, for each system of a batch.

    Parameters
    ----------
    rng : numpy Generator, RandomState or Streams, optional
        Of one system, or of each system of a batch. Default: a fresh
        ``np.random.default_rng()`` for one system.

    Attributes
    ----------
    streams : Streams
    keys, strides : (n_systems,) int64 tensors
        For strides on a device, whose random numbers are functions of both: a key that
        was drawn from the generator, 0 before, and how many strides drew with it.
    variables : tuple of str
        Names of the tensors that have a row for each system.
    """

    variables: tuple[str, ...] = ("keys", "strides")

    def __init__(self, rng: RandomSource | Streams | None) -> None:
        self.streams = Streams.of(rng)
        self.keys = torch.zeros(len(self.streams), dtype=torch.int64)
        self.strides = torch.zeros(len(self.streams), dtype=torch.int64)

    def draw_keys(self) -> None:
        """Draw a key from the generator of each system that has none yet."""
        for k, key in enumerate(self.keys.tolist()):
            if key == 0:
                self.keys[k] = self.streams.key(k)

    def get_state(self, system: int) -> dict[str, Any]:
        """Return variables and random numbers of a system as plain values."""
        variables = {name: getattr(self, name)[system] for name in self.variables}
        rng = generator_state(self.streams.generators[system])
        return {name: row.tolist() for name, row in variables.items()} | {"rng": rng}

    def set_state(self, system: int, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`get_state` returned.

        Raises
        ------
        ValueError
            The random numbers were those of another kind of generator.
        """
        set_generator_state(self.streams.generators[system], state["rng"])
        for name in self.variables:
            variable = getattr(self, name)
            variable[system] = variable.new_tensor(state[name])
