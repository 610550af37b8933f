"""Checkpoints of replicas, and going on from them as if nothing had happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

from ase.calculators.calculator import Calculator

from trajcast_ase.dynamics.batch import Batch
from trajcast_ase.dynamics.checkpoint import (
    RunState,
    check_settings,
    plain,
    read_checkpoint,
    rewind_files,
    write_checkpoint,
)
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.losses import LostReplica
from trajcast_ase.dynamics.replica_arguments import check_paths, numbered
from trajcast_ase.stride import ForecastModel


class ReplicaContinuation(Sequence[TrajCast]):
    """The part of :class:`Replicas` that keeps their runs and takes them over."""

    model: ForecastModel
    first_replica: int
    _batches: list[Batch]
    _reported: set[int]
    _nsteps: int
    _resumed: bool

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
        runs = read_checkpoint(Path(path))
        settings["first_replica"] = runs[0].number
        systems = [run.atoms for run in runs]
        for atoms in systems:
            atoms.calc = calculator
        make = cast("Callable[..., Self]", cls)  # whose arguments are the subclass's
        probe = make(systems, model, **settings)
        check_paths(trajectory, logfile)
        for driver, run in zip(probe, runs, strict=True):
            check_settings(plain(driver.todict()), run.settings)
        continued = [
            rewind_files(
                run,
                {
                    "trajectory": numbered(trajectory, run.number),
                    "logfile": numbered(logfile, run.number),
                },
            )
            for run in runs
        ]
        replicas = make(
            systems,
            probe.model,
            trajectory=trajectory,
            append_trajectory=True,
            loginterval=loginterval,
            **settings,
        )
        for driver, run, files in zip(replicas, runs, continued, strict=True):
            log = numbered(logfile, run.number)
            if log is not None:
                interval, new = logfile_interval or loginterval, "logfile" not in files
                driver._open_log(log, interval, header=new)  # noqa: SLF001
        replicas._take_over(runs)  # noqa: SLF001  own
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
        """
        reasons = {one.number: one.reason for one in self.lost}
        numbers = range(self.first_replica, self.first_replica + len(self))
        runs = [
            replace(driver._run_state(), number=number, lost=reasons.get(number))  # noqa: SLF001
            for driver, number in zip(self, numbers, strict=True)
        ]
        write_checkpoint(Path(path), runs)

    def _take_over(self, runs: Sequence[RunState]) -> None:
        """Go on from the state of a checkpoint."""
        for driver, run in zip(self, runs, strict=True):
            driver._take_over(run)  # noqa: SLF001  a friend of the driver
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
