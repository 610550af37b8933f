"""Shares to workers, over any executor: who is lost is replaced, nothing is redone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from trajcast_ase.dynamics.interruption import noted_signals
from trajcast_ase.dynamics.rollout import EXIT_TO_BE_CONTINUED, Ending, Limits
from trajcast_ase.ensemble.folder import Folder, clear_messages
from trajcast_ase.ensemble.plan import EnsembleError, Plan, Share
from trajcast_ase.ensemble.share import has_ended, run_share, strides_kept, strides_made

POLL_S = 0.5
"""Time between two looks at workers, signals and the clock."""
STOP_S = 300.0
"""How long shares that were told to stop may take for their last stride."""
MOST_BREAKS = 3
"""How often a pool that breaks is replaced by a new one."""

Pool = Executor | Callable[[], AbstractContextManager[Executor]]
"""An executor, or what makes one: a new one replaces one that a lost worker broke."""


class SharesFailedError(RuntimeError):
    """Shares of an ensemble have failed, and the others are done.

    Parameters
    ----------
    failed : sequence of (Share, Exception)
    total : int
        Number of all shares.
    """

    def __init__(
        self, failed: Sequence[tuple[Share, BaseException]], total: int
    ) -> None:
        each = "; ".join(f"{share}: {_told(error)}" for share, error in failed)
        super().__init__(
            f"{len(failed)} of {total} shares have failed; the same command goes on "
            f"with them: {each}"
        )
        self.failed = tuple(failed)


@dataclass(frozen=True, slots=True)
class Status:
    """How far an ensemble is.

    Attributes
    ----------
    strides : int
        Made by all replicas together.
    total : int
        To be made by all together.
    ended, running, shares : int
        Shares that have ended, that a worker has begun, and all.
    """

    strides: int
    total: int
    ended: int
    running: int
    shares: int


@dataclass(frozen=True, slots=True)
class Means:
    """By what an ensemble is carried out; no random number depends on it.

    Attributes
    ----------
    pool : Executor, or callable that returns one
        As a context manager, for the latter.
    device : str
        Of each worker.
    backend : str
        That computes the network there.
    checkpoint_minutes : float
        Wall time between two checkpoints of a share.
    limits : Limits
    report : callable of Status, optional
        Called twice a second or so.
    """

    pool: Pool
    device: str = "cpu"
    backend: str = "auto"
    checkpoint_minutes: float = 5.0
    limits: Limits = field(default_factory=Limits)
    report: Callable[[Status], None] | None = None


def carry_out(folder: Folder, plan: Plan, means: Means) -> Ending:
    """Run all shares that have not ended, until they have or something stops them.

    Parameters
    ----------
    folder : Folder
        That the caller alone writes, with its plan, model and starts.
    plan : Plan
    means : Means

    Raises
    ------
    SharesFailedError
        Some have failed; all others have ended.
    BrokenExecutor
        Workers were lost again and again, or once of a pool that was given ready-made.
    """
    started = time.perf_counter()
    clear_messages(folder, plan)
    with noted_signals() as signals:
        work = _Work(folder, plan, means, _Stops(means.limits, signals, started))
        first = work.strides()
        _with_new_pools(work)
        made = work.strides() - first
    seconds = time.perf_counter() - started
    if work.todo and work.stops.reason:
        return Ending(made, seconds, work.stops.reason, work.stops.exit_status)
    if work.failed:
        failed = [(plan.shares[number], why) for number, why in work.failed.items()]
        raise SharesFailedError(failed, len(plan.shares))
    return Ending(made, seconds)


def first_made(pool: Pool) -> Pool:
    """Return a pool of which the first is made, so that it is refused early.

    Raises
    ------
    EnsembleError
        Its processes would be forked.
    """
    if isinstance(pool, Executor):
        _refuse_forks(pool)
        return pool
    first = [pool()]
    _refuse_forks(first[0])
    return lambda: first.pop() if first else pool()


def _with_new_pools(work: _Work) -> None:
    """Follow the work to its end; a pool that broke is replaced where possible."""
    ready_made = isinstance(work.means.pool, Executor)
    breaks = 0
    while work.todo:
        try:
            with _opened(work.means.pool) as executor:
                if not work.follow(executor) and not ready_made:
                    _kill(executor)
                return
        except BrokenExecutor as error:
            breaks += 1
            if ready_made:
                raise BrokenExecutor(
                    f"a worker was lost, and the pool with it ({error}); the same "
                    "command again goes on, or give a function that makes the pool, "
                    "such as executor=partial(ProcessPoolExecutor, 4, mp_context="
                    'get_context("spawn")), to have it replaced'
                ) from error
            if breaks > MOST_BREAKS:
                raise BrokenExecutor(
                    f"workers were lost {breaks} times ({error}); is there too little "
                    "memory? The same command again goes on"
                ) from error


@contextmanager
def _opened(pool: Pool) -> Iterator[Executor]:
    """Open a pool of one's own, or use another's, which stays open."""
    made = nullcontext(pool) if isinstance(pool, Executor) else pool()
    with made as executor:
        _refuse_forks(executor)
        yield executor


def _refuse_forks(pool: object) -> None:
    """Raise EnsembleError for a pool that forks: with threads its processes hang.

    They inherit the locks of OpenMP, but not the threads that would release them.
    """
    if not isinstance(pool, ProcessPoolExecutor):
        return
    context = getattr(pool, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise EnsembleError(
            "the executor forks its processes, which may hang after torch has computed "
            'in this one; give mp_context=multiprocessing.get_context("spawn") to '
            "ProcessPoolExecutor"
        )


def _kill(pool: Executor) -> None:
    """End processes that did not stop in time; their checkpoints stay.

    A pool would wait for them when it closes, and some do not listen to SIGTERM.
    """
    if isinstance(pool, ProcessPoolExecutor):
        workers = list((pool._processes or {}).values())  # noqa: SLF001
        pool.shutdown(wait=False, cancel_futures=True)
        # Its thread forgets withdrawn shares first: it fails where it tells them.
        time.sleep(POLL_S)
        for worker in workers:
            worker.kill()


@dataclass(slots=True)
class _Stops:
    """What ends an ensemble early: a signal, the clock, a file."""

    limits: Limits
    signals: Sequence[int]
    started: float
    reason: str = ""
    exit_status: int = 0
    asked: float = 0.0

    def look(self) -> bool:
        """Return whether to stop; the first reason stays."""
        if not self.reason:
            self.reason, self.exit_status = self._found()
        return bool(self.reason)

    def overdue(self) -> bool:
        """Return whether the shares have had their time to write checkpoints."""
        self.asked = self.asked or time.perf_counter()
        return time.perf_counter() - self.asked > STOP_S

    def _found(self) -> tuple[str, int]:
        if self.signals:
            return f"signal {self.signals[0]}", 128 + self.signals[0]
        wall_s, stop_file = self.limits.wall_s, self.limits.stop_file
        if wall_s is not None and time.perf_counter() - self.started >= wall_s:
            return f"the limit of {wall_s:g} s", EXIT_TO_BE_CONTINUED
        if stop_file is not None and stop_file.exists():
            stop_file.unlink()
            return f"the file {stop_file}", EXIT_TO_BE_CONTINUED
        return "", 0


@dataclass(slots=True)
class _Work:
    """The shares that are left, and what became of the others."""

    folder: Folder
    plan: Plan
    means: Means
    stops: _Stops
    todo: set[int] = field(init=False)
    kept: dict[int, int] = field(init=False)
    failed: dict[int, BaseException] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        left = [
            share
            for share in self.plan.shares
            if not has_ended(self.folder, self.plan, share)
        ]
        self.todo = {share.number for share in left}
        self.kept = {share.number: strides_kept(self.folder, share) for share in left}

    def follow(self, executor: Executor) -> bool:
        """Submit what is left and wait for it, until all is done or told to stop.

        Returns
        -------
        bool
            Whether all shares came back; False where some did not stop in time.
        """
        if self.stops.look():
            return True
        task = partial(
            run_share,
            str(self.folder.path.absolute()),
            device=self.means.device,
            backend=self.means.backend,
            checkpoint_minutes=self.means.checkpoint_minutes,
        )
        waiting = {
            executor.submit(task, number): number for number in sorted(self.todo)
        }
        while waiting:
            self._report()
            done, _ = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
            again = [
                number
                for future in done
                if not self._settled(number := waiting.pop(future), future)
            ]
            if self.stops.look():
                self._stop(waiting)
                if self.stops.overdue():
                    return not waiting
            else:
                # Stopped by a signal to their worker alone.
                waiting |= {executor.submit(task, number): number for number in again}
        self._report()
        return True

    def strides(self) -> int:
        """Return the strides that all replicas have made, as far as they tell."""
        return self._status().strides

    def _settled(self, number: int, future: Future[bool]) -> bool:
        """Take note of a share; return False where it is to be gone on with."""
        try:
            if not future.result():
                return False
        except BrokenExecutor:
            raise
        except CancelledError as error:
            if self.stops.reason:
                return False
            self._fail(number, error)
        except Exception as error:  # noqa: BLE001  kept, and raised at the end
            self._fail(number, error)
        self.todo.discard(number)
        return True

    def _fail(self, number: int, error: BaseException) -> None:
        self.failed[number] = error

    def _stop(self, waiting: dict[Future[bool], int]) -> None:
        """Tell all shares to stop; those that no worker has begun are withdrawn."""
        for future, number in waiting.items():
            share = self.plan.shares[number]
            self.folder.stop(share).touch()
            if not self.folder.progress(share).exists():
                future.cancel()

    def _report(self) -> None:
        if self.means.report is not None:
            self.means.report(self._status())

    def _status(self) -> Status:
        shares, total = self.plan.shares, 0
        made = ended = running = 0
        for share in shares:
            count = len(share.replicas)
            total += count * self.plan.strides
            if share.number not in self.todo and share.number not in self.failed:
                ended, made = ended + 1, made + count * self.plan.strides
                continue
            now = strides_made(self.folder, share)
            running += now is not None
            made += count * max(now or 0, self.kept[share.number])
        return Status(made, total, ended, running, len(shares))


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
