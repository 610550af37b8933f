"""The guards of a batch at work: which look when, and at what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass

import torch
from ase.data import chemical_symbols

from trajcast_ase.dynamics.stepper import finite_atoms
from trajcast_ase.guards.bonds import KeptBonds
from trajcast_ase.guards.host import own_number
from trajcast_ase.guards.protocol import Finding, Guard, JoiningGuard, Objection
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel

FINITE = "Finite"
"""Name of the guard that no run is without."""


class Watch:
    """Guards, and the finite values that are always asked for.

    Parameters
    ----------
    guards : sequence of Guard

    Raises
    ------
    TypeError
        One of them does not fulfil the protocol.
    ValueError
        It looks less often than at every stride, or never.
    """

    def __init__(self, guards: Sequence[Guard]) -> None:
        for one in guards:
            if not (callable(getattr(one, "find", None)) and hasattr(one, "every")):
                raise TypeError(
                    f"guards = {one!r} lacks the method find or the attribute every; "
                    "use those of trajcast_ase.guards, or an object that fulfils its "
                    "protocol Guard"
                )
            if not (isinstance(one.every, int) and one.every >= 1):
                raise ValueError(
                    f"a {type(one).__name__} looks every {one.every!r} strides; give a "
                    "whole number of at least 1"
                )
        self.guards = tuple(guards)
        # Of a batch the systems that each guard is for; all where it is not joined.
        self._systems: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def joined(cls, watches: Sequence[Watch]) -> Watch:
        """Return the watches of single systems as that of their batch.

        Systems may have other guards than their neighbors.

        Raises
        ------
        ValueError
            Bonds are guarded in some of the systems only.
        """
        groups: list[dict[int, Guard]] = []
        for system, watch in enumerate(watches):
            for guard in watch.guards:
                _add(guard, system, groups)
        found = cls([_joined(group, len(watches)) for group in groups])
        found._systems = tuple(tuple(group) for group in groups)
        return found

    def look(
        self,
        model: ForecastModel,
        before: State,
        after: State,
        steps: Sequence[int],
    ) -> list[Objection]:
        """Return what is wrong with a stride.

        Parameters
        ----------
        model : ForecastModel
        before, after : State
            Of a batch.
        steps : sequence of int
            The number of the stride for each system: a guard looks at multiples of its
            `every`, so that a restart changes nothing.
        """
        found = []
        total = after.positions.sum() + after.velocities.sum()
        if not math.isfinite(float(total)):
            found = _not_finite(after)
            if before.n_systems == 1:
                return found
            after = _without(found, before, after)
        everywhere = range(len(steps))
        for k, guard in enumerate(self.guards):
            systems = everywhere if self._systems is None else self._systems[k]
            due = {system for system in systems if steps[system] % guard.every == 0}
            if due:
                name = type(guard).__name__
                found += [
                    Objection(name, one)
                    for one in guard.find(model, before, after)
                    if one.system in due
                ]
        return found

    @property
    def bonds(self) -> KeptBonds | None:
        """The guard of bonds, if there is one."""
        found = [one for one in self.guards if isinstance(one, KeptBonds)]
        return found[0] if found else None


def _add(guard: Guard, system: int, groups: list[dict[int, Guard]]) -> None:
    """Put a guard of a system to those of others that it can look together with."""
    for group in groups:
        if system not in group and _are_alike(guard, next(iter(group.values()))):
            group[system] = guard
            return
    groups.append({system: guard})


def _are_alike(one: Guard, other: Guard) -> bool:
    """Return whether one guard can look for both."""
    if type(one) is not type(other):
        return False
    if isinstance(one, JoiningGuard) and isinstance(other, JoiningGuard):
        return one.is_like(other)
    return one == other if is_dataclass(one) else one.every == other.every


def _joined(group: Mapping[int, Guard], n_systems: int) -> Guard:
    """Return guards that are alike, by system, as one."""
    joining = {k: one for k, one in group.items() if isinstance(one, JoiningGuard)}
    if not joining:
        return next(iter(group.values()))
    return type(next(iter(joining.values()))).joined(joining, n_systems)


def _not_finite(after: State) -> list[Objection]:
    """Return the first atom of each system that is not finite."""
    wrong = (~finite_atoms(after)).nonzero()[:, 0]
    found: dict[int, Objection] = {}
    for atom in wrong.tolist():
        system = int(after.system_index[atom])
        symbol = chemical_symbols[int(after.atomic_numbers[atom])]
        text = f"is not finite for atom {own_number(after, atom)} ({symbol})"
        one = Finding(atom, system, math.nan, math.inf, text)
        found.setdefault(system, Objection(FINITE, one))
    return list(found.values())


def _without(found: Sequence[Objection], before: State, after: State) -> State:
    """Return `after` with the systems of `found` as before: guards need numbers."""
    lost = torch.zeros(after.n_systems, dtype=torch.bool, device=after.device)
    lost[[one.finding.system for one in found]] = True
    rows = lost[after.system_index, None]
    return after.moved(
        torch.where(rows, before.positions, after.positions),
        torch.where(rows, before.velocities, after.velocities),
    )
