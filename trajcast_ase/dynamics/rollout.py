"""Carrying a run to its end: checkpoints by the clock, and orderly stops.

A run is carried on in leaps of about a second, between which this module looks at the
clock, at signals and at a stop file. Where it is cut changes no bit of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.interruption import noted_signals
from trajcast_ase.dynamics.replicas import Replicas

LEAP_S = 1.0
"""Longest time between two looks at the clock, unless one stride takes longer."""
EXIT_TO_BE_CONTINUED = 75
"""Status of a run that ended by its limits: the same command goes on (EX_TEMPFAIL)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a run before its last stride.

    Attributes
    ----------
    wall_s : float or None
        Wall time from the beginning of :func:`roll_out`, s.
    stop_file : Path or None
        The run ends when this file is there, and removes it.
    """

    wall_s: float | None = None
    stop_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where and how often a run is kept.

    Attributes
    ----------
    path : Path
    minutes : float
        Wall time between two. The first is written after the first stride, and one more
        at the end, whatever the reason.
    """

    path: Path
    minutes: float = 5.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes
    ----------
    n_strides : int
        Made by this call.
    seconds : float
    reason : str
        Empty where all strides were made.
    exit_status : int
        For a shell: 0, 128 + number of a signal, or 75 where the limits ended the run.
    """

    n_strides: int
    seconds: float
    reason: str = ""
    exit_status: int = 0


def roll_out(
    dynamics: TrajCast | Replicas,
    n_strides: int,
    *,
    checkpoints: Checkpoints | None = None,
    limits: Limits = Limits(),
    signals: Sequence[int] | None = None,
) -> Ending:
    """Run until `dynamics` has made `n_strides` in all, or until something ends it.

    SIGINT and SIGTERM let the present leap end; a second one interrupts it. An observer
    ends the run with ``max_steps = 0``; one that ends a single replica has no lasting
    effect here.

    Parameters
    ----------
    dynamics : TrajCast or Replicas
        New, or restarted from a checkpoint.
    n_strides : int
        Counted from the beginning of the run, not from a restart.
    checkpoints : Checkpoints, optional
    limits : Limits, optional
    signals : sequence of int, optional
        What a :func:`noted_signals` around this call collects, which has begun before
        the files were opened. Default: one of its own.

    Raises
    ------
    ValueError
        More strides than `n_strides` were made already.
    """
    first = dynamics.nsteps
    if first > n_strides:
        raise ValueError(
            f"{first} strides are made already, more than the {n_strides} asked for; "
            "ask for more"
        )
    start = time.perf_counter()
    kept = -math.inf  # the first leap is kept: a kill in the first minutes happens, too
    reason, status, leap = "", 0, 1
    with noted_signals() if signals is None else nullcontext(signals) as noted:
        while True:
            began = time.perf_counter()
            dynamics.run(min(leap, n_strides - dynamics.nsteps))
            now = time.perf_counter()
            leap = _next_leap(leap, now - began)
            reason, status = _why_to_stop(noted, now - start, limits)
            done = dynamics.nsteps >= n_strides or _ended_early(dynamics)
            if done or reason:
                break
            if checkpoints is not None and now - kept > 60.0 * checkpoints.minutes:
                dynamics.checkpoint(checkpoints.path)
                kept = now
        if checkpoints is not None:
            dynamics.checkpoint(checkpoints.path)
    seconds = time.perf_counter() - start
    made = dynamics.nsteps - first
    if done:
        return Ending(made, seconds)
    return Ending(made, seconds, reason, status)


def _next_leap(leap: int, seconds: float) -> int:
    """Return the number of strides that take about `LEAP_S`."""
    if seconds <= 0:
        return 2 * leap
    return max(1, min(2 * leap, int(leap * LEAP_S / seconds)))


def _why_to_stop(
    signals: Sequence[int], seconds: float, limits: Limits
) -> tuple[str, int]:
    """Return the reason to end a run now, and its exit status; "" to go on."""
    if signals:
        return f"signal {signals[0]}", 128 + signals[0]
    if limits.wall_s is not None and seconds >= limits.wall_s:
        return f"the limit of {limits.wall_s:g} s", EXIT_TO_BE_CONTINUED
    if limits.stop_file is not None and limits.stop_file.exists():
        limits.stop_file.unlink()
        return f"the file {limits.stop_file}", EXIT_TO_BE_CONTINUED
    return "", 0


def _ended_early(dynamics: TrajCast | Replicas) -> bool:
    """Return whether observers have ended the run, of replicas every one."""
    runs = [dynamics] if isinstance(dynamics, TrajCast) else list(dynamics)
    return all(one.max_steps == 0 for one in runs)
