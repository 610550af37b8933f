"""How far an output file had come, and cutting it back to there.

A run that goes on from a checkpoint writes the frames after it again. What the first
attempt left behind the checkpoint, whole frames or half of one, is cut off, so that the
files of an interrupted run end up byte for byte as those of an uninterrupted one.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

HEAD_BYTES = 48
"""Where ASE's trajectories (ULM files) keep the number of frames."""
BEGINNING = slice(56, 312)
"""Compared, to recognise a file: the first frame, or the first rows of a log.

Bytes 48 to 56 and tables behind later frames change while a trajectory grows.
"""


class CheckpointError(ValueError):
    """A checkpoint cannot be written, read or gone on from."""


@dataclass(frozen=True, slots=True)
class FileMark:
    """State of an output file at a checkpoint.

    Attributes
    ----------
    name : str
        For messages; the file may have moved since.
    size : int
        Bytes.
    head : str
        The first bytes, hexadecimal; they change as a trajectory grows.
    beginning : int
        CRC-32 of what the first frame or the first rows hold.
    """

    name: str
    size: int
    head: str
    beginning: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the present state of a file, all of which has been flushed."""
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(min(HEAD_BYTES, size)).hex()
        return cls(path.name, size, head, _beginning(path, size))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return what :meth:`todict` described; TypeError for anything else."""
        mark = cls(**values)
        numbers = (mark.size, mark.beginning)
        if not all(isinstance(one, int) for one in numbers) or mark.size < 0:
            raise TypeError(f"{values} tells no length")
        bytes.fromhex(mark.head)
        return mark

    def todict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def check(self, path: Path) -> None:
        """Raise CheckpointError for a file that never was in this state."""
        size = path.stat().st_size
        if size < self.size or _beginning(path, self.size) != self.beginning:
            raise CheckpointError(
                f"{path} ({size} bytes) is not the file that the checkpoint goes on "
                f"with ({self.name}, {self.size} bytes then); give that one, or a name "
                "that does not exist to begin a new file"
            )

    def rewind(self, path: Path) -> None:
        """Cut a file back to this state.

        Raises
        ------
        CheckpointError
            It is another file, or shorter than it was.
        """
        self.check(path)
        with path.open("r+b") as file:
            file.truncate(self.size)
            file.seek(0)
            file.write(bytes.fromhex(self.head))


def _beginning(path: Path, size: int) -> int:
    """Return the CRC-32 of the beginning, as it was when the file had `size` bytes."""
    end = min(size, BEGINNING.stop)
    with path.open("rb") as file:
        file.seek(BEGINNING.start)
        return zlib.crc32(file.read(max(0, end - BEGINNING.start)))
