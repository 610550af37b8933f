"""Systems whose states are one on the device while they advance.

The size of a batch stays: a system that is lost, or whose run has ended, keeps its
place and rests there. The numbers of the others then stay the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trajcast_ase.conservation import RigidBodies
from trajcast_ase.constraints import Constraints
from trajcast_ase.dynamics.blame import failing_forecasts, thermostat_failure
from trajcast_ase.dynamics.device_batch import DeviceBatch
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.joined_states import (
    atoms_of,
    chosen,
    first_atoms,
    joined,
    split,
)
from trajcast_ase.dynamics.losses import EXPLAINED, LostReplica, of_replica
from trajcast_ase.dynamics.rollback import Snapshot
from trajcast_ase.dynamics.stepper import Stepper, finite_atoms
from trajcast_ase.guards.guarding import Recent
from trajcast_ase.guards.protocol import Objection
from trajcast_ase.guards.watch import Watch
from trajcast_ase.state import State, as_stored


class Batch(DeviceBatch):
    """Replicas that share thermostats and advance together.

    Parameters
    ----------
    drivers : list of TrajCast
    numbers : list of int
        Of the replicas.

    Attributes
    ----------
    lost : list of LostReplica
        In the order in which they were lost.
    """

    def __init__(self, drivers: list[TrajCast], numbers: list[int]) -> None:
        self.drivers, self.numbers = drivers, numbers
        self.lost: list[LostReplica] = []
        self._all = range(len(drivers))
        self._latest: State | None = None  # as forecast, not yet as stored in Atoms
        self._moved: set[int] = set()  # places that `_latest` has news of
        # From where the last forecasts came: there a resting system does no harm.
        self._origin: State | None = None
        self._going = list(self._all)
        self.state: State
        self.constraints: Constraints
        self._stepper = drivers[0]._stepper  # noqa: SLF001  all share what acts
        self._noise_before = self._baths_before = Snapshot.of(())
        self._recent = Recent()
        self._watch = Watch(())
        self._watches: list[Watch] = []  # that it joins
        self._kinds: list[Tensor] = []  # atomic numbers of the joined states
        self._noted: list[_Noted] = []  # of the step that is being made
        self.pull(self._all)

    @property
    def advances(self) -> bool:
        """Whether somebody goes on in the present leap."""
        return bool(self._going)

    def going(self) -> list[int]:
        """Return the places of those that are not lost and not at the end."""
        lost = {one.number for one in self.lost}
        return [
            place
            for place, driver in enumerate(self.drivers)
            if self.numbers[place] not in lost and driver.nsteps < driver.max_steps
        ]

    def lose(self, place: int, error: Exception) -> None:
        """Record a failure; the system rests from now on."""
        reason = str(error) or type(error).__name__
        number, stride = self.numbers[place], self.drivers[place].nsteps
        self.lost.append(LostReplica(number, stride, reason, error))
        self._going = [other for other in self._going if other != place]

    def pull(self, places: Iterable[int]) -> None:
        """Take over what changed in the Atoms of `places` since the last transfer.

        Raises
        ------
        ValueError, TypeError, NotImplementedError
            An edit is refused; the text has the number of the replica.
        """
        for place in places:
            try:
                self._pull(place)
            except EXPLAINED as error:
                raise of_replica(error, self.numbers[place]) from error
        self._join()

    def begin_leap(self, *, first: bool) -> None:
        """Take over edits of the systems that go on; lose those that are refused.

        In the `first` leap of a run an edit that is refused is an error instead.
        """
        self._going = self.going()
        if first:
            self.pull(self._going)
            return
        for place in list(self._going):
            try:
                self._pull(place)
            except EXPLAINED as error:
                self.lose(place, error)
                self._restore_frame(place)
        self._join()

    def step(self) -> State:
        """Return the states one step later: those that rest or fail stay.

        Raises
        ------
        Exception
            A failure that cannot be blamed on some of the systems. Nothing has changed.
        """
        # Two, since a thermostat that fails is not to draw the noise anew.
        self._noise_before = Snapshot.of([self._stepper.forecaster])
        self._baths_before = Snapshot.of(self._stepper.thermostats)
        try:
            after = self._thermalized(*self._forecast())
            after = self.drivers[0]._shared(after)  # noqa: SLF001  a friend
        except BaseException:  # an interrupt, too
            self.undo()
            raise
        if resting := self._resting():
            self._noise_before.restore(resting)
            self._baths_before.restore(resting)
        return after

    def undo(self) -> None:
        """Put random numbers and thermostats back to before the last step."""
        self._noted.clear()
        self._noise_before.restore()
        self._baths_before.restore()

    def advance(self, after: State, strides: int = 1) -> None:
        """Continue from `after`, as each driver alone would after so many strides."""
        stored, _ = as_stored(after)
        origin = self.state if self._origin is None else self._origin
        self._origin = self._where(self.state, origin)
        latest = self.state if self._latest is None else self._latest
        self._latest = self._where(after, latest)
        # What rests was stored before; stored once more it might change its last bit.
        self.state = self._where(stored, self.state)
        self._moved.update(self._going)
        for place in self._going:
            self.drivers[place].nsteps += strides
        for one in self._noted:
            if one.place in self._going:  # and not lost at its thermostat
                driver = self.drivers[one.place]
                driver._guarding.note(  # noqa: SLF001  a friend of the driver
                    driver.nsteps, one.objections, by_forces=one.by_forces
                )
        self._noted.clear()

    def push(self) -> None:
        """Write positions and momenta into the Atoms of those that have moved."""
        mirrors = [driver._mirror for driver in self.drivers]  # noqa: SLF001  a friend
        if self._latest is not None:
            stored, momenta = as_stored(self._latest)  # of all at once: fewer calls
            states = [mirror.state for mirror in mirrors]
            parts = split(stored, states)
            shares = torch.split(momenta, [state.n_atoms for state in states])
            for place in self._moved:
                mirrors[place].follow(parts[place], shares[place])
                mirrors[place].push(self.drivers[place].atoms)
        self._latest = None
        self._moved.clear()

    def _pull(self, place: int) -> None:
        driver = self.drivers[place]
        driver._mirror.pull(driver.atoms)  # noqa: SLF001  a friend of the driver

    def _restore_frame(self, place: int) -> None:
        """Write the last good positions and momenta over a refused edit."""
        driver = self.drivers[place]
        mirror = driver._mirror  # noqa: SLF001  a friend of the driver
        if len(driver.atoms) == mirror.state.n_atoms:
            mirror.push(driver.atoms)

    def _join(self) -> None:
        mirrors = [driver._mirror for driver in self.drivers]  # noqa: SLF001  a friend
        states = [mirror.state for mirror in mirrors]
        kinds = [state.atomic_numbers for state in states]
        if _are_same(kinds, self._kinds):
            # The same atoms, so that guards need not look them up again.
            self.state = self.state.moved(
                torch.cat([state.positions for state in states]),
                torch.cat([state.velocities for state in states]),
            )
        else:
            self.state, self._kinds = joined(states), kinds
            self._recent.clear()
        self.constraints = Constraints.joined([m.constraints for m in mirrors], states)
        origin = self._origin
        if origin and not torch.equal(origin.system_index, self.state.system_index):
            self._origin = None  # atoms were added or removed
        watches = [driver._watch(driver.atoms) for driver in self.drivers]  # noqa: SLF001
        if not _are_same(watches, self._watches):
            self._watch, self._watches = Watch.joined(watches), watches

    def _resting(self) -> list[int]:
        going = set(self._going)
        return [place for place in self._all if place not in going]

    def _where(self, those: State, others: State) -> State:
        """Return `those` of the systems that go on, and `others` of the rest."""
        if len(self._going) == len(self.drivers):
            return those
        return chosen(atoms_of(self._going, those), those, others)

    def _forecast(self) -> tuple[State, RigidBodies | None]:
        """Return the forecasts; lose the systems whose forecast fails."""
        while self._going:
            origin = self.state if self._origin is None else self._origin
            start = self._where(self.state, origin)
            try:
                after, bodies = self._stepper.forecast(start, self.constraints)
            except Exception as error:  # noqa: BLE001  raised again, or kept as the reason
                self._blame_forecast(error)
                self._noise_before.restore()
                continue
            forecast = self._checked_forecast(self._where(after, self.state))
            return forecast, bodies if forecast is after else None
        return self.state, None

    def _thermalized(self, forecast: State, bodies: RigidBodies | None) -> State:
        """Return the states after the thermostats; lose the systems that fail there."""
        while self._going and self._stepper.thermostats:
            try:
                after = self._at_their_times(forecast, bodies)
            except Exception as error:  # noqa: BLE001  raised again, or kept as the reason
                self._baths_before.restore()
                self._blame_thermostat(forecast, error)
                forecast, bodies = self._where(forecast, self.state), None
                continue
            return self._checked_thermostat(self._where(after, self.state))
        return forecast

    def _at_their_times(self, forecast: State, bodies: RigidBodies | None) -> State:
        """Return the states after the thermostats, each at the time of its system.

        Times differ after an observer has ended the run of some of them.
        """
        steps = {place: self.drivers[place].nsteps + 1 for place in self._going}
        after = forecast
        for nsteps in sorted(set(steps.values())):
            members = [place for place, number in steps.items() if number == nsteps]
            others = [place for place in self._all if place not in members]
            before = Snapshot.of(self._stepper.thermostats) if others else None
            changed = self._stepper.thermalized(
                forecast, self.constraints, nsteps, bodies
            )
            if before is None:
                return changed
            before.restore(others)
            after = chosen(atoms_of(members, forecast), changed, after)
        return after

    def _checked_forecast(self, after: State) -> State:
        """Return `after`, where guarded systems are answered for.

        Those whose forecast is refused make the stride by forces, or are lost and stay.
        """
        nsteps = tuple(driver.nsteps for driver in self.drivers)
        self._recent.add(nsteps, self.state)
        steps = [number + 1 for number in nsteps]
        held = self.constraints.hold_velocities(self.state)  # as forecasts begin
        found = self._watch.look(self.drivers[0].model, held, after, steps)
        places = {one.finding.system for one in found} & set(self._going)
        if not places:
            return after
        for place in sorted(places):
            own = [one for one in found if one.finding.system == place]
            after = self._answered(place, own, after)
        return self._where(after, self.state)

    def _answered(self, place: int, own: list[Objection], after: State) -> State:
        """Return `after` with what one system does about objections to its stride."""
        driver = self.drivers[place]
        guarding = driver._guarding  # noqa: SLF001  a friend of the driver
        if guarding.takes(own):
            self._noted.append(_Noted(place, own, by_forces=False))
            return after
        if guarding.fallback is None:
            good = [(n[place], self._own(place, state)) for n, state in self._recent]
            refused = self._own(place, after)
            self.lose(place, guarding.refuse(driver.atoms, good, refused, own))
            return after
        self._noise_before.restore([place])
        before = self._own(place, self.state)
        try:
            forced = driver._by_forces(guarding.fallback, before)  # noqa: SLF001
        except Exception as error:  # noqa: BLE001  of its calculator; the reason, kept
            self.lose(place, error)
            return after
        self._noted.append(_Noted(place, own, by_forces=True))
        rows = atoms_of([place], after)
        positions, velocities = after.positions.clone(), after.velocities.clone()
        positions[rows], velocities[rows] = forced.positions, forced.velocities
        return after.moved(positions, velocities)

    def _own(self, place: int, batch: State) -> State:
        """Return one system of a batch."""
        mirrors = [driver._mirror for driver in self.drivers]  # noqa: SLF001  a friend
        return split(batch, [mirror.state for mirror in mirrors])[place]

    def _checked_thermostat(self, after: State) -> State:
        """Return `after`, where systems that are not finite are lost and stay."""
        finite = finite_atoms(after)
        if bool(finite.all()):
            return after
        for place, atom in first_atoms(~finite, after):
            driver = self.drivers[place]
            self.lose(place, driver._not_finite(atom))  # noqa: SLF001
        return self._where(after, self.state)

    def _blame_forecast(self, error: Exception) -> None:
        """Lose the systems whose forecast fails alone; raise if there are none."""
        mirrors = [driver._mirror for driver in self.drivers]  # noqa: SLF001  a friend
        states = split(self.state, [mirror.state for mirror in mirrors])
        constraints = [mirror.constraints for mirror in mirrors]
        first = self.drivers[0]
        plain = Stepper(first.model, (), first.dt)
        blamed = failing_forecasts(plain, states, constraints, self._going)
        if not blamed:
            raise error
        if self._origin is None:
            place, cause = blamed[0]
            raise RuntimeError(
                f"replica {self.numbers[place]}: its first forecast fails "
                f"({cause}); take it out of the list or give it another start"
            ) from cause
        for place, cause in blamed:
            self.lose(place, cause)

    def _blame_thermostat(self, forecast: State, error: Exception) -> None:
        """Lose the systems at which a thermostat fails; raise if there are none."""
        if self._thermostat_failure(self.state, 0):
            raise error
        blamed = [
            (place, cause)
            for place in self._going
            if (cause := self._thermostat_failure(self._only(place, forecast), place))
        ]
        if not blamed:
            raise error
        for place, cause in blamed:
            self.lose(place, cause)

    def _only(self, place: int, forecast: State) -> State:
        """Return the states before the step, and the forecast of one system."""
        return chosen(atoms_of([place], forecast), forecast, self.state)

    def _thermostat_failure(self, state: State, place: int) -> Exception | None:
        nsteps = self.drivers[place].nsteps + 1
        return thermostat_failure(self._stepper, state, self.constraints, nsteps)


@dataclass(frozen=True, slots=True)
class _Noted:
    """Objections in spite of which a system makes a stride."""

    place: int
    objections: list[Objection]
    by_forces: bool


def _are_same(ones: Sequence[object], others: Sequence[object]) -> bool:
    """Return whether two lists hold the same objects."""
    return len(ones) == len(others) and all(
        one is other for one, other in zip(ones, others, strict=True)
    )
