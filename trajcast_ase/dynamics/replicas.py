"""Many systems in one forward pass: replicas, or different systems, side by side.

Each replica is a :class:`TrajCast` with observers, log, trajectory and random numbers
of its own; network and thermostats see a batch of them. A small molecule is bound by
the number of operations, not by their size, so a batch costs little more than one
system.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self, overload

import torch
from ase import Atoms

from trajcast_ase.dynamics.arguments import prepared_model, whole_number
from trajcast_ase.dynamics.batch import Batch
from trajcast_ase.dynamics.device_leaps import EngineChoice
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.fallback import ForceFallback
from trajcast_ase.dynamics.losses import (
    EXPLAINED,
    LostReplicasError,
    LostReplicaWarning,
    of_replica,
)
from trajcast_ase.dynamics.replica_arguments import (
    batches,
    check_paths,
    check_systems,
    numbered,
)
from trajcast_ase.dynamics.replica_continuation import ReplicaContinuation
from trajcast_ase.guards.answer import OnFinding
from trajcast_ase.guards.default import GuardMaker
from trajcast_ase.guards.protocol import Guard
from trajcast_ase.state import State
from trajcast_ase.streams import Purpose, Streams, random_stream
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat

BATCH_ATOMS = 2000
"""Atoms in one forward pass, unless asked otherwise."""


ThermostatMaker = Callable[[Streams], Thermostat | Sequence[Thermostat]]
"""Makes what acts on a batch from the random numbers of its systems."""


class Replicas(ReplicaContinuation):
    """Drivers of several systems that advance together.

    ``replicas[k]`` is the :class:`TrajCast` of one of them: attach observers to it, and
    read or edit its ``atoms`` between runs. Only :meth:`run` advances them.

    Parameters
    ----------
    systems : sequence of Atoms
        Of any sizes, elements and cells that the model knows.
    model : Forecaster, name of a bundled model, or path to a ``.trajcast`` file
    thermostat : callable of Streams, optional
        Makes the thermostat of a batch, or a sequence of them, from the random numbers
        of its replicas: ``lambda rng: CSVR(300, 70 * units.fs, rng)``, or ``lambda rng:
        model.recommended_thermostat(300, rng)``. Default: none.
    noise : callable of Streams, optional
        Makes the calibrated noise of a batch in the same way. Default: none.
    seed : int
        Replica k draws from :func:`trajcast_ase.streams.random_stream` of `seed` and k:
        its numbers do not depend on which other replicas there are.
    first_replica : int
        Number of the first replica, with which a later batch continues.
    trajectory, logfile : str, optional
        Paths with the number in them, such as ``"run-{replica:03d}.traj"``.
    loginterval : int
        Steps between rows of the logs and frames of the trajectories.
    logfile_interval : int, optional
        Steps between rows of the logs, where these are others.
    append_trajectory : bool
        Append to existing trajectories instead of overwriting them.
    batch_atoms : int
        Largest number of atoms in one forward pass; it bounds the memory. A system
        that has more is a pass of its own.
    guards, on_finding, fallback : optional
        As of :class:`TrajCast`; a replica whose forecast is refused is lost alone.
    evidence : str, optional
        Path with the number in it, else as of :class:`TrajCast`.
    device : str or torch.device, optional
    engine : "host" or "device"
        As of :class:`TrajCast`. Each replica has a key of its own, so that its random
        numbers are the same in any batch.

    Raises
    ------
    ValueError
        No systems, one of them twice, a path without ``{replica}``, `batch_atoms`
        below 1, or what :class:`TrajCast` refuses, with the number of the replica.
    TypeError
        `thermostat` is a thermostat and not a function that makes it.

    Notes
    -----
    A forecast in a batch and one alone agree to rounding, not to the last bit, since
    matrix products sum in an order that depends on their size.
    """

    def __init__(
        self,
        systems: Sequence[Atoms],
        model: ForecastModel | str | os.PathLike[str],
        *,
        thermostat: ThermostatMaker | None = None,
        noise: Callable[[Streams], ForecastNoise] | None = None,
        seed: int = 0,
        first_replica: int = 0,
        trajectory: str | None = None,
        logfile: str | None = None,
        loginterval: int = 1,
        logfile_interval: int | None = None,
        append_trajectory: bool = False,
        batch_atoms: int = BATCH_ATOMS,
        guards: Sequence[Guard] | GuardMaker | None = None,
        on_finding: OnFinding = "stop",
        fallback: ForceFallback | None = None,
        evidence: str | None = None,
        device: torch.device | str | None = None,
        engine: EngineChoice = "host",
    ) -> None:
        check_systems(systems)
        check_paths(trajectory, logfile, evidence)
        if thermostat is not None and not callable(thermostat):
            raise TypeError(
                f"thermostat = {thermostat!r} has no random numbers for each replica; "
                "give a function of them: lambda rng: CSVR(300, 70 * units.fs, rng)"
            )
        if batch_atoms < 1:
            raise ValueError(f"batch_atoms = {batch_atoms} must be at least 1")
        self.model = prepared_model(model, device)
        self.first_replica = first_replica
        self._engine = engine
        self._drivers: list[TrajCast] = []
        self._batches: list[Batch] = []
        self._observers: list[tuple[Callable[[], Any], int]] = []
        self._reported: set[int] = set()
        self._nsteps = 0
        self._resumed = False
        for part in batches([len(atoms) for atoms in systems], batch_atoms):
            numbers = [first_replica + k for k in part]
            drawn = (random_stream(seed, n, Purpose.THERMOSTAT) for n in numbers)
            shared = thermostat(Streams(drawn)) if thermostat else None
            kicks = (random_stream(seed, n, Purpose.NOISE) for n in numbers)
            shared_noise = noise(Streams(kicks)) if noise else None
            for k, number in zip(part, numbers, strict=True):
                with self._blaming(number):
                    driver = TrajCast(
                        systems[k],
                        self.model,
                        thermostat=shared,
                        noise=shared_noise,
                        trajectory=numbered(trajectory, number),
                        logfile=numbered(logfile, number),
                        loginterval=loginterval,
                        logfile_interval=logfile_interval,
                        append_trajectory=append_trajectory,
                        guards=guards,
                        on_finding=on_finding,
                        fallback=fallback,
                        evidence=numbered(evidence, number),
                        engine=engine,
                    )
                driver._place = k - part.start  # noqa: SLF001  a friend of the driver
                self._drivers.append(driver)
            self._batches.append(Batch(self._drivers[part.start :], numbers))

    @contextmanager
    def _blaming(self, number: int) -> Iterator[None]:
        """Close all files on an error, and name the replica in it."""
        try:
            yield
        except EXPLAINED as error:
            self.close()
            raise of_replica(error, number) from error

    @overload
    def __getitem__(self, index: int) -> TrajCast: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TrajCast]: ...

    def __getitem__(self, index: int | slice) -> TrajCast | Sequence[TrajCast]:
        """Return the driver of a replica, counted from zero."""
        return self._drivers[index]

    def __len__(self) -> int:
        """Return the number of replicas."""
        return len(self._drivers)

    def __enter__(self) -> Self:
        """Return the replicas, whose files are closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all files."""
        self.close()

    @property
    def nsteps(self) -> int:
        """Number of steps of the batch; who is lost or ended early has made fewer."""
        return self._nsteps

    def attach(
        self, function: Callable[..., Any], interval: int = 1, *args: Any, **kwargs: Any
    ) -> None:
        """Call `function` every `interval` steps, after all replicas' own observers.

        Parameters
        ----------
        function : callable
            Gets `args` and `kwargs`.
        interval : int
            In steps of :attr:`nsteps`.

        Raises
        ------
        ValueError, TypeError
            `interval` is no whole number of at least 1.
        """
        steps = whole_number("interval", interval, least=1)
        self._observers.append((partial(function, *args, **kwargs), steps))

    def close(self) -> None:
        """Close the files of all replicas."""
        for driver in self._drivers:
            driver.close()  # type: ignore[no-untyped-call]  # ASE

    def raise_if_lost(self) -> None:
        """Raise for replicas that failed.

        Raises
        ------
        LostReplicasError
            Naming each with its last good stride and the reason.
        """
        if self.lost:
            raise LostReplicasError(self.lost, len(self)) from self.lost[0].error

    def __repr__(self) -> str:
        """Return number, model, losses and step on one line."""
        lost = f", {len(self.lost)} lost" if self.lost else ""
        return f"Replicas({len(self)} of {self[0]!r}{lost})"

    def run(self, steps: int = 50, *, progress: bool = False) -> bool:
        """Run all replicas; return True when finished.

        The state stays on the device until an observer of any replica is due. An
        observer ends the run of its own replica with ``max_steps = 0``, as in every ASE
        dynamics; the others go on to their end. The next :meth:`run` is again `steps`
        long for each, from where it is.

        A replica that fails is lost: a forecast that is not finite, an edit that cannot
        be forecast, an exception of one of its observers. It is left at its last good
        stride, with a :class:`LostReplicaWarning`, an entry in :attr:`lost` and its
        files closed; the others go on, to the last bit as if nothing had happened.

        Parameters
        ----------
        steps : int
        progress : bool
            Show time, mean temperature, speed of all and time left.

        Raises
        ------
        LostReplicasError
            All replicas are lost.
        ValueError, TypeError, NotImplementedError
            Atoms were changed before the first stride to something that cannot be
            forecast. They can be changed back and the run continued.
        Exception
            What no replica can be blamed for. All are at their last good stride, with
            random numbers and thermostats, and may run on.
        """
        steps = whole_number("steps", steps, least=0)
        if progress:
            from trajcast_ase.progress import followed  # noqa: PLC0415  needs rich

            with followed(self, list(self), self._observers, steps):
                return self.run(steps)
        self._stop_if_nobody_is_left()
        for driver in self._left():
            driver.max_steps = driver.nsteps + steps
        if not self._resumed:
            self._look([one for one in self._left() if one.nsteps == 0])
        if self.nsteps == 0 and not self._resumed:
            self._call_observers()
        first = True
        while going := self._going():
            self._leap(self._steps_until_due(going), first=first)
            first = False
            self._look(going)
            self._call_observers()
        return True

    def _left(self) -> list[TrajCast]:
        """Return the drivers that are not lost."""
        lost = {one.number - self.first_replica for one in self.lost}
        return [one for k, one in enumerate(self._drivers) if k not in lost]

    def _going(self) -> list[TrajCast]:
        """Return the drivers that have steps to make."""
        return [batch.drivers[k] for batch in self._batches for k in batch.going()]

    def _steps_until_due(self, going: Sequence[TrajCast]) -> int:
        """Return the steps until somebody looks, or is at its end."""
        waits = [driver._steps_until_due() for driver in going]  # noqa: SLF001  a friend
        waits += [every - self.nsteps % every for _, every in self._observers]
        return min(waits)

    def _leap(self, steps: int, *, first: bool) -> None:
        """Make `steps` forecasts on the device between two transfers."""
        for batch in self._batches:
            batch.begin_leap(first=first)
        try:
            if self._engine == "device":
                self._leap_on_device(steps)
            else:
                for _ in range(steps):
                    self._step()
        finally:
            for batch in self._batches:
                batch.push()
        self._report()

    def _leap_on_device(self, steps: int) -> None:
        """Let each batch make its strides; an interrupt leaves some of them ahead."""
        before = [driver.nsteps for driver in self]
        try:
            for batch in self._batches:
                if batch.engine is not None:
                    batch.leap_on_device(batch.engine, steps)
        finally:
            made = (d.nsteps - n for d, n in zip(self, before, strict=True))
            self._nsteps += max(made)

    def _step(self) -> None:
        """Make one step of all batches, or of none."""
        stepped: list[tuple[Batch, State]] = []
        try:
            for batch in self._batches:
                if batch.advances:
                    stepped.append((batch, batch.step()))  # noqa: PERF401  half are kept
        except BaseException:  # an interrupt, too
            for batch, _ in stepped:
                batch.undo()
            raise
        for batch, after in stepped:
            batch.advance(after)
        self._nsteps += any(batch.advances for batch in self._batches)

    def _look(self, drivers: Sequence[TrajCast]) -> None:
        """Let the observers of `drivers` see their Atoms; lose those that raise."""
        looking = {id(driver) for driver in drivers} & {id(one) for one in self._left()}
        for batch in self._batches:
            for place, driver in enumerate(batch.drivers):
                if id(driver) not in looking:
                    continue
                try:
                    driver._look()  # noqa: SLF001  a friend of the driver
                except Exception as error:  # noqa: BLE001  the reason, kept
                    batch.lose(place, error)
        self._report()

    def _call_observers(self) -> None:
        for function, interval in self._observers:
            if self.nsteps % interval == 0:
                function()

    def _report(self) -> None:
        """Close the files of replicas that are newly lost, and warn of each."""
        new = [one for one in self.lost if one.number not in self._reported]
        for one in new:
            self._reported.add(one.number)
            self[one.number - self.first_replica].close()  # type: ignore[no-untyped-call]  # ASE
        self._stop_if_nobody_is_left()
        for one in new:
            warnings.warn(
                f"replica {one.number} is lost after stride {one.stride}, the others "
                f"go on: {one.reason}",
                LostReplicaWarning,
                stacklevel=4,
            )

    def _stop_if_nobody_is_left(self) -> None:
        if len(self.lost) == len(self):
            self.raise_if_lost()
