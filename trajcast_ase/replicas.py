"""Many systems in one forward pass: replicas, or different systems, side by side.

Each replica is a :class:`TrajCast` of its own, with its observers, log, trajectory and
thermostat; only the network sees them as one batch. A small molecule is bound by the
number of operations, not by their size, so a batch costs little more than one system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Self, overload

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float, Int
from torch import Tensor

from trajcast_ase.arguments import prepared_model
from trajcast_ase.driver import TrajCast
from trajcast_ase.noise import ForecastNoise, NoisyModel
from trajcast_ase.state import State
from trajcast_ase.streams import Purpose, random_stream
from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.thermostats import Thermostat

BATCH_ATOMS = 2000
"""Atoms in one forward pass, unless asked otherwise."""
NUMBER = "{replica"
"""What a path must contain for each replica to have a file of its own."""


class Replicas(Sequence[TrajCast]):
    """Drivers of several systems that advance together.

    ``replicas[k]`` is the :class:`TrajCast` of one of them: attach observers to it, and
    read or edit its ``atoms`` between runs.

    Parameters
    ----------
    systems : sequence of Atoms
        Of any sizes, elements and cells that the model knows.
    model : Forecaster, name of a bundled model, or path to a ``.trajcast`` file
    thermostat : callable of a numpy Generator, optional
        Makes the thermostat of a replica from its stream of random numbers, such as
        ``lambda rng: CSVR(300, 70 * units.fs, rng)``. Default: none.
    noise : callable of a numpy Generator, optional
        Makes the calibrated noise of a replica, from another stream. Default: none.
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
        thermostat: Callable[[np.random.Generator], Thermostat] | None = None,
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
        if batch_atoms < 1:
            raise ValueError(f"batch_atoms = {batch_atoms} must be at least 1")
        self.model = prepared_model(model, device)
        self.first_replica = first_replica
        self._drivers: list[TrajCast] = []
        for number, atoms in enumerate(systems, first_replica):
            try:
                driver = TrajCast(
                    atoms,
                    self.model,
                    thermostat=thermostat(
                        random_stream(seed, number, Purpose.THERMOSTAT)
                    )
                    if thermostat
                    else None,
                    noise=noise(random_stream(seed, number, Purpose.NOISE))
                    if noise
                    else None,
                    trajectory=_path(trajectory, number),
                    logfile=_path(logfile, number),
                    loginterval=loginterval,
                    append_trajectory=append_trajectory,
                )
            except (ValueError, TypeError, NotImplementedError) as error:
                self.close()
                raise type(error)(f"replica {number}: {error}") from error
            self._drivers.append(driver)
        self._batches = _batches([len(atoms) for atoms in systems], batch_atoms)

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
        for number, driver in self._numbered():
            try:
                driver._mirror.pull(driver.atoms)  # noqa: SLF001
            except (ValueError, TypeError, NotImplementedError) as error:
                raise type(error)(f"replica {number}: {error}") from error
        try:
            for _ in range(steps):
                self._advance()
        finally:
            for driver in self._drivers:
                driver._mirror.push(driver.atoms)  # noqa: SLF001

    def _advance(self) -> None:
        """Replace every state by the one a forecast later, or none of them."""
        results: list[State] = []
        for batch in self._batches:
            results += self._strides(batch)
        for driver, after in zip(self._drivers, results, strict=True):
            driver._mirror.advance(after)  # noqa: SLF001
            driver.nsteps += 1

    def _strides(self, batch: range) -> list[State]:
        """Return the states of some replicas one forecast later."""
        drivers = [self._drivers[k] for k in batch]
        before = [driver._held() for driver in drivers]  # noqa: SLF001
        results = []
        with torch.no_grad():
            forecasts = split(stride(self._forecaster(drivers), joined(before)), before)
            for k, driver, held, forecast in zip(
                batch, drivers, before, forecasts, strict=True
            ):
                try:
                    results.append(driver._completed(held, forecast))  # noqa: SLF001
                except RuntimeError as error:
                    number = self.first_replica + k
                    raise RuntimeError(f"replica {number}: {error}") from error
        return results

    def _forecaster(self, drivers: list[TrajCast]) -> ForecastModel:
        if drivers[0].noise is None:
            return self.model
        return NoisyModel(self.model, _JoinedNoise(drivers))

    def _numbered(self) -> Iterator[tuple[int, TrajCast]]:
        return enumerate(self._drivers, self.first_replica)


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
