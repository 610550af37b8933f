"""One stride as one function of tensors, which the host only starts.

Neighbors, network, noise, conservation, constraints and thermostats of all systems of a
batch, and what the host asks for later: whether all numbers are finite, and whether all
lists had room.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajcast_ase.conservation import Conservation, RigidBodies
from trajcast_ase.constraints import Constraints
from trajcast_ase.device.baths import Stroke, Variables, counted, thermalized
from trajcast_ase.device.draws import DrawPlan, Draws
from trajcast_ase.device.forecast import StaticModel
from trajcast_ase.device.layout import LaidOutState
from trajcast_ase.device.noise import KickedModel
from trajcast_ase.state import State, as_stored
from trajcast_ase.stride import stride_with_bodies
from trajcast_ase.thermostats.molecular import Partition
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
    noise : dict of tensors
        Those of the noise; empty without.
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
    noise: Variables
    tick: Int[Tensor, 1]
    failed: Int[Tensor, " systems"]
    needed: Int[Tensor, 3]

    @classmethod
    def of(
        cls,
        positions: Float[Tensor, "atoms 3"],
        velocities: Float[Tensor, "atoms 3"],
        baths: tuple[Variables, ...],
        noise: Variables,
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
            noise,
            tick=zeros[:1].clone(),
            failed=zeros.new_full((n_systems,), NEVER),
            needed=zeros,
        )

    def tensors(self) -> list[Tensor]:
        """Return all tensors in a fixed order."""
        own = [self.now, self.before, self.forecast]
        for variables in (*self.baths, self.noise):
            own += [variables[name] for name in sorted(variables)]
        return [*own, self.tick, self.failed, self.needed]

    def copy(self) -> Motion:
        """Return a copy that shares no tensor."""
        return Motion(
            self.now.clone(),
            self.before.clone(),
            self.forecast.clone(),
            tuple({n: t.clone() for n, t in bath.items()} for bath in self.baths),
            {n: t.clone() for n, t in self.noise.items()},
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
    constraints : Constraints
    noise : (n_atoms, 2, 2), or None
        Factors of the noise, :meth:`.ForecastNoise.factors`.
    baths : tuple of RandomThermostat
        Their settings.
    partitions : tuple of Partition or None
        The molecules that each thermostat acts on.
    draws : DrawPlan or None
        Of thermostats and noise, in this order; None without both.
    timestep : float, ASE units
    thermal : (n_ticks, n_baths, n_systems), eV
        :math:`k_B T` at each tick. The host writes it between strides, as `going`.
    going : (n_systems,) bool
        Systems that move; the others rest.
    """

    frame: LaidOutState
    model: StaticModel
    rule: Conservation
    constraints: Constraints
    noise: Float[Tensor, "atoms 2 2"] | None
    baths: tuple[RandomThermostat, ...]
    partitions: tuple[Partition | None, ...]
    draws: DrawPlan | None
    timestep: float
    thermal: Float[Tensor, "ticks baths systems"]
    going: Bool[Tensor, " systems"]

    def __call__(self, motion: Motion) -> Motion:
        """Return the motion one stride later."""
        drawn = self._drawn(motion)
        positions, velocities, _ = self._start(motion).unbind(0)
        state = self.frame.moved(positions, velocities)
        before = self.constraints.hold_velocities(state)
        model, needed = self.model.at(before)
        noise = motion.noise
        if self.noise is not None:
            model, noise = KickedModel(model, self.noise, drawn[-1]), counted(noise)
        free, bodies = stride_with_bodies(model, before)
        forecast = self.constraints.hold(before, free)
        known = bodies if forecast is free else None
        after = self._ended(motion, forecast, drawn, known)
        return replace(
            after,
            noise=self._of_going((noise,), (motion.noise,))[0],
            needed=torch.maximum(motion.needed, needed),
        )

    def forced(
        self,
        motion: Motion,
        forecast: State,
        systems: Bool[Tensor, " systems"],
    ) -> Motion:
        """Return the motion one stride later, of which somebody else made a part.

        The thermostats act on the `forecast` of these `systems`, and noise does not:
        none was drawn. The others make the stride of :meth:`__call__`.
        """
        laid_out = self.frame.moved(forecast.positions, forecast.velocities)
        theirs = self._ended(motion, laid_out, self._drawn(motion), None)
        return merged(theirs, self(motion), systems, self.frame)

    def _drawn(self, motion: Motion) -> list[Draws]:
        """Return what thermostats and noise draw."""
        if self.draws is None:
            return []
        drawing = [one for one in (*motion.baths, motion.noise) if one]
        return self.draws.draw(
            [one["keys"] for one in drawing], [one["strides"] for one in drawing]
        )

    def _lost(self, motion: Motion) -> Bool[Tensor, "atoms 1"]:
        """Return the atoms of systems whose numbers are not finite any more."""
        return (motion.failed != NEVER)[self.frame.system_index, None]

    def _start(self, motion: Motion) -> Float[Tensor, "3 atoms 3"]:
        """Return from where strides begin; who is lost rests where it was before."""
        return torch.where(self._lost(motion), motion.before, motion.now)

    def _ended(
        self,
        motion: Motion,
        forecast: State,
        drawn: list[Draws],
        bodies: RigidBodies | None,
    ) -> Motion:
        """Return the motion after a forecast and what the thermostats make of it."""
        after, variables = thermalized(
            self._strokes(motion, drawn),
            forecast,
            self.rule,
            constraints=self.constraints,
            bodies=bodies,
        )
        stored, _ = as_stored(after)
        now = torch.stack([stored.positions, stored.velocities, after.velocities])
        moves = self.going[self.frame.system_index, None] & ~self._lost(motion)
        tick = motion.tick + 1
        fails = self._not_finite(now) & self.going & (motion.failed == NEVER)
        return replace(
            motion,
            now=torch.where(moves, now, motion.now),
            before=self._start(motion),
            forecast=torch.stack([forecast.positions, forecast.velocities]),
            baths=self._of_going(variables, motion.baths),
            tick=tick,
            failed=torch.where(fails, tick, motion.failed),
        )

    def _strokes(self, motion: Motion, drawn: list[Draws]) -> list[Stroke]:
        """Return what each thermostat acts with."""
        if not self.baths:
            return []
        thermal = self.thermal.index_select(0, motion.tick)[0]
        return [
            Stroke(bath, thermal[k], self.timestep, motion.baths[k], drawn[k], known)
            for k, (bath, known) in enumerate(
                zip(self.baths, self.partitions, strict=True)
            )
        ]

    def _not_finite(self, now: Float[Tensor, "3 atoms 3"]) -> Bool[Tensor, " systems"]:
        """Return which systems have a number that is not finite."""
        wrong = ~torch.isfinite(now).all(dim=2).all(dim=0)
        return self.frame.sums(wrong.double()) > 0

    def _of_going(
        self, new: tuple[Variables, ...], old: tuple[Variables, ...]
    ) -> tuple[Variables, ...]:
        """Return the `new` variables of systems that move."""
        return _chosen(self.going, new, old)


def merged(
    those: Motion, others: Motion, systems: Bool[Tensor, " systems"], frame: State
) -> Motion:
    """Return the motion of `those` for some `systems`, and of `others` for the rest."""
    rows = systems[frame.system_index, None]
    return Motion(
        torch.where(rows, those.now, others.now),
        torch.where(rows, those.before, others.before),
        torch.where(rows, those.forecast, others.forecast),
        _chosen(systems, those.baths, others.baths),
        _chosen(systems, (those.noise,), (others.noise,))[0],
        tick=others.tick,
        failed=torch.where(systems, those.failed, others.failed),
        needed=others.needed,
    )


def _chosen(
    systems: Bool[Tensor, " systems"],
    those: tuple[Variables, ...],
    others: tuple[Variables, ...],
) -> tuple[Variables, ...]:
    """Return the variables of `those` for some `systems`, of `others` for the rest."""
    return tuple(
        {
            name: torch.where(
                systems.view(-1, *(1,) * (value.dim() - 1)), value, other[name]
            )
            for name, value in one.items()
        }
        for one, other in zip(those, others, strict=True)
    )
