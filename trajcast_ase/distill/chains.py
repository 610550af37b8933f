"""Chains of MD segments, one after the other or in several processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import numpy as np

from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.distill.journal import n_frames_in
from trajcast_ase.distill.segments import Segment, Setup, run_segments
from trajcast_ase.distill.workers import check_signals, run_all
from trajcast_ase.dynamics.interruption import noted_signals

Chain = tuple[Segment, ...]
Chains = list[Chain]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Frames of the parts of reference MD.

    Attributes
    ----------
    equilibration, pause : int
        Before a track's first runs, and before each NVE run.
    nve, canonical : int
        Of one run, and of one piece of a canonical run.
    n_rounds, n_needed : int
        NVE runs and pieces of each track: in all, and those that are indispensable.
    n_tracks : int
    """

    equilibration: int
    pause: int
    nve: int
    canonical: int
    n_rounds: int
    n_needed: int
    n_tracks: int

    @property
    def n_frames(self) -> int:
        """Of all tracks together."""
        one_round = self.pause + self.nve + self.canonical
        return self.n_tracks * (2 * self.equilibration + self.n_rounds * one_round)


FEWEST_TRACKS = 2
"""One canonical run to choose the bath by, and one for the report."""
EQUILIBRATION, PAUSE, CONSTANT_ENERGY, CANONICAL = 0.10, 0.08, 0.34, 0.48
"""Shares of all steps. Canonical runs decide how sharp the report is."""
RUN_PS, MOST_ROUNDS, FEWEST_ROUNDS = 2.0, 16, 2
"""Aim for the length of an NVE run, ps; rounds at most and at least."""
LONGEST_PS = {"equilibration": 20.0, "pause": 2.0}
"""Longer brings nothing, ps."""
SHORTEST_REFERENCE_PS = 9.0
"""Canonical run that a model can be held against."""


def plan_lengths(
    n_steps: int, frame_steps: int, step_fs: float, n_tracks: int
) -> Lengths:
    """Return how a number of time steps is split.

    Parameters
    ----------
    n_steps : int
        Of all reference MD.
    frame_steps : int
        Between frames.
    step_fs : float, fs
    n_tracks : int
    """
    total = n_steps / frame_steps / n_tracks
    per_ps = 1e3 / (frame_steps * step_fs)
    wanted_ps = CONSTANT_ENERGY * total / per_ps
    n_rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(wanted_ps / RUN_PS)))
    equilibration = min(EQUILIBRATION / 2 * total, LONGEST_PS["equilibration"] * per_ps)
    pause = min(PAUSE * total / n_rounds, LONGEST_PS["pause"] * per_ps)
    left = total - 2 * equilibration - n_rounds * pause
    share = CONSTANT_ENERGY / (CONSTANT_ENERGY + CANONICAL)
    canonical = max(10, round((1 - share) * left / n_rounds))
    needed = math.ceil(SHORTEST_REFERENCE_PS * per_ps / canonical)
    return Lengths(
        equilibration=max(2, round(equilibration)),
        pause=max(2, round(pause)),
        nve=max(10, round(share * left / n_rounds)),
        canonical=canonical,
        n_rounds=n_rounds,
        n_needed=min(n_rounds, max(FEWEST_ROUNDS, needed)),
        n_tracks=n_tracks,
    )


def track_temperatures(temperatures_K: Sequence[float], n_tracks: int) -> list[Heat]:
    """Return the temperatures of the tracks: one, or three and what lies between.

    Canonical runs are at those of the report, the first half of the tracks' for the
    choice of the bath; NVE runs begin at temperatures spread evenly over the range.
    """
    spread = np.linspace(temperatures_K[0], temperatures_K[-1], n_tracks)
    return [
        Heat(temperatures_K[k % len(temperatures_K)], round(float(nve), 3))
        for k, nve in enumerate(spread)
    ]


@dataclass(frozen=True, slots=True)
class Heat:
    """Temperatures of a track's canonical run and of the starts of its NVE runs, K."""

    canonical_K: float
    nve_K: float


def make_chains(lengths: Lengths, temperatures_K: Sequence[float], seed: int) -> Chains:
    """Return the tracks, each a canonical run in pieces and NVE runs in turns.

    Whenever the time is over, all have come about as far.
    """
    heats = track_temperatures(temperatures_K, lengths.n_tracks)
    return [_track(lengths, heat, seed, k) for k, heat in enumerate(heats, 1)]


def _track(lengths: Lengths, heat: Heat, seed: int, k: int) -> Chain:
    """Return a canonical run, and NVE runs from snapshots of another one."""
    of_canonical, of_nve = f"start-canonical-{k}", f"start-nve-{k}"
    hot, cold = heat.canonical_K, heat.nve_K
    equilibration = lengths.equilibration
    chain = [
        Segment(of_canonical, None, "strong", equilibration, _seed(seed, k, 0), hot),
        Segment(of_nve, None, "strong", equilibration, _seed(seed, k, 1), cold),
    ]
    for run in range(1, lengths.n_rounds + 1):
        extra, own = run > lengths.n_needed, _seed(seed, k, 4 * run)
        piece = canonical_piece(k, run)
        pause, name = f"pause-{k}-{run:02d}", f"nve-{k}-{run:02d}"
        chain += [
            Segment(
                piece, of_canonical, "canonical", lengths.canonical, own, hot, extra
            ),
            Segment(pause, of_nve, "weak", lengths.pause, own + 1, cold, extra),
            Segment(name, pause, "nve", lengths.nve, own + 2, cold, extra),
        ]
        of_canonical, of_nve = piece, pause
    return tuple(chain)


def canonical_piece(track: int, number: int) -> str:
    """Return the name of a piece of a track's canonical run."""
    return f"piece-{track}-{number:02d}"


def _seed(seed: int, track: int, number: int) -> int:
    return seed * 1_000_000 + track * 1_000 + number


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
    WorkerError
        A process was ended from outside.
    Interrupted
        SIGINT or SIGTERM came.
    """
    with noted_signals() as signals:
        if processes > 1 and not calculator.is_shared:
            end = None if seconds is None else time.time() + seconds
            run_all(
                partial(_work, setup, calculator, end=end),
                shared_out(chains, processes),
                processes,
                done=lambda _chain, _none: None,
                look=lambda: report(frames_on_disk(setup, chains)),
                signals=signals,
            )
            return
        made = frames_on_disk(setup, chains)

        def tick(n_frames: int) -> None:
            nonlocal made
            made += n_frames
            report(made)
            check_signals(signals)

        (chain,) = shared_out(chains, 1)
        run_segments(setup, chain, calculator.make(), tick, _over_at(seconds))


def shared_out(chains: Sequence[Chain], processes: int) -> Chains:
    """Return one chain for each process: its chains in turns, segment by segment."""
    groups = [chains[k::processes] for k in range(min(processes, len(chains)))]
    return [
        tuple(one for turn in zip_longest(*group) for one in turn if one is not None)
        for group in groups
    ]


def _over_at(seconds: float | None) -> Callable[[], bool]:
    """Return what tells whether so many seconds have passed from now on."""
    if seconds is None:
        return lambda: False
    end = time.time() + seconds
    return lambda: time.time() > end


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
