"""The files of ``trajcast run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TRAJECTORY, LOG = ".traj", ".log"
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
    """

    prefix: Path
    replicas: range | None

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

    def prepare(self, start: Path, *, overwrite: bool) -> None:
        """Make the folder, and check that nothing is replaced that must stay.

        Raises
        ------
        FileExistsError
            A file is there and may not be replaced.
        """
        for file in (*self.paths(TRAJECTORY), *self.paths(LOG)):
            if file.exists() and (not overwrite or file.samefile(start)):
                raise FileExistsError(
                    f"{file} exists; choose another --out or pass --overwrite (never "
                    "for the start itself)"
                )
        self.prefix.parent.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        """Return the names, of replicas those of the first and the last."""
        pairs = zip(self.paths(TRAJECTORY), self.paths(LOG), strict=True)
        names = [", ".join(map(str, pair)) for pair in pairs]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
