"""What a step changes beside the state, so that a step that fails can be undone.

Thermostats keep accounts and variables, and with the noise they draw random numbers. A
step that fails puts all of them back, so that a retry is the run without the failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from trajcast_ase.streams import Streams

# Of a thermostat that does not say more: what the protocol asks for.
LEAST_VARIABLES = ("transferred_energy",)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Variables and random numbers of thermostats and noise before a step.

    Attributes
    ----------
    variables : tuple of (owner, name, tensor)
        Each with one row for each system.
    streams : tuple of (Streams, states of its generators)
    """

    variables: tuple[tuple[Any, str, Tensor], ...]
    streams: tuple[tuple[Streams, tuple[Any, ...]], ...]

    @classmethod
    def of(cls, members: Iterable[object]) -> Self:
        """Return what `members` hold in ``variables`` and ``streams``, if they do."""
        members = tuple(members)
        variables = [
            (one, name, getattr(one, name).clone())
            for one in members
            for name in getattr(one, "variables", LEAST_VARIABLES)
            if isinstance(getattr(one, name, None), Tensor)
        ]
        found = [getattr(one, "streams", None) for one in members]
        # Several thermostats may share the streams.
        streams = {id(one): one for one in found if isinstance(one, Streams)}
        return cls(
            tuple(variables), tuple((one, one.states()) for one in streams.values())
        )

    def restore(self, systems: Sequence[int] | None = None) -> None:
        """Put back what belongs to `systems` (places in the batch); None: to all."""
        for owner, name, saved in self.variables:
            if systems is None:
                setattr(owner, name, saved.clone())
                continue
            present = getattr(owner, name).clone()
            present[systems] = saved[systems].to(present.device)
            setattr(owner, name, present)
        for streams, states in self.streams:
            streams.restore(states, range(len(states)) if systems is None else systems)
