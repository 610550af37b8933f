"""Files that are complete or not there, and that one process writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a kill at any moment leaves the old or the new."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def sole_writer(*paths: Path) -> Iterator[None]:
    """Keep other processes from writing the same files while the block runs.

    Raises
    ------
    FileExistsError
        Another process writes one of them now.
    """
    with ExitStack() as locks:
        for path in paths:
            lock = path.with_name(f".{path.name}.lock")
            try:
                locks.enter_context(FileLock(lock, timeout=0))
            except Timeout as error:
                raise FileExistsError(
                    f"{path} is being written by another process; choose another name "
                    "or wait until that one has ended"
                ) from error
            locks.callback(lock.unlink, missing_ok=True)
        yield
