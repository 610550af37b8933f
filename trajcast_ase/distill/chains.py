"""Chains of MD segments, one after the other or in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from threading import Thread

from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.distill.journal import n_frames_in
from trajcast_ase.distill.segments import (
    MDError,
    Segment,
    Setup,
    run_segments,
)
from trajcast_ase.dynamics.interruption import Interrupted, noted_signals

LOOK_S = 1.0
"""Time between two looks at the workers' files."""
Chain = tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Frames of the parts of reference MD.

    Attributes
    ----------
    equilibration, pause : int
        Before a chain's first run, and between two NVE runs of it.
    nve, canonical : int
        Of one run.
    n_nve : int
        NVE runs of each of the two chains.
    """

    equilibration: int
    pause: int
    nve: int
    canonical: int
    n_nve: int


N_CHAINS = 2
"""Of NVE runs, and of canonical runs."""
EQUILIBRATION, PAUSE, CONSTANT_ENERGY, CANONICAL = 0.03, 0.10, 0.46, 0.32
"""Shares of all steps: of each equilibration, all pauses, NVE and canonical runs."""
RUN_PS, MOST_RUNS, FEWEST_RUNS = 2.0, 16, 2
"""Aim for the length of an NVE run, ps; runs of a chain, at most and at least."""
LONGEST_PS = {"equilibration": 20.0, "pause": 2.0}
"""Longer brings nothing, ps."""


def plan_lengths(n_steps: int, frame_steps: int, step_fs: float) -> Lengths:
    """Return how a number of time steps is split.

    Parameters
    ----------
    n_steps : int
        Of all reference MD.
    frame_steps : int
        Between frames.
    step_fs : float, fs
    """
    total = n_steps // frame_steps
    per_ps = 1e3 / (frame_steps * step_fs)
    nve_ps = CONSTANT_ENERGY * total / per_ps / N_CHAINS
    n_nve = min(MOST_RUNS, max(FEWEST_RUNS, int(nve_ps / RUN_PS)))
    equilibration = min(EQUILIBRATION * total, LONGEST_PS["equilibration"] * per_ps)
    pause = min(PAUSE * total / (N_CHAINS * n_nve), LONGEST_PS["pause"] * per_ps)
    saved = EQUILIBRATION * total - equilibration
    saved += PAUSE * total / (2 * N_CHAINS) - pause * n_nve / 2
    return Lengths(
        equilibration=max(2, round(equilibration)),
        pause=max(2, round(pause)),
        nve=max(10, round((CONSTANT_ENERGY * total / N_CHAINS + saved) / n_nve)),
        canonical=max(20, round(CANONICAL * total / N_CHAINS + saved)),
        n_nve=n_nve,
    )


def make_chains(lengths: Lengths, seed: int) -> list[Chain]:
    """Return the chains: two canonical ones for the report, two with NVE runs."""
    canonical, nve = [], []
    for k in range(1, N_CHAINS + 1):
        own = _seed(seed, k + N_CHAINS, 0)
        name = f"start-{k + N_CHAINS}"
        first = Segment(name, None, "strong", lengths.equilibration, own)
        last = Segment(f"canonical-{k}", name, "weak", lengths.canonical, own + 1)
        canonical.append((first, last))
        nve.append(_nve_chain(lengths, seed, k))
    return [*canonical, *nve]


def _nve_chain(lengths: Lengths, seed: int, k: int) -> Chain:
    """Return runs at constant energy, each from a snapshot of one canonical run."""
    before = f"start-{k}"
    own = _seed(seed, k, 0)
    chain = [Segment(before, None, "strong", lengths.equilibration, own)]
    for run in range(1, lengths.n_nve + 1):
        own, extra = _seed(seed, k, run), run > FEWEST_RUNS
        pause = f"pause-{k}-{run:02d}"
        chain.append(Segment(pause, before, "weak", lengths.pause, own, extra))
        name = f"nve-{k}-{run:02d}"
        chain.append(Segment(name, pause, "nve", lengths.nve, own, extra))
        before = pause
    return tuple(chain)


def _seed(seed: int, chain: int, run: int) -> int:
    return seed * 1_000_000 + chain * 1_000 + 2 * run


def run_chains(
    setup: Setup,
    chains: Sequence[Chain],
    calculator: CalculatorSpec,
    processes: int,
    *,
    report: Callable[[int], None],
    seconds: float | None,
) -> None:
    """Run all chains, in `processes` processes at once.

    Parameters
    ----------
    setup : Setup
    chains : sequence of Chain
    calculator : CalculatorSpec
        Each process makes its own.
    processes : int
    report : callable of the number of frames that are on disk
    seconds : float or None, s
        After which only what is indispensable is run.

    Raises
    ------
    MDError
        The MD of a chain failed; finished segments stay.
    Interrupted
        SIGINT or SIGTERM came.
    """
    with noted_signals() as signals:
        if processes > 1 and not calculator.is_shared:
            pool = _Pool(setup, calculator, processes, seconds)
            pool.run(chains, report, signals)
            return
        made = frames_on_disk(setup, chains)

        def tick(n_frames: int) -> None:
            nonlocal made
            made += n_frames
            report(made)
            _check_signals(signals)

        late, own = _over_at(seconds), calculator.make()
        for chain in chains:
            run_segments(setup, chain, own, tick, late)


@dataclass(frozen=True, slots=True)
class _Pool:
    """Processes that run chains."""

    setup: Setup
    calculator: CalculatorSpec
    processes: int
    seconds: float | None

    def run(
        self,
        chains: Sequence[Chain],
        report: Callable[[int], None],
        signals: Sequence[int],
    ) -> None:
        """Run all chains; an error or a signal ends the processes."""
        end = None if self.seconds is None else time.time() + self.seconds
        context = multiprocessing.get_context("spawn")
        work = partial(_work, self.setup, self.calculator, end=end)
        with ProcessPoolExecutor(
            self.processes, context, initializer=_begin, initargs=(os.getpid(),)
        ) as pool:
            jobs = {pool.submit(work, chain) for chain in chains}
            try:
                while jobs:
                    done, jobs = wait(jobs, LOOK_S, FIRST_COMPLETED)
                    for job in done:
                        job.result()
                    report(frames_on_disk(self.setup, chains))
                    _check_signals(signals)
            except BrokenProcessPool as error:
                time.sleep(LOOK_S)  # a signal to all may reach this one last
                _check_signals(signals)
                raise MDError(
                    "a process of the reference MD was ended from outside (by a kill, "
                    "or for want of memory); all frames so far are on disk: go on with "
                    "the same command, or with fewer --processes"
                ) from error
            except BaseException:
                # The pool would wait for the chains to end, and has no way to end them.
                workers = list((pool._processes or {}).values())  # noqa: SLF001
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in workers:
                    worker.terminate()
                raise


def _check_signals(signals: Sequence[int]) -> None:
    if signals:
        raise Interrupted(
            "interrupted; all frames so far are on disk, the same command goes on",
            signals[0],
        )


def _over_at(seconds: float | None) -> Callable[[], bool]:
    """Return what tells whether so many seconds have passed from now on."""
    if seconds is None:
        return lambda: False
    end = time.time() + seconds
    return lambda: time.time() > end


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


def _work(
    setup: Setup, calculator: CalculatorSpec, chain: Chain, *, end: float | None
) -> None:
    """Run one chain in a process of a pool."""
    late = _over_at(None if end is None else end - time.time())
    run_segments(setup, chain, calculator.make(), lambda _: None, late)


def frames_on_disk(setup: Setup, chains: Sequence[Chain]) -> int:
    """Return the number of frames that are made."""
    n_atoms = len(setup.atoms)
    total = 0
    for segment in (one for chain in chains for one in chain):
        path = setup.path(segment.name)
        done = path.exists()
        total += segment.n_frames if done else n_frames_in(path, n_atoms)
    return total
