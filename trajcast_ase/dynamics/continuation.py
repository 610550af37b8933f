"""Checkpoints of a dynamics, and going on from them as if nothing had happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory

from trajcast_ase.dynamics.appending import Earlier, earlier
from trajcast_ase.dynamics.arguments import whole_number
from trajcast_ase.dynamics.checkpoint import (
    RunState,
    noise_state,
    plain,
    read_checkpoint,
    restore_noise,
    restore_thermostats,
    thermostat_states,
    write_checkpoint,
)
from trajcast_ase.dynamics.file_marks import CheckpointError, FileMark
from trajcast_ase.dynamics.md_logger import ForceFreeLogger
from trajcast_ase.dynamics.readings import Readings
from trajcast_ase.dynamics.same_run import (
    Outputs,
    check_settings,
    warn_of_changes,
)
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat


class Continuation(Readings):
    """The part of :class:`TrajCast` that keeps a run and takes it over."""

    _files: dict[str, Path]
    _intervals: dict[str, int]
    _writing: dict[str, Any]
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
        dynamics = make(runs[0].atoms, model, **settings)
        outputs = Outputs(trajectory, logfile, loginterval, logfile_interval)
        dynamics._check_kept(runs[0], outputs)  # noqa: SLF001  own
        dynamics._go_on(runs[0], outputs)  # noqa: SLF001  own
        warn_of_changes([(dynamics._circumstances(), runs[0])])  # noqa: SLF001  own
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
        CheckpointElsewhereError
            `path` cannot be written, such as on a full disk: the checkpoint lies in
            the system's temporary folder, and the error tells where. An OSError.
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
            circumstances=self._circumstances(),
            thermostats=thermostat_states(self.thermostats, self._place),
            noise=noise_state(self.noise, self._place),
            files={
                name: FileMark.of(path)
                for name, path in self._files.items()
                if path.is_file()
            },
            intervals=dict(self._intervals),
            guards=self._guarding.state(),
        )

    def _circumstances(self) -> dict[str, Any]:
        """Return what is no setting of the dynamics, and yet changes what comes."""
        self._guarding.watch(self.atoms, self.model, self.thermostats)
        calculator = self.atoms.calc
        if isinstance(calculator, SinglePointCalculator):  # soon dropped
            calculator = None
        return {
            "device": str(self.model.device),
            "threads": torch.get_num_threads(),
            "calculator": None if calculator is None else type(calculator).__name__,
            **plain(self._guarding.todict()),
        }

    def _check_kept(self, run: RunState, outputs: Outputs) -> None:
        """Raise CheckpointError for a checkpoint or files of another run."""
        check_settings(plain(self.todict()), run.settings)
        outputs.check(run)

    def _go_on(self, run: RunState, outputs: Outputs) -> None:
        """Take over a checkpoint and its files."""
        continued, intervals = outputs.rewind(run), outputs.intervals
        if outputs.trajectory is not None:
            every = intervals["trajectory"]
            self._open_trajectory(outputs.trajectory, every, before=Earlier())
        if outputs.logfile is not None:
            new = "logfile" not in continued
            self._open_log(outputs.logfile, intervals["logfile"], header=new)
        self._take_over(run)

    def _take_over(self, run: RunState) -> None:
        """Go on from the step, the variables and the random numbers of a checkpoint."""
        restore_thermostats(self.thermostats, self._place, run.thermostats)
        restore_noise(self.noise, self._place, run.noise)
        self._guarding.take_over(run.guards, self.atoms, self.model, self.thermostats)
        self.nsteps, self._resumed = run.nsteps, True

    def _earlier(self, path: str | os.PathLike[str], interval: int) -> Earlier:
        """Return what frames can be appended to; ValueError for another run's file."""
        interval = whole_number("loginterval", interval)
        found = earlier(path, self.atoms, self.dt, interval)
        self.comm.barrier()  # before the first process writes
        return found

    def _open_trajectory(
        self,
        path: str | os.PathLike[str],
        interval: int,
        *,
        before: Earlier | None = None,
    ) -> None:
        """Write a frame every `interval` steps, to what was there `before` if given.

        Opened once, unlike in ASE 3.27.
        """
        interval = whole_number("loginterval", interval)
        self._files["trajectory"] = Path(path)
        self._intervals["trajectory"] = interval
        self._guarding.keep_evidence_beside(Path(path))
        writer = Trajectory(os.fspath(path), "a" if before else "w", **self._writing)
        self.closelater(writer)  # type: ignore[no-untyped-call]  # ASE
        self.trajectory = writer  # as ASE names it

        def write() -> None:
            if before and self.nsteps == 0 and before.holds(self.atoms):
                return
            writer.set_description(self.todict() | {"interval": interval})
            writer.write(self.atoms)

        self.attach(write, interval)  # type: ignore[no-untyped-call]  # ASE

    def _open_log(self, logfile: Any, interval: int, *, header: bool = True) -> None:
        interval = whole_number("logfile_interval", interval)
        if isinstance(logfile, str | os.PathLike) and logfile != "-":
            self._files["logfile"] = Path(logfile)
            self._intervals["logfile"] = interval
        logger = ForceFreeLogger(
            self, self.atoms, logfile, header=header, comm=self.comm
        )
        self.closelater(logger)  # type: ignore[no-untyped-call]  # ASE
        self.attach(logger, interval)  # type: ignore[no-untyped-call]  # ASE
