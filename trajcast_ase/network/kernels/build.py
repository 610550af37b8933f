"""Compile a kernel with the system's C++ compiler, once per machine and source."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

BASE_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared")
# Tried in this order: Apple's clang has no OpenMP, older ones no -march=native on ARM.
OPTIONAL_FLAGS = (("-march=native", "-fopenmp"), ("-march=native",), ())


class CompilerError(RuntimeError):
    """The C++ compiler is missing or refuses a kernel."""


def find_compiler() -> tuple[str, ...] | None:
    """Return the compiler's command, or None where there is none.

    ``$CXX`` decides if it is set (it may carry arguments); else g++, clang++ or c++ of
    the search path.
    """
    chosen = os.environ.get("CXX")
    candidates = [shlex.split(chosen)] if chosen else [["g++"], ["clang++"], ["c++"]]
    for program, *arguments in candidates:
        found = shutil.which(program)
        if found:
            return (found, *arguments)
    return None


def load(source: str) -> ctypes.CDLL:
    """Return the shared library of a C++ source, compiled unless the cache has it.

    Raises
    ------
    CompilerError
        There is no compiler, or it fails.
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError(NO_COMPILER)
    text = "\0".join((source, repr(OPTIONAL_FLAGS), *compiler, *_machine(compiler)))
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = cache_folder() / f"{name}.so"
    if not path.exists():
        _compile(compiler, source, path)
    return ctypes.CDLL(str(path))


NO_COMPILER = (
    "the backend 'cpp' needs a C++ compiler and finds none; install g++ or clang++ (or "
    "point the environment variable CXX to one), or use the backend 'reference'"
)


def cache_folder() -> Path:
    """Return the folder of compiled kernels, ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "trajcast_ase" / "kernels"


@cache
def _machine(compiler: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the machine code depends on besides source and flags."""
    version = subprocess.run(  # noqa: S603  the user's compiler
        [*compiler, "--version"], capture_output=True, text=True, check=False
    ).stdout
    return version, platform.machine(), platform.system(), _cpu_features()


def _cpu_features() -> str:
    """Return the processor's model and features; home folders are often shared."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "CPU part", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _compile(compiler: tuple[str, ...], source: str, path: Path) -> None:
    logger.info("compiling %s with %s", path, compiler[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        program, library = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
        program.write_text(source, encoding="utf-8")
        for optional in OPTIONAL_FLAGS:
            command = [*compiler, *BASE_FLAGS, *optional]
            outcome = subprocess.run(  # noqa: S603  the user's compiler
                [*command, str(program), "-o", str(library)],
                capture_output=True,
                text=True,
                check=False,
            )
            if outcome.returncode == 0:
                # Another process may be doing the same; both results are equal.
                library.replace(path)
                return
    raise CompilerError(
        f"{shlex.join(command)} failed ({outcome.stderr.strip()[-500:]}); set the "
        "environment variable CXX to another compiler or use the backend 'reference'"
    )
