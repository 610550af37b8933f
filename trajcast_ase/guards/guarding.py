"""How one run is guarded: its guards, what is done about findings, and the counts."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from trajcast_ase.dynamics.fallback import (
    ForceFallback,
    ForceStride,
    SenselessForecastError,
)
from trajcast_ase.guards.answer import (
    GuardWarning,
    OnFinding,
    checked_action,
    is_taken,
    refusal,
)
from trajcast_ase.guards.bonds import BondLimits, KeptBonds
from trajcast_ase.guards.default import (
    GuardMaker,
    constant_temperature,
    default_guards,
)
from trajcast_ase.guards.energy import EnergyChange
from trajcast_ase.guards.evidence import GOOD_FRAMES, evidence_path, write_evidence
from trajcast_ase.guards.protocol import Guard, Objection
from trajcast_ase.guards.tally import Tally
from trajcast_ase.guards.thermal import TemperatureWindow
from trajcast_ase.guards.watch import Watch
from trajcast_ase.kinetics import temperature
from trajcast_ase.state import State
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.thermostat import Thermostat
from trajcast_ase.validation.topology import Topology


class Recent:
    """The last states before a stride, with the number of strides made."""

    def __init__(self) -> None:
        self._kept: deque[tuple[tuple[int, ...], State]] = deque(maxlen=GOOD_FRAMES)

    def add(self, nsteps: tuple[int, ...], state: State) -> None:
        """Keep a state; a stride that is tried again replaces what it left."""
        if self._kept and self._kept[-1][0] == nsteps:
            self._kept.pop()
        self._kept.append((nsteps, state))

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], State]]:
        """Return them in the order of time."""
        return iter(self._kept)

    def clear(self) -> None:
        """Forget them: the Atoms are others now."""
        self._kept.clear()


class Guarding:
    """The guards of one run, and what they found.

    Parameters
    ----------
    guards : sequence of Guard, GuardMaker or None
        None stands for :func:`default_guards`. What a maker makes is renewed with the
        Atoms.
    on_finding : "stop" or "warn"
    fallback : ForceFallback or None
    evidence : path or None

    Attributes
    ----------
    tally : Tally
    """

    def __init__(
        self,
        guards: Sequence[Guard] | GuardMaker | None,
        *,
        on_finding: OnFinding,
        fallback: ForceFallback | None,
        evidence: str | os.PathLike[str] | None,
    ) -> None:
        checked_action(on_finding)
        self._maker: GuardMaker | None = None
        self._given: tuple[Guard, ...] = ()
        self._watch: Watch | None = None
        if guards is None or callable(guards):
            self._maker = guards or default_guards
        else:
            self._given = tuple(guards)
        self._target_K: float | None = None  # that the guards were made for
        self._former_K: float | None = None  # of the system, before it was set so
        self.on_finding, self.fallback = on_finding, fallback
        self.evidence = None if evidence is None else Path(evidence)
        self.tally = Tally()

    def keep_evidence_beside(self, trajectory: Path) -> None:
        """Write evidence beside a trajectory, unless a path was given."""
        if self.evidence is None:
            self.evidence = evidence_path(trajectory)

    def watch(
        self, atoms: Atoms, model: ForecastModel, thermostats: Sequence[Thermostat]
    ) -> Watch:
        """Return the guards, made for the present `atoms` where none were given.

        A window of the temperature that thermostats had follows them to another.
        """
        target = constant_temperature(thermostats)
        if self._watch is None:
            guards = self._given
            if self._maker is not None:
                guards = tuple(self._maker(atoms, model, thermostats))
            guards = tuple(
                one.of_run(atoms) if isinstance(one, EnergyChange) else one
                for one in guards
            )
            self._watch = Watch(self._on_the_way(guards, target))
        elif target != self._target_K:
            self._former_K = temperature(atoms, model.conservation)
            guards = _following(self._watch.guards, self._target_K, target)
            if self._target_K is None and self._maker is not None:
                made = self._maker(atoms, model, thermostats)
                guards += tuple(_windows_of(made, target))
            self._watch = Watch(self._on_the_way(guards, target))
        self._target_K = target
        return self._watch

    def _on_the_way(
        self, guards: Sequence[Guard], target_K: float | None
    ) -> list[Guard]:
        """Return guards of which a window reaches to where the system came from."""
        if self._former_K is None:
            return list(guards)
        windows = _windows_of(guards, target_K)
        former = (self._former_K,)
        return [
            replace(one, former_K=former)
            if isinstance(one, TemperatureWindow) and one in windows
            else one
            for one in guards
        ]

    def renew(self) -> None:
        """Take the bonds of the Atoms anew, after they were edited."""
        if self._maker is not None:
            self._watch = None

    def takes(self, objections: Sequence[Objection]) -> bool:
        """Return whether the forecast is taken in spite of objections."""
        return self.fallback is None and is_taken(objections, self.on_finding)

    def refuse(
        self,
        atoms: Atoms,
        good: Sequence[tuple[int, State]],
        refused: State,
        objections: Sequence[Objection],
        *,
        writes: bool = True,
    ) -> SenselessForecastError:
        """Return the error of a refused forecast; write the evidence if it `writes`."""
        told: Path | OSError | None = self.evidence
        if self.evidence is not None and writes:
            try:
                write_evidence(self.evidence, atoms, good, refused, objections)
            except OSError as error:
                told = error
        return refusal(objections, good[-1][0], told)

    def note(
        self, step: int, objections: Sequence[Objection], *, by_forces: bool
    ) -> None:
        """Count a stride that was made in spite of objections, and tell of it."""
        new = self.tally.add(objections, by_forces=by_forces)
        text = objections[0].finding.text
        if by_forces:
            if self.fallback is not None and self.fallback.report is not None:
                self.fallback.report(ForceStride(step, text))
            return
        for one in objections:
            if one.guard in new:
                new.remove(one.guard)
                warnings.warn(
                    f"{one.guard} objects to the forecast of step {step}: "
                    f"{one.finding.text}; the run goes on, and further objections of "
                    "this guard are only counted (tally.found)",
                    GuardWarning,
                    stacklevel=2,
                )

    def todict(self) -> dict[str, Any]:
        """Return what is looked at and what is done, as plain values by name."""
        guards = () if self._watch is None else self._watch.guards
        time_step = None if self.fallback is None else self.fallback.timestep
        return {
            "on_finding": self.on_finding,
            "fallback": time_step,
            **{type(one).__name__: _parameters(one) for one in guards},
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the counts, and the bonds of the start.

        And where the temperature came from, if it was set within the run.
        """
        bonds = None
        if self._maker is not None and self._watch is not None and self._watch.bonds:
            bonds = self._watch.bonds.systems[0].topology.pairs.tolist()
        kept = {"tally": self.tally.todict(), "bonds": bonds}
        return kept if self._former_K is None else {**kept, "former_K": self._former_K}

    def take_over(
        self,
        kept: Mapping[str, Any],
        atoms: Atoms,
        model: ForecastModel,
        thermostats: Sequence[Thermostat],
    ) -> None:
        """Go on from what :meth:`state` returned."""
        self.tally = Tally.from_dict(kept["tally"])
        guards: Sequence[Guard] = self.watch(atoms, model, thermostats).guards
        if self._maker is not None and kept["bonds"] is not None:
            pairs = np.array(kept["bonds"], dtype=np.int64).reshape(-1, 2)
            bonds = KeptBonds([BondLimits.of(Topology(atoms.numbers.copy(), pairs))])
            guards = [bonds if isinstance(one, KeptBonds) else one for one in guards]
        if "former_K" in kept:
            self._former_K = float(kept["former_K"])
        self._watch = Watch(self._on_the_way(guards, self._target_K))


def _windows_of(
    guards: Iterable[Guard], target_K: float | None
) -> list[TemperatureWindow]:
    """Return the windows of a temperature."""
    windows = (one for one in guards if isinstance(one, TemperatureWindow))
    return [one for one in windows if one.temperature_K == target_K]


def _following(
    guards: Sequence[Guard], former_K: float | None, target_K: float | None
) -> tuple[Guard, ...]:
    """Return guards of which windows of one temperature are now those of another.

    A schedule has none.
    """
    windows = _windows_of(guards, former_K)
    others = tuple(one for one in guards if one not in windows)
    if target_K is None:
        return others
    return (*others, *(replace(one, temperature_K=target_K) for one in windows))


def _parameters(guard: Guard) -> dict[str, Any]:
    """Return the numbers that a guard was made with."""
    if is_dataclass(guard):
        names = [one.name for one in fields(guard) if one.init]
    else:
        names = list(vars(guard))
    found = {name: getattr(guard, name) for name in names if not name.startswith("_")}
    return {n: v for n, v in found.items() if isinstance(v, int | float | str | dict)}
