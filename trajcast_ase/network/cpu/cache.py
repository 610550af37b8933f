"""Where compiled kernels are kept: files that are what their names say, or nothing.

The name of a file tells source, flags and processor (`key`), the compiler (`mark`), and
the content itself, so that a damaged file is never loaded: that would end the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

WRITABLE_BY_OTHERS = 0o022
DIGITS = 24
NOT_KEPT = "compiled kernels are not kept"
OTHER_FOLDER = "set XDG_CACHE_HOME to a folder"


def cache_folder() -> Path:
    """Return the folder of compiled kernels, ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "trajcast_ase" / "kernels"


def folders() -> Iterator[Path]:
    """Yield the folders to try: the user's, then one that lives with the process.

    A folder that cannot be made, or that others can write to, is left out with a
    warning.
    """
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(folder)
    except (OSError, RuntimeError) as error:
        # RuntimeError: a user without a home.
        _warn(f"{NOT_KEPT}: {error}; {OTHER_FOLDER}")
    else:
        yield folder
    try:
        private = _private_folder().path
    except OSError as error:
        _warn(f"no folder for compiled kernels: {error}")
    else:
        yield private


def digest(content: bytes) -> str:
    """Return the fingerprint of a file or a source."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def kept(folder: Path, key: str, mark: str | None) -> Path | None:
    """Return a kernel from `folder`; of any compiler if `mark` is None.

    Damaged files are removed.
    """
    for path in sorted(folder.glob(f"{key}-{mark or '*'}-*.so")):
        with contextlib.suppress(OSError):
            if digest(path.read_bytes()) == path.stem.rsplit("-", 1)[-1]:
                return path
            logger.info("%s is damaged: it is made anew", path)
            path.unlink()
    return None


def keep(library: Path, folder: Path, key: str, mark: str) -> Path:
    """Move a new kernel to its place and return it."""
    path = folder / f"{key}-{mark}-{digest(library.read_bytes())}.so"
    # Another process may be doing the same; both results are equal.
    library.replace(path)
    return path


def warn_unkept(folder: Path, problem: str) -> None:
    """Log, once for each folder, that kernels had to be put elsewhere.

    They go with the process, and the next one compiles them again.
    """
    if folder not in _unkept:
        _unkept.add(folder)
        logger.warning(
            "%s in %s: %s; %s that can hold and run them, or each process compiles "
            "them anew",
            NOT_KEPT,
            folder,
            problem,
            OTHER_FOLDER,
        )


_unkept: set[Path] = set()


def _check_owner(folder: Path) -> None:
    """Raise PermissionError for a folder into which somebody else can put files."""
    if not hasattr(os, "getuid"):
        return
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & WRITABLE_BY_OTHERS:
        raise PermissionError(f"others can write to {folder}")


class _PrivateFolder:
    """A folder that goes when the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="trajcast_ase-kernels-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@cache
def _private_folder() -> _PrivateFolder:
    return _PrivateFolder()


@cache
def _warn(message: str) -> None:
    """Log a warning, each only once."""
    logger.warning(message)
