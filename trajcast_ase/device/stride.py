"""One stride as one function of tensors, which the host only starts.

Neighbors, network, conservation and thermostats of all systems of a batch, and what the
host asks for later: whether all numbers are finite, and whether all lists had room.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajcast_ase.conservation import Conservation
from trajcast_ase.device.baths import Variables, thermalized
from trajcast_ase.device.draws import DrawPlan
from trajcast_ase.device.forecast import StaticModel
from trajcast_ase.device.layout import LaidOutState
from trajcast_ase.state import as_stored
from trajcast_ase.stride import stride_with_bodies
from trajcast_ase.thermostats.random_thermostat import RandomThermostat

NEVER = -1


@dataclass(frozen=True, slots=True)
class Motion:
    """What a stride changes.

    Attributes
    ----------
    now, before : (3, n_atoms, 3) float64
        Positions (Å), velocities (Å/fs) as Atoms store them, and these before they were
        rounded so: now, and before the last stride.
    forecast : (2, n_atoms, 3) float64
        Positions and velocities after the last forecast, before its thermostats.
    baths : tuple of dict of tensors
        Variables of each thermostat.
    tick : (1,) int64
        Strides since the host last asked.
    failed : (n_systems,) int64
        The first stride since then after which a system was not finite, else -1.
    needed : (3,) int64
        The largest sizes that lists needed since then.
    """

    now: Float[Tensor, "3 atoms 3"]
    before: Float[Tensor, "3 atoms 3"]
    forecast: Float[Tensor, "2 atoms 3"]
    baths: tuple[Variables, ...]
    tick: Int[Tensor, 1]
    failed: Int[Tensor, " systems"]
    needed: Int[Tensor, 3]

    @classmethod
    def of(
        cls,
        positions: Float[Tensor, "atoms 3"],
        velocities: Float[Tensor, "atoms 3"],
        baths: tuple[Variables, ...],
        n_systems: int,
    ) -> Motion:
        """Return a start."""
        now = torch.stack([positions, velocities, velocities])
        zeros = torch.zeros(3, dtype=torch.int64, device=now.device)
        return cls(
            now,
            now.clone(),
            now[:2].clone(),
            baths,
            tick=zeros[:1].clone(),
            failed=zeros.new_full((n_systems,), NEVER),
            needed=zeros,
        )

    def tensors(self) -> list[Tensor]:
        """Return all tensors in a fixed order."""
        own = [self.now, self.before, self.forecast]
        own += [bath[name] for bath in self.baths for name in sorted(bath)]
        return [*own, self.tick, self.failed, self.needed]

    def copy(self) -> Motion:
        """Return a copy that shares no tensor."""
        return Motion(
            self.now.clone(),
            self.before.clone(),
            self.forecast.clone(),
            tuple({n: t.clone() for n, t in bath.items()} for bath in self.baths),
            self.tick.clone(),
            self.failed.clone(),
            self.needed.clone(),
        )

    def write(self, other: Motion) -> None:
        """Take over the numbers of `other`, in place."""
        for own, new in zip(self.tensors(), other.tensors(), strict=True):
            own.copy_(new)


@dataclass(frozen=True, slots=True)
class DeviceStride:
    """The function from one motion to the next.

    Attributes
    ----------
    frame : LaidOutState
        Atoms, cells and layout; its positions and velocities do not count.
    model : StaticModel
    rule : Conservation
    baths : tuple of RandomThermostat
        Their settings.
    draws : DrawPlan or None
        None without thermostats.
    timestep : float, ASE units
    thermal : (n_ticks, n_baths, n_systems), eV
        :math:`k_B T` at each tick. The host writes it between strides, as `going`.
    going : (n_systems,) bool
        Systems that move; the others rest.
    """

    frame: LaidOutState
    model: StaticModel
    rule: Conservation
    baths: tuple[RandomThermostat, ...]
    draws: DrawPlan | None
    timestep: float
    thermal: Float[Tensor, "ticks baths systems"]
    going: Bool[Tensor, " systems"]

    def __call__(self, motion: Motion) -> Motion:
        """Return the motion one stride later."""
        # Where numbers are not finite any more, the system rests where they were.
        lost = (motion.failed != NEVER)[self.frame.system_index, None]
        start = torch.where(lost, motion.before, motion.now)
        positions, velocities, _ = start.unbind(0)
        state = self.frame.moved(positions, velocities)
        model, needed = self.model.at(state)
        forecast, bodies = stride_with_bodies(model, state)
        after, variables = forecast, motion.baths
        if self.draws is not None:
            after, variables = thermalized(
                self.baths,
                motion.baths,
                self.draws,
                forecast,
                self.rule,
                thermal=self.thermal.index_select(0, motion.tick)[0],
                timestep=self.timestep,
                bodies=bodies,
            )
        stored, _ = as_stored(after)
        now = torch.stack([stored.positions, stored.velocities, after.velocities])
        moves = self.going[self.frame.system_index, None] & ~lost
        tick = motion.tick + 1
        fails = self._not_finite(now) & self.going & (motion.failed == NEVER)
        return Motion(
            now=torch.where(moves, now, motion.now),
            before=start,
            forecast=torch.stack([forecast.positions, forecast.velocities]),
            baths=self._of_going(variables, motion.baths),
            tick=tick,
            failed=torch.where(fails, tick, motion.failed),
            needed=torch.maximum(motion.needed, needed),
        )

    def _not_finite(self, now: Float[Tensor, "3 atoms 3"]) -> Bool[Tensor, " systems"]:
        """Return which systems have a number that is not finite."""
        wrong = ~torch.isfinite(now).all(dim=2).all(dim=0)
        return self.frame.sums(wrong.double()) > 0

    def _of_going(
        self, new: tuple[Variables, ...], old: tuple[Variables, ...]
    ) -> tuple[Variables, ...]:
        """Return the `new` variables of systems that move."""
        return tuple(
            {
                name: torch.where(
                    self.going.view(-1, *(1,) * (value.dim() - 1)), value, before[name]
                )
                for name, value in bath.items()
            }
            for bath, before in zip(new, old, strict=True)
        )
