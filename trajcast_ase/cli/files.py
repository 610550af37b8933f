"""The files of ``trajcast run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trajcast_ase.cli.output import OF_SUFFIX
from trajcast_ase.conversion import is_copy
from trajcast_ase.dynamics.checkpoint import has_checkpoint, previous
from trajcast_ase.guards.evidence import SUFFIX

TRAJECTORY, LOG, CHECKPOINT = ".traj", ".log", ".checkpoint"
EVIDENCE = SUFFIX
"""What is there only if a run was stopped by its guards."""
NUMBER = "-{replica:02d}"
"""What follows the prefix in the files of a replica."""


@dataclass(frozen=True, slots=True)
class Files:
    """Trajectory and log of a run, or of each of its replicas.

    Attributes
    ----------
    prefix : Path
    replicas : range or None
        Their numbers; None for a single run.
    copy : str
        Suffix of the trajectory in another format, beside ``.traj``; "" for none.
    """

    prefix: Path
    replicas: range | None
    copy: str = ""

    def paths(self, suffix: str) -> list[Path]:
        """Return the files that end in `suffix`, one for each run."""
        ends = [""]
        if self.replicas is not None:
            ends = [NUMBER.format(replica=k) for k in self.replicas]
        name = self.prefix.name
        return [self.prefix.with_name(f"{name}{end}{suffix}") for end in ends]

    def template(self, suffix: str) -> str:
        """Return the path of a replica's file as a format of its number."""
        prefix = str(self.prefix).replace("{", "{{").replace("}", "}}")
        return f"{prefix}{NUMBER}{suffix}"

    @property
    def numbers(self) -> range:
        """Numbers of the replicas; that of a single run is 0."""
        return range(1) if self.replicas is None else self.replicas

    @property
    def checkpoint(self) -> Path:
        """The file that keeps the whole run, or all its replicas."""
        return self.paths(CHECKPOINT)[0]

    def prepare(
        self, start: Path, *, overwrite: bool, restart: bool, append: bool = False
    ) -> None:
        """Make the folder, and check that nothing is replaced that must stay.

        Where a run goes on, a copy that it made itself is replaced.

        Raises
        ------
        FileExistsError
            A file is there and may not be replaced.
        FileNotFoundError
            There is nothing to append to.
        """
        if append:
            trajectory = self.paths(TRAJECTORY)[0]
            if not trajectory.exists():
                raise FileNotFoundError(
                    f"--append: there is no {trajectory} to go on with; leave --append "
                    "out to begin it"
                )
        if append or (restart and has_checkpoint(self.checkpoint)):
            self._check_copies(start, overwrite=overwrite)
            return
        way_out = "or --restart to go on from a checkpoint"
        if restart:
            way_out = f"with --restart for where there is no {self.checkpoint.name}"
        for file in self._all():
            if file.exists() and (not overwrite or file.samefile(start)):
                raise FileExistsError(
                    f"{file} exists; choose another --out or pass --overwrite (never "
                    f"for the start itself), {way_out}"
                )
        self.prefix.parent.mkdir(parents=True, exist_ok=True)

    def _check_copies(self, start: Path, *, overwrite: bool) -> None:
        """Raise FileExistsError for the start, or a file that is not the run's own."""
        if not self.copy:
            return
        kind = OF_SUFFIX[self.copy].value
        for source, copy in zip(
            self.paths(TRAJECTORY), self.paths(self.copy), strict=True
        ):
            if not copy.exists():
                continue
            if start.exists() and copy.samefile(start):
                what = "is the start"
            elif overwrite or (source.exists() and is_copy(source, copy, kind)):
                continue
            else:
                what = f"exists and is no copy of {source}"
            raise FileExistsError(
                f"{copy} {what}, and --format {kind} would replace it; move it away, "
                "or take another format"
            )

    def clear(self) -> None:
        """Remove what a new run replaces: ASE appends to logs."""
        for file in self._all():
            file.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        kept = [self.checkpoint, previous(self.checkpoint)]
        written = [*self.paths(TRAJECTORY), *self.paths(LOG), *self.paths(EVIDENCE)]
        copies = self.paths(self.copy) if self.copy else []
        return [*written, *copies, *kept]

    def __str__(self) -> str:
        """Return the names, of replicas those of the first and the last."""
        suffixes = [TRAJECTORY, *([self.copy] if self.copy else []), LOG]
        sets = zip(*(self.paths(suffix) for suffix in suffixes), strict=True)
        names = [", ".join(map(str, each)) for each in sets]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
