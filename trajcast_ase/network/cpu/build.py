"""Compile a kernel with the system's C++ compiler, once per machine and source."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from trajcast_ase.network.backend import BackendError
from trajcast_ase.network.cpu.cache import digest, folders, keep, kept, warn_unkept

logger = logging.getLogger(__name__)

BASE_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-pthread")
# Tried in this order: older clang has no -march=native on ARM.
OPTIONAL_FLAGS = (("-march=native",), ())
COMPILERS = (("g++",), ("clang++",), ("c++",))
WAY_OUT = (
    "set the environment variable CXX to another compiler or XDG_CACHE_HOME to another "
    "folder, or use the backend 'reference'"
)
NO_COMPILER = (
    "the backend 'cpp' needs a C++ compiler and finds none; install g++ or clang++, or "
    "one from PyPI with pip install 'trajcast-ase[compiler]' (or point the environment "
    "variable CXX to one), or use the backend 'reference'"
)
NO_PROGRAM = (
    "CXX = {!r}: no such program; unset it or point it to a C++ compiler such as g++ "
    "or clang++, or use the backend 'reference'"
)
LONGEST_COMPILATION_S = 1800.0
"""Beyond, a compiler hangs. At first ziglang compiles a C++ library, for minutes."""


class CompilerError(BackendError):
    """There is no C++ compiler, or it fails, or what it makes cannot be loaded."""


def find_compiler() -> tuple[str, ...] | None:
    """Return the compiler's command, or None where there is none.

    ``$CXX`` decides if it is set (it may carry arguments); else g++, clang++ or c++ of
    the search path; else that of the package ziglang.

    Raises
    ------
    CompilerError
        ``$CXX`` is no command line.
    """
    chosen = _chosen()
    for program, *arguments in [_words(chosen)] if chosen else COMPILERS:
        found = shutil.which(program)
        if found:
            return (found, *arguments)
    if chosen or find_spec("ziglang") is None:
        return None
    return (sys.executable, "-m", "ziglang", "c++")


def _chosen() -> str:
    """Return the compiler that the environment asks for, or nothing."""
    return os.environ.get("CXX", "").strip()


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise CompilerError(f"CXX = {command!r}: {error}; {WAY_OUT}") from error


def load(source: str) -> ctypes.CDLL:
    """Return the shared library of a C++ source, compiled unless it is kept.

    Without a compiler, what any compiler made here before is used.

    Raises
    ------
    CompilerError
        There is no compiler, it fails, or what it makes cannot be kept or loaded.
    """
    compiler = find_compiler()
    key = digest(
        "\0".join(
            (source, repr(BASE_FLAGS), repr(OPTIONAL_FLAGS), *_machine())
        ).encode()
    )
    mark = None if compiler is None else _mark(compiler)
    problems: dict[Path, str] = {}
    for folder in folders():
        try:
            path = kept(folder, key, mark)
            if path is None and compiler is not None:
                path = _compile(compiler, source, folder, key)
            library = None if path is None else ctypes.CDLL(str(path))
        except subprocess.TimeoutExpired as error:
            # Half an hour is gone: that is not spent on another folder, too.
            problems[folder] = str(error)
            break
        except (OSError, CompilerError) as error:
            # A linker that finds the disk full fails as one that finds a mistake does.
            problems[folder] = _complaint(error)
            continue
        if library is not None:
            for unusable, problem in problems.items():
                warn_unkept(unusable, problem)
            return library
    if compiler is None:
        chosen = _chosen()
        raise CompilerError(NO_PROGRAM.format(chosen) if chosen else NO_COMPILER)
    raise CompilerError(
        "no program can be compiled, kept and loaded "
        f"({_by_folder(problems) or 'no folder'}); {WAY_OUT}"
    )


def _complaint(error: OSError | CompilerError) -> str:
    """Return what is wrong, without the name of a file that is temporary."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _by_folder(problems: Mapping[Path, str]) -> str:
    """Return what is wrong in which folders, each complaint once."""
    folders_of: dict[str, list[str]] = {}
    for folder, problem in problems.items():
        folders_of.setdefault(problem, []).append(str(folder))
    return "; ".join(f"{', '.join(f)}: {problem}" for problem, f in folders_of.items())


@cache
def _mark(compiler: tuple[str, ...]) -> str:
    """Return what tells compilers apart."""
    try:
        version = _outcome([*compiler, "--version"]).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        version = str(error)
    return digest("\0".join((*compiler, version)).encode())


@cache
def _machine() -> tuple[str, ...]:
    """Return what the machine code depends on besides source, flags and compiler."""
    return platform.machine(), platform.system(), _cpu_features()


def _cpu_features() -> str:
    """Return the processor's model and features; home folders are often shared."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "CPU part", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _compile(compiler: tuple[str, ...], source: str, folder: Path, key: str) -> Path:
    """Return the library that the first choice of flags gives that can be loaded.

    Raises
    ------
    CompilerError
        None of them gives one; the way out is left to the caller.
    OSError
        The folder takes no files.
    subprocess.TimeoutExpired
        The compiler hangs.
    """
    logger.info("compiling a kernel with %s for %s", compiler[0], folder)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        program, library = Path(place) / "kernel.cpp", Path(place) / "kernel.so"
        program.write_text(source, encoding="utf-8")
        refusal: OSError | None = None
        for optional in OPTIONAL_FLAGS:
            command = [*compiler, *BASE_FLAGS, *optional]
            complaint = _run([*command, str(program), "-o", str(library)])
            if complaint is None:
                try:
                    ctypes.CDLL(str(library))
                except OSError as error:  # its OpenMP is missing, or noexec
                    refusal = error
                    continue
                return keep(library, folder, key, _mark(compiler))
    # The same words for each folder: it is named where there is more than one.
    if refusal is not None:
        raise CompilerError(str(refusal).replace(f"{place}/", ""))
    complaint = (complaint or "").replace(f"{place}/", "")
    raise CompilerError(f"{shlex.join(command)} failed ({complaint})")


def _run(command: list[str]) -> str | None:
    """Return what a command complains about where it fails.

    Raises
    ------
    subprocess.TimeoutExpired
        It hangs.
    """
    try:
        outcome = _outcome(command)
    except OSError as error:
        return str(error)
    made = Path(command[-1]).exists()
    if outcome.returncode == 0 and made:
        return None
    return outcome.stderr.strip()[-500:] or "it made no file"


def _outcome(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Return what a command prints, which may be in any encoding."""
    return subprocess.run(  # noqa: S603  the user's compiler
        command,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=LONGEST_COMPILATION_S,
        check=False,
    )
