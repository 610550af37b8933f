"""Many systems in one forward pass: replicas, or different systems, side by side.

Each replica is a :class:`TrajCast` with observers, log, trajectory and random numbers
of its own; network and thermostats see a batch of them. A small molecule is bound by
the number of operations, not by their size, so a batch costs little more than one
system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self, overload

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.arguments import prepared_model
from trajcast_ase.constraints import Constraints
from trajcast_ase.driver import NotFiniteError, TrajCast
from trajcast_ase.noise import ForecastNoise, NoisyModel
from trajcast_ase.state import State, as_stored
from trajcast_ase.streams import Purpose, Streams, random_stream
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats import Thermostat

BATCH_ATOMS = 2000
"""Atoms in one forward pass, unless asked otherwise."""
NUMBER = "{replica"
"""What a path must contain for each replica to have a file of its own."""
EXPLAINED = (ValueError, TypeError, NotImplementedError)
"""Errors of input that cannot be forecast."""


ThermostatMaker = Callable[[Streams], Thermostat | Sequence[Thermostat]]
"""Makes what acts on a batch from the random numbers of its systems."""


class Replicas(Sequence[TrajCast]):
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
    noise : callable of a numpy Generator, optional
        Makes the calibrated noise of a replica from its random numbers. Default: none.
    seed : int
        Replica k draws from :func:`trajcast_ase.streams.random_stream` of `seed` and k:
        its numbers do not depend on which other replicas there are.
    first_replica : int
        Number of the first replica, with which a later batch continues.
    trajectory, logfile : str, optional
        Paths with the number in them, such as ``"run-{replica:03d}.traj"``.
    loginterval : int
        Steps between rows of the logs and frames of the trajectories.
    append_trajectory : bool
        Append to existing trajectories instead of overwriting them.
    batch_atoms : int
        Largest number of atoms in one forward pass; it bounds the memory. A system
        that has more is a pass of its own.
    device : str or torch.device, optional

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
        noise: Callable[[np.random.Generator], ForecastNoise] | None = None,
        seed: int = 0,
        first_replica: int = 0,
        trajectory: str | None = None,
        logfile: str | None = None,
        loginterval: int = 1,
        append_trajectory: bool = False,
        batch_atoms: int = BATCH_ATOMS,
        device: torch.device | str | None = None,
    ) -> None:
        _check_systems(systems)
        _check_paths(trajectory, logfile)
        if thermostat is not None and not callable(thermostat):
            raise TypeError(
                f"thermostat = {thermostat!r} has no random numbers for each replica; "
                "give a function of them: lambda rng: CSVR(300, 70 * units.fs, rng)"
            )
        if batch_atoms < 1:
            raise ValueError(f"batch_atoms = {batch_atoms} must be at least 1")
        self.model = prepared_model(model, device)
        self.first_replica = first_replica
        self._drivers: list[TrajCast] = []
        self._batches: list[_Batch] = []
        for part in _batches([len(atoms) for atoms in systems], batch_atoms):
            numbers = [first_replica + k for k in part]
            drawn = (random_stream(seed, n, Purpose.THERMOSTAT) for n in numbers)
            shared = thermostat(Streams(drawn)) if thermostat else None
            for k, number in zip(part, numbers, strict=True):
                kicks = random_stream(seed, number, Purpose.NOISE)
                with self._blaming(number):
                    driver = TrajCast(
                        systems[k],
                        self.model,
                        thermostat=shared,
                        noise=noise(kicks) if noise else None,
                        trajectory=_path(trajectory, number),
                        logfile=_path(logfile, number),
                        loginterval=loginterval,
                        append_trajectory=append_trajectory,
                    )
                driver._place = k - part.start  # noqa: SLF001  a friend of the driver
                self._drivers.append(driver)
            self._batches.append(_Batch(self._drivers[part.start :], numbers))

    @contextmanager
    def _blaming(self, number: int) -> Iterator[None]:
        """Close all files on an error, and name the replica in it."""
        try:
            yield
        except EXPLAINED as error:
            self.close()
            raise _of_replica(error, number) from error

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
        """Number of steps that every replica has made."""
        return int(self._drivers[0].nsteps)

    def close(self) -> None:
        """Close the files of all replicas."""
        for driver in self._drivers:
            driver.close()  # type: ignore[no-untyped-call]  # ASE

    def run(self, steps: int = 50) -> bool:
        """Run all replicas; return True when finished.

        The state stays on the device until an observer of any replica is due.

        Parameters
        ----------
        steps : int

        Raises
        ------
        RuntimeError
            A forecast is not finite. All Atoms hold the step before, and the message
            has the number of the replica.
        ValueError, TypeError, NotImplementedError
            Atoms were changed to something that cannot be forecast.
        """
        for driver in self._drivers:
            driver._begin(steps)  # noqa: SLF001  a friend of the driver
        while self.nsteps < self._drivers[0].max_steps:
            self._leap(min(driver._steps_until_due() for driver in self._drivers))  # noqa: SLF001
            for driver in self._drivers:
                driver._look()  # noqa: SLF001
        return True

    def _leap(self, steps: int) -> None:
        """Make `steps` forecasts on the device between two transfers."""
        for batch in self._batches:
            batch.pull()
        try:
            for _ in range(steps):
                for batch, after in [(one, one.stepped()) for one in self._batches]:
                    batch.advance(after)
        finally:
            for batch in self._batches:
                batch.push()


class _Batch:
    """Replicas whose states are one on the device while they advance.

    Parameters
    ----------
    drivers : list of TrajCast
        They share thermostats, which act on all of them at once.
    numbers : list of int
        Of the replicas.
    """

    def __init__(self, drivers: list[TrajCast], numbers: list[int]) -> None:
        self.drivers, self.numbers = drivers, numbers
        self.pull()

    def pull(self) -> None:
        """Take over what changed in the Atoms since the last transfer."""
        for driver, number in zip(self.drivers, self.numbers, strict=True):
            try:
                driver._mirror.pull(driver.atoms)  # noqa: SLF001  a friend of the driver
            except EXPLAINED as error:
                raise _of_replica(error, number) from error
        mirrors = [driver._mirror for driver in self.drivers]  # noqa: SLF001
        states = [mirror.state for mirror in mirrors]
        self.state = joined(states)
        self.constraints = Constraints.joined([m.constraints for m in mirrors], states)
        self.latest: State | None = None

    def stepped(self) -> State:
        """Return the states one forecast later.

        Raises
        ------
        RuntimeError
            One of them is not finite.
        """
        first = self.drivers[0]
        try:
            return first._stepped(self.state, self.constraints, self._forecaster())  # noqa: SLF001
        except NotFiniteError as error:
            place = int(self.state.system_index[error.atom])
            atom = error.atom - sum(self.state.sizes()[:place])
            text = self.drivers[place]._explained(error.source, atom)  # noqa: SLF001
            raise RuntimeError(f"replica {self.numbers[place]}: {text}") from error

    def advance(self, after: State) -> None:
        """Continue from `after`, as each driver alone would."""
        self.latest, (self.state, _) = after, as_stored(after)
        for driver in self.drivers:
            driver.nsteps += 1

    def push(self) -> None:
        """Write positions and momenta into the Atoms."""
        mirrors = [driver._mirror for driver in self.drivers]  # noqa: SLF001
        if self.latest is not None:
            parts = split(self.latest, [mirror.state for mirror in mirrors])
            for mirror, part in zip(mirrors, parts, strict=True):
                mirror.advance(part)
        for mirror, driver in zip(mirrors, self.drivers, strict=True):
            mirror.push(driver.atoms)

    def _forecaster(self) -> ForecastModel:
        model = self.drivers[0].model
        if self.drivers[0].noise is None:
            return model
        return NoisyModel(model, _JoinedNoise(self.drivers))


class _JoinedNoise:
    """The noise of several replicas, each from its own stream."""

    def __init__(self, drivers: list[TrajCast]) -> None:
        self.noises = [driver.noise for driver in drivers]
        self.sizes = [len(driver.atoms) for driver in drivers]

    def check_elements(self, atomic_numbers: Int[Tensor, " atoms"]) -> None:
        """Do nothing: each replica's driver has checked its own."""

    def draw(
        self, atomic_numbers: Int[Tensor, " atoms"]
    ) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "atoms 3"]]:
        """Return the noise of all replicas, in their order."""
        parts = torch.split(atomic_numbers, self.sizes)
        drawn = [
            noise.draw(numbers)
            for noise, numbers in zip(self.noises, parts, strict=True)
            if noise is not None
        ]
        moved, kicked = zip(*drawn, strict=True)
        return torch.cat(moved), torch.cat(kicked)


