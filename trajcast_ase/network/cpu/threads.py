"""Threads of the kernels, and whether kernels work on this machine."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from trajcast_ase.network.cpu.build import WAY_OUT, CompilerError, load

PARTS, SUM_OF_SQUARES = 5, 30


class Threads(ctypes.Structure):
    """``struct Threads`` of the C++ programs: how many, and what makes them work."""

    _fields_ = (("n", ctypes.c_int64), ("run", ctypes.c_void_p))


def check_kernels() -> None:
    """Compile, keep and run a small program, on two threads.

    Raises
    ------
    CompilerError
        Kernels will not work here.
    """
    library = load(_source())
    try:
        found = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(
            ("probe", library)
        )(PARTS, 2)
    except AttributeError as error:
        raise CompilerError(f"{error}; {WAY_OUT}") from error
    if found != SUM_OF_SQUARES:
        raise CompilerError(f"a compiled program fails; {WAY_OUT}")


def threads(n: int) -> Threads:
    """Return what a kernel needs to run on `n` threads, at least its own."""
    return Threads(n, _runner()) if n > 1 else Threads(1, None)


@cache
def _runner() -> int | None:
    """Return the address of ``run_parts``, compiled on first use."""
    return ctypes.cast(load(_source()).run_parts, ctypes.c_void_p).value


@cache
def _source() -> str:
    return Path(__file__).with_name("threads.cpp").read_text(encoding="utf-8")
