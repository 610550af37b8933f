"""Whether a run that goes on is the one that a checkpoint kept: settings and files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajcast_ase.dynamics.checkpoint import RunState
from trajcast_ase.dynamics.file_marks import CheckpointError
from trajcast_ase.strict import shortened

ARGUMENTS = {"trajectory": "loginterval", "logfile": "logfile_interval"}
"""That tell how often a file is written."""


class ChangedRunWarning(UserWarning):
    """A run goes on under other circumstances than it was kept in."""


def check_settings(given: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Raise CheckpointError for settings other than those of the checkpoint."""
    for name in sorted({*given, *kept} - {"type"}):
        if given.get(name) != kept.get(name):
            raise CheckpointError(
                f"the checkpoint was written with {name} = {kept.get(name)!r}, but "
                f"the run that shall go on has {given.get(name)!r}; give the same, or "
                "start a new run from the Atoms of its last frame"
            )


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of a run that goes on.

    Attributes
    ----------
    trajectory, logfile : path or None
        Those that exist go on, others begin.
    loginterval : int
    logfile_interval : int or None
        As of the driver.
    """

    trajectory: str | os.PathLike[str] | None
    logfile: str | os.PathLike[str] | None
    loginterval: int
    logfile_interval: int | None

    @property
    def intervals(self) -> dict[str, int]:
        """Steps between two frames, and between two rows of the log."""
        rows = self.logfile_interval or self.loginterval
        return {"trajectory": self.loginterval, "logfile": rows}

    @property
    def existing(self) -> dict[str, Path]:
        """Those that exist."""
        given = {"trajectory": self.trajectory, "logfile": self.logfile}
        paths = {name: Path(path) for name, path in given.items() if path is not None}
        return {name: path for name, path in paths.items() if path.exists()}

    def check(self, run: RunState) -> None:
        """Raise CheckpointError for files that are not those of a checkpoint."""
        for name, path in self.existing.items():
            if name not in run.files:
                raise CheckpointError(
                    f"{path} exists, but the run of the checkpoint wrote no {name}; "
                    "give a name that does not exist"
                )
            run.files[name].check(path)
            kept, given = run.intervals.get(name), self.intervals[name]
            if kept != given:
                raise CheckpointError(
                    f"{path} was written with {ARGUMENTS[name]} = {kept}, but the run "
                    f"that shall go on in it has {given}; give {kept}, or a name that "
                    "does not exist to begin a new file"
                )

    def rewind(self, run: RunState) -> set[str]:
        """Cut the files back to a checkpoint, and return which of them go on."""
        found = self.existing
        for name, path in found.items():
            run.files[name].rewind(path)
        return set(found)


def warn_of_changes(pairs: Iterable[tuple[Mapping[str, Any], RunState]]) -> None:
    """Warn once of circumstances that are no longer those of the checkpoint.

    Parameters
    ----------
    pairs : iterable of (circumstances, RunState)
        Of each system that goes on.
    """
    found = {
        f"{name} = {shortened(given.get(name))} (was {shortened(kept)})": None
        for given, run in pairs
        for name in sorted({*given, *run.circumstances})
        if given.get(name) != (kept := run.circumstances.get(name))
    }
    if found:
        warnings.warn(
            f"the run goes on with {', '.join(found)}: it need not be, bit for bit, "
            "what it would have been without the interruption",
            ChangedRunWarning,
            stacklevel=3,
        )
