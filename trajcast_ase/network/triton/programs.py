"""Triton programs: compiled for a card, or interpreted where that is switched on."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from trajcast_ase.network.backend import BackendError

Grid = tuple[int, ...]
SWITCH = "TRITON_INTERPRET"
"""Variable of the environment that Triton itself reads."""


def is_interpreted() -> bool:
    """Return whether the environment asks Triton to interpret kernels on the CPU."""
    return os.environ.get(SWITCH, "").lower() in {"1", "true", "yes", "on", "y"}


def program(name: str) -> Any:
    """Return a kernel of :mod:`.kernels`, ready to launch."""
    from trajcast_ase.network.triton import kernels  # noqa: PLC0415  imports Triton

    return _program(getattr(kernels, name), is_interpreted())


def generated(source: str) -> Any:
    """Return a kernel from its source, ready to launch."""
    return _program(_function(source), is_interpreted())


def power_of_two(least: int) -> int:
    """Return the smallest power of two that is not below a number."""
    return 1 << (least - 1).bit_length()


def launch(
    kernel: Any, grid: Grid, *arguments: Any, on: Tensor, **options: Any
) -> None:
    """Run a kernel on the device of a tensor; an empty grid is nothing to do.

    Raises
    ------
    BackendError
        The kernel cannot be compiled here, or the card lacks what it needs.
    """
    from triton.errors import TritonError  # noqa: PLC0415  an optional dependency

    if 0 in grid:
        return
    try:
        with torch.cuda.device_of(on):  # type: ignore[no-untyped-call]
            kernel[grid](*arguments, enable_fp_fusion=True, **options)
    except TritonError as error:
        raise BackendError(
            f"a kernel of the backend 'triton' does not work here: {error}; use the "
            "backend 'reference'"
        ) from error


@cache
def _program(function: Callable[..., None], interpreted: bool) -> Any:  # noqa: ARG001
    import triton  # noqa: PLC0415  an optional dependency

    # Sizes change from step to step: a kernel for every divisor would be compiled anew.
    return triton.jit(function, do_not_specialize=["n_atoms", "n_values"])


@cache
def _function(source: str) -> Callable[..., None]:
    """Return the function of a source, which Triton wants to be able to look up."""
    import triton.language  # noqa: PLC0415  an optional dependency

    name = f"<kernel {sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names: dict[str, Any] = {"tl": triton.language, "__name__": __name__}
    exec(compile(source, name, "exec"), names)  # noqa: S102  our own text
    (function,) = (f for f in names.values() if isinstance(f, FunctionType))
    return function
