"""Checkpoints of a dynamics, and going on from them as if nothing had happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from ase.calculators.calculator import Calculator

from trajcast_ase.dynamics.checkpoint import (
    RunState,
    check_settings,
    noise_state,
    plain,
    read_checkpoint,
    restore_noise,
    restore_thermostats,
    rewind_files,
    thermostat_states,
    write_checkpoint,
)
from trajcast_ase.dynamics.file_marks import CheckpointError, FileMark
from trajcast_ase.dynamics.md_logger import ForceFreeLogger
from trajcast_ase.dynamics.readings import Readings
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat


class Continuation(Readings):
    """The part of :class:`TrajCast` that keeps a run and takes it over."""

    _files: dict[str, Path]
    _resumed: bool

    @classmethod
    def restart(
        cls,
        path: str | os.PathLike[str],
        model: ForecastModel | str | os.PathLike[str],
        *,
        thermostat: Thermostat | Sequence[Thermostat] | None = None,
        noise: ForecastNoise | None = None,
        calculator: Calculator | None = None,
        trajectory: str | os.PathLike[str] | None = None,
        logfile: str | os.PathLike[str] | None = None,
        loginterval: int = 1,
        logfile_interval: int | None = None,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Go on from a checkpoint as if nothing had happened.

        On the same machine with the same settings, the run continues bit for bit: with
        thermostats, temperatures that depend on time, and noise, too. The Atoms are
        ``dynamics.atoms``; attach your observers anew.

        Parameters
        ----------
        path : path
            Written by :meth:`checkpoint`. If it is absent or damaged, the one before.
        model, thermostat, noise, loginterval, logfile_interval, device, **kwargs
            As those of the run that wrote it. Thermostats and noise take over the state
            that they had; the seed of their generators does not matter. Counts of
            guards go on, and the bonds that they keep are those of the start.
        calculator : Calculator, optional
            Of the Atoms, for energies and a `fallback`; checkpoints do not hold it.
        trajectory, logfile : path, optional
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
        if len(runs) != 1:
            raise CheckpointError(
                f"{path} is a checkpoint of {len(runs)} replicas; use Replicas.restart"
            )
        runs[0].atoms.calc = calculator
        settings = {
            "thermostat": thermostat,
            "noise": noise,
            "device": device,
            **kwargs,
        }
        make = cast("Callable[..., Self]", cls)  # whose arguments are the subclass's
        probe = make(runs[0].atoms, model, **settings)
        check_settings(plain(probe.todict()), runs[0].settings)
        continued = rewind_files(
            runs[0], {"trajectory": trajectory, "logfile": logfile}
        )
        dynamics = make(
            runs[0].atoms,
            probe.model,
            trajectory=trajectory,
            append_trajectory=True,
            loginterval=loginterval,
            **settings,
        )
        if logfile is not None:
            header = "logfile" not in continued
            interval = logfile_interval or loginterval
            dynamics._open_log(logfile, interval, header=header)  # noqa: SLF001  own
        dynamics._take_over(runs[0])  # noqa: SLF001  own
        return dynamics

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write everything that :meth:`restart` needs, atomically.

        To be called between runs or as an observer, such as ``dynamics.attach(
        dynamics.checkpoint, 1000, "run.checkpoint")``. The checkpoint before stays as
        ``PATH.previous``.

        Raises
        ------
        CheckpointError
            A thermostat does not tell its state.
        """
        state = self._run_state()
        if self.comm.rank == 0:  # as for every file of ASE
            write_checkpoint(Path(path), [state])

    def _run_state(self) -> RunState:
        """Return everything that a checkpoint keeps of this run."""
        return RunState(
            atoms=self.atoms,
            nsteps=self.nsteps,
            settings=plain(self.todict()),
            thermostats=thermostat_states(self.thermostats, self._place),
            noise=noise_state(self.noise),
            files={
                name: FileMark.of(path)
                for name, path in self._files.items()
                if path.is_file()
            },
            guards=self._guarding.state(),
        )

    def _take_over(self, run: RunState) -> None:
        """Go on from the step, the variables and the random numbers of a checkpoint."""
        restore_thermostats(self.thermostats, self._place, run.thermostats)
        restore_noise(self.noise, run.noise)
        self._guarding.take_over(run.guards, self.atoms, self.model, self.thermostats)
        self.nsteps, self._resumed = run.nsteps, True

    def _open_log(self, logfile: Any, interval: int, *, header: bool = True) -> None:
        if isinstance(logfile, str | os.PathLike) and logfile != "-":
            self._files["logfile"] = Path(logfile)
        logger = ForceFreeLogger(
            self, self.atoms, logfile, header=header, comm=self.comm
        )
        self.closelater(logger)  # type: ignore[no-untyped-call]  # ASE
        self.attach(logger, interval)  # type: ignore[no-untyped-call]  # ASE
