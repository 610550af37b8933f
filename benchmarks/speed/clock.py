"""Clocks of ``run.py``: settings, and contestants who take turns."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Container, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from memory import bound_memory

Clock = Literal["wall", "cpu"]
Key = TypeVar("Key", bound=Hashable)

FEWEST_RUNS = 3
"""Turns that count, however long they take."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    rivals : tuple of str
    device : str
    threads : tuple of int
        Numbers of threads that take turns.
    clock : "wall" or "cpu"
    n_runs : int
        Most turns that count.
    seconds : float
        After which no further turn begins, beyond the fewest.
    mace_python : str
        A Python that has mace-torch, or nothing.
    """

    rivals: tuple[str, ...]
    device: str
    threads: tuple[int, ...]
    clock: Clock
    n_runs: int
    seconds: float
    mace_python: str = ""

    def begin(self) -> None:
        """Prepare this process."""
        # TorchScript, which e3nn writes, is deprecated; that is no news here.
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        torch.set_num_threads(self.threads[0])
        bound_memory(self.device)

    def reader(self) -> Callable[[], float]:
        """Return what reads the time, s, after the device has finished its work."""
        read = time.perf_counter if self.clock == "wall" else time.process_time
        if not self.device.startswith("cuda"):
            return read

        def synchronized() -> float:
            torch.cuda.synchronize()
            return read()

        return synchronized


@dataclass(frozen=True, slots=True)
class Times:
    """Times of a call.

    Attributes
    ----------
    seconds : (n_runs,)
    first : float, s
        Wall time of the first call, which does not count: code is compiled, weights are
        tabulated. Not a number if every call counts.
    """

    seconds: np.ndarray
    first: float

    @property
    def median(self) -> float:
        """Median, s."""
        return float(np.median(self.seconds))

    def columns(self) -> dict[str, Any]:
        """Return median, quartiles and numbers of a row."""
        q1, median, q3 = (1e3 * np.percentile(self.seconds, (25, 50, 75))).tolist()
        return {
            "runs": len(self.seconds),
            "first_s": self.first,
            "step_ms": median,
            "q1_ms": q1,
            "q3_ms": q3,
            "steps_per_s": 1e3 / median,
        }


class Turns(Generic[Key]):
    """Calls that are made in turns, until they fail.

    Parameters
    ----------
    calls : dict
    may_fail : container
        Those that drop out when they raise an exception.
    """

    def __init__(
        self, calls: Mapping[Key, Callable[[], object]], may_fail: Container[Key]
    ) -> None:
        self.calls = dict(calls)
        self.may_fail = may_fail
        self.failures: dict[Key, str] = {}

    def turn(self, read: Callable[[], float]) -> dict[Key, float]:
        """Return the seconds of one call of each that is left."""
        seconds = {}
        for key, call in tuple(self.calls.items()):
            start = read()
            try:
                call()
            except Exception as error:  # whatever a compiler raises
                if key not in self.may_fail:
                    raise
                first_line = str(error).strip().partition("\n")[0]
                self.failures[key] = f"{type(error).__name__}: {first_line}"
                del self.calls[key]
            else:
                seconds[key] = read() - start
        return seconds


def race(
    calls: Mapping[Key, Callable[[], object]],
    settings: Settings,
    *,
    n_warmup: int = 2,
    may_fail: Container[Key] = (),
) -> tuple[dict[Key, Times], dict[Key, str]]:
    """Return the times of each call, and which failed why.

    Load that comes and goes on the machine meets all alike. The first `n_warmup` turns
    do not count; long ones are cut short, as all turns.
    """
    turns = Turns(calls, may_fail)
    read, wall = settings.reader(), replace(settings, clock="wall").reader()
    first = turns.turn(wall) if n_warmup else {}
    end = wall() + settings.seconds
    for _ in range(n_warmup - 1):
        if wall() < end:
            turns.turn(read)
    counted: list[dict[Key, float]] = []
    fewest = min(FEWEST_RUNS, settings.n_runs)
    while len(counted) < settings.n_runs and (len(counted) < fewest or wall() < end):
        counted.append(turns.turn(read))
    times = {
        key: Times(np.array([turn[key] for turn in counted]), first.get(key, math.nan))
        for key in turns.calls
    }
    return times, turns.failures


def on_threads(n_threads: int, call: Callable[[], object]) -> Callable[[], object]:
    """Return the call on a number of threads."""

    def threaded() -> object:
        torch.set_num_threads(n_threads)
        return call()

    return threaded
