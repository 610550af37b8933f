"""Checkpoints of replicas, and going on from them as if nothing had happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from ase.calculators.calculator import Calculator

from trajcast_ase.dynamics.batch import Batch
from trajcast_ase.dynamics.checkpoint import (
    RunState,
    read_checkpoint,
    write_checkpoint,
)
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.losses import LostReplica
from trajcast_ase.dynamics.replica_arguments import check_paths, numbered
from trajcast_ase.dynamics.same_run import Outputs, warn_of_changes
from trajcast_ase.stride import ForecastModel


class ReplicaContinuation(Sequence[TrajCast]):
    """The part of :class:`Replicas` that keeps their runs and takes them over."""

    model: ForecastModel
    first_replica: int
    _batches: list[Batch]
    _reported: set[int]
    _nsteps: int
    _resumed: bool

    if TYPE_CHECKING:

        def close(self) -> None:
            """Close the files of all replicas."""

    @property
    def lost(self) -> tuple[LostReplica, ...]:
        """The replicas that failed, in the order of their numbers."""
        found = [one for batch in self._batches for one in batch.lost]
        return tuple(sorted(found, key=lambda one: one.number))

    @classmethod
    def restart(
        cls,
        path: str | os.PathLike[str],
        model: ForecastModel | str | os.PathLike[str],
        *,
        calculator: Calculator | None = None,
        trajectory: str | None = None,
        logfile: str | None = None,
        loginterval: int = 1,
        logfile_interval: int | None = None,
        **settings: Any,
    ) -> Self:
        """Go on from a checkpoint as if nothing had happened; lost ones stay lost.

        Parameters
        ----------
        path : path
            Written by :meth:`checkpoint`. If it is absent or damaged, the one before.
        model, loginterval, logfile_interval, **settings
            As of the replicas that wrote it: `thermostat`, `noise`, `batch_atoms`,
            `guards` and so on. Counts of guards go on, and kept bonds are those of the
            start.
        calculator : Calculator, optional
            Of all Atoms, for energies and a `fallback`; checkpoints do not hold it.
        trajectory, logfile : str, optional
            Existing files are cut back to the checkpoint and continued; others begin.

        Raises
        ------
        FileNotFoundError
            There is no checkpoint.
        CheckpointError
            The checkpoint is damaged, is of another model or other settings, or a file
            is not the one that it belongs to.
        """
        check_paths(trajectory, logfile)
        runs = read_checkpoint(Path(path))
        settings["first_replica"] = runs[0].number
        systems = [run.atoms for run in runs]
        for atoms in systems:
            atoms.calc = calculator
        make = cast("Callable[..., Self]", cls)  # whose arguments are the subclass's
        replicas = make(systems, model, **settings)
        outputs = [
            Outputs(
                numbered(trajectory, run.number),
                numbered(logfile, run.number),
                loginterval,
                logfile_interval,
            )
            for run in runs
        ]
        for driver, run, files in zip(replicas, runs, outputs, strict=True):
            driver._check_kept(run, files)  # noqa: SLF001  a friend of the driver
        replicas._go_on(runs, outputs)  # noqa: SLF001  own
        warn_of_changes(
            (replicas._circumstances(driver), run)  # noqa: SLF001  own
            for driver, run in zip(replicas, runs, strict=True)
        )
        return replicas

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write everything that :meth:`restart` needs, atomically, in one file.

        To be called between runs or as an observer, such as ``replicas.attach(
        replicas.checkpoint, 1000, "run.checkpoint")``. The checkpoint before stays as
        ``PATH.previous``.

        Raises
        ------
        CheckpointError
            A thermostat does not tell its state.
        CheckpointElsewhereError
            As of :meth:`TrajCast.checkpoint`.
        """
        reasons = {one.number: one.reason for one in self.lost}
        numbers = range(self.first_replica, self.first_replica + len(self))
        runs = [
            replace(
                driver._run_state(),  # noqa: SLF001  a friend of the driver
                circumstances=self._circumstances(driver),
                number=number,
                lost=reasons.get(number),
            )
            for driver, number in zip(self, numbers, strict=True)
        ]
        write_checkpoint(Path(path), runs)

    def _circumstances(self, driver: TrajCast) -> dict[str, Any]:
        """Return those of a driver, and how many share its forward pass."""
        own = (one.drivers for one in self._batches if driver in one.drivers)
        return driver._circumstances() | {"batch": len(next(own))}  # noqa: SLF001

    def _go_on(self, runs: Sequence[RunState], outputs: Sequence[Outputs]) -> None:
        """Take over a checkpoint and its files."""
        try:
            for driver, run, files in zip(self, runs, outputs, strict=True):
                driver._go_on(run, files)  # noqa: SLF001  a friend of the driver
        except BaseException:
            self.close()
            raise
        for batch in self._batches:
            for place, number in enumerate(batch.numbers):
                reason = runs[number - self.first_replica].lost
                if reason is not None:
                    batch.lose(place, RuntimeError(reason))
        for one in self.lost:
            self._reported.add(one.number)
            self[one.number - self.first_replica].close()  # type: ignore[no-untyped-call]  # ASE
        self._nsteps = max(run.nsteps for run in runs)
        self._resumed = True