def joined(states: Sequence[State]) -> State:
    """Return states as one batch, in their order."""
    sizes = torch.tensor([state.n_systems for state in states])
    offsets = sizes.cumsum(0) - sizes
    index = [
        state.system_index + offset
        for state, offset in zip(states, offsets.tolist(), strict=True)
    ]
    return State(
        positions=torch.cat([state.positions for state in states]),
        velocities=torch.cat([state.velocities for state in states]),
        masses=torch.cat([state.masses for state in states]),
        atomic_numbers=torch.cat([state.atomic_numbers for state in states]),
        cell=torch.cat([state.cell for state in states]),
        pbc=torch.cat([state.pbc for state in states]),
        system_index=torch.cat(index),
    )


def split(batch: State, states: Sequence[State]) -> list[State]:
    """Return the states of a batch, at its positions and velocities."""
    sizes = [state.n_atoms for state in states]
    return [
        state.moved(positions, velocities)
        for state, positions, velocities in zip(
            states,
            torch.split(batch.positions, sizes),
            torch.split(batch.velocities, sizes),
            strict=True,
        )
    ]


def _check_systems(systems: Sequence[Atoms]) -> None:
    if isinstance(systems, Atoms) or len(systems) == 0:
        raise ValueError("give a list of at least one Atoms, one for each replica")
    if len({id(atoms) for atoms in systems}) < len(systems):
        raise ValueError(
            "one Atoms object stands twice in the list; give each replica a copy"
        )


def _check_paths(*paths: str | None) -> None:
    for path in paths:
        if path is not None and NUMBER not in str(path):
            raise ValueError(
                f"the path {path!r} is the same for every replica; put the number in "
                "it, as in 'run-{replica:03d}.traj'"
            )


def _path(template: str | None, number: int) -> str | None:
    return None if template is None else str(template).format(replica=number)


def _batches(sizes: Sequence[int], limit: int) -> list[range]:
    """Return runs of replicas whose atoms together are at most `limit`."""
    starts, used = [0], 0
    for k, size in enumerate(sizes):
        if used and used + size > limit:
            starts.append(k)
            used = 0
        used += size
    ends = [*starts[1:], len(sizes)]
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]


def _of_replica(error: Exception, number: int) -> Exception:
    """Return an error whose text begins with the number of the replica.

    Of the general class: a subclass may need other arguments than a text.
    """
    kind = next(kind for kind in EXPLAINED if isinstance(error, kind))
    return kind(f"replica {number}: {error}")
