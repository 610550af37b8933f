"""Work in several processes, each on one core, which end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from trajcast_ase.dynamics.interruption import Interrupted

Item = TypeVar("Item")
Result = TypeVar("Result")
LOOK_S = 1.0
"""Time between two looks at the workers."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What libraries read when they are loaded; one thread is what a worker has."""
MOST_PROCESSES = 8
"""By default; more runs at once would each be short."""


class WorkerError(ValueError):
    """A process was ended from outside."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    *,
    done: Callable[[Item, Result], None],
    look: Callable[[], None],
    signals: Sequence[int],
) -> None:
    """Do `work` on each item, in `processes` processes at once.

    Parameters
    ----------
    work : callable
        That can be pickled, as the items can.
    items : sequence
    processes : int
    done : callable of an item and its result, in this process
    look : callable, called about each second
    signals : sequence of int
        Numbers of signals that came; the processes end at the first.

    Raises
    ------
    WorkerError
        A process was ended from outside.
    Interrupted
        A signal came.
    """
    context = multiprocessing.get_context("spawn")
    with (
        _one_thread_each(),
        ProcessPoolExecutor(
            min(processes, len(items)),
            context,
            initializer=_begin,
            initargs=(os.getpid(),),
        ) as pool,
    ):
        jobs = {pool.submit(work, item): item for item in items}
        try:
            while jobs:
                finished, _ = wait(jobs, LOOK_S, FIRST_COMPLETED)
                for job in finished:
                    done(jobs.pop(job), job.result())
                look()
                check_signals(signals)
        except BrokenProcessPool as error:
            time.sleep(LOOK_S)  # a signal to all may reach this one last
            check_signals(signals)
            raise WorkerError(
                "a process was ended from outside (by a kill, or for want of memory); "
                "all but its last minute is on disk: go on with the same command, or "
                "with fewer --processes"
            ) from error
        except BaseException:
            # The pool would wait for the work to end, and has no way to end it.
            workers = list((pool._processes or {}).values())  # noqa: SLF001
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.terminate()
            raise


def check_signals(signals: Sequence[int]) -> None:
    """Raise where a signal came.

    Raises
    ------
    Interrupted
    """
    if signals:
        raise Interrupted(
            "interrupted; what was done is on disk, the same command goes on",
            signals[0],
        )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let libraries that new processes load have one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(parent: int) -> None:
    """Prepare a process: it has one core, and ends with its parent.

    A worker of a pool whose parent was killed would wait for work for ever, or go on
    writing where the next command goes on.
    """
    import torch  # noqa: PLC0415  for this process only

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends this
    torch.set_num_threads(1)
