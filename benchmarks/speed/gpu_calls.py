"""What ``gpu.py`` times: the network alone, by several backends, and CUDA graphs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from journal import Row, reason
from torch import Tensor

from trajcast_ase.device import capture
from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.network.backend import Backend, Reference
from trajcast_ase.network.forecaster import VECTOR
from trajcast_ase.network.neighborhood import Neighborhood, sums_over_pairs
from trajcast_ase.state import State

Call = Callable[[], Tensor]

N_WARMUP = 3
NEEDS_A_CARD = "CUDA graphs need a card"
FEWEST, LONGEST_S = 10, 1.0
"""Calls that are timed, and time that they may take beyond those."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A backend by the name that the tables give it."""

    name: str
    backend: Backend


@dataclass(frozen=True, slots=True)
class Problem:
    """A network in float32, what it reads, and what it should say.

    Attributes
    ----------
    model : Forecaster
    state : State
    species : (n_atoms,)
    near : Neighborhood
        Edges up to the cutoff, and sums over the surroundings.
    pairs : Edges
        Up to the reach.
    targets : (n_atoms, 2, 3)
        In float64.
    around : Tensor or None
        Sums in float64.
    """

    model: Forecaster
    state: State
    species: Tensor
    near: Neighborhood
    pairs: Edges
    targets: Tensor
    around: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(cls, model: Forecaster, state: State) -> Problem:
        """Return the problem of a model; that in float64 is torch's."""
        exact = copy.deepcopy(model).double().set_backend("reference")
        model = copy.deepcopy(model).float().set_backend("reference")
        species = model.species_index(state.atomic_numbers)
        pairs = find_edges(state, model.config.reach)
        edges, around = pairs, None
        if exact.surroundings is not None:
            edges = pairs.within(model.config.cutoff)
            around = sums_over_pairs(exact, exact.surroundings, species, pairs)
        near = Neighborhood(edges, around)
        # Not the public call, which asks for unknown elements: the host would wait.
        targets = exact._targets(species, state.velocities, near, None)  # noqa: SLF001
        near = Neighborhood(edges, None if around is None else around.float())
        return cls(model, state, species, near, pairs, targets, around)

    def calls(self, backend: Backend) -> Iterator[tuple[str, Call, Tensor]]:
        """Yield the parts of a forecast: name, call, and what it should give."""
        model, state = self.model, self.state
        layers = backend.layers(model, (VECTOR,))

        def network() -> Tensor:
            return model._targets(  # noqa: SLF001
                self.species, state.velocities, self.near, layers
            )

        yield "network", network, self.targets
        if self.around is None or model.surroundings is None:
            return
        lmax = model.config.lmax
        if layers is not None and layers.surroundings is not None:
            table = layers.surroundings
            yield (
                "surroundings",
                lambda: backend.surroundings_sums(
                    state, self.species, table.values, table.grid, lmax
                ),
                self.around,
            )
            return
        yield (
            "surroundings",
            lambda: sums_over_pairs(
                model, model.surroundings, self.species, self.pairs
            ),
            self.around,
        )


def measured(
    problem: Problem, contestants: Sequence[Contestant], n_runs: int
) -> Iterator[Row]:
    """Yield a row of each part and contestant, as it is and as a CUDA graph."""
    device = problem.state.device
    for contestant in contestants:
        row: Row = {"contestant": contestant.name}
        try:
            calls = list(problem.calls(contestant.backend))
        except Exception as error:  # noqa: BLE001  whatever a driver or compiler raises
            row |= {"part": "network", "note": reason(error)}
            yield from (row | {"graph": graph} for graph in (False, True))
            continue
        for part, call, expected in calls:
            row |= {"part": part}
            for graph in (False, True):
                found = timed_row(call, expected, device, n_runs, graph=graph)
                yield row | {"graph": graph} | found


def torch_alone() -> Contestant:
    """Return the reference."""
    return Contestant("reference", Reference())


@torch.no_grad()
def timed_row(
    call: Callable[[], Any],
    expected: Tensor,
    device: torch.device,
    n_runs: int,
    *,
    graph: bool,
    read: Callable[[Any], Tensor] = lambda result: result,
) -> Row:
    """Return times, error and whether a second run gives the same bits; or why not.

    `read` makes of what the call returns what is compared.
    """
    if graph and device.type != "cuda":
        return {"note": NEEDS_A_CARD}
    try:
        run = captured(call) if graph else call
        first = read(run()).clone()
        again = bool(torch.equal(read(run()), first))
        times = milliseconds(run, device, n_runs)
        largest = expected.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
        deviation = float((first - expected).abs().max() / largest)
    except Exception as error:  # noqa: BLE001  whatever a driver or compiler raises
        return {"note": reason(error)}
    quartiles = np.percentile(times, (50, 25, 75)).tolist()
    return {
        "runs": len(times),
        **dict(zip(("ms", "q1_ms", "q3_ms"), quartiles, strict=True)),
        "error": deviation,
        "same_bits": again,
    }


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the replay of a call as one CUDA graph."""
    kept: list[Any] = []

    def keep() -> None:
        kept[:] = [call()]

    replay = capture.captured(keep, torch.device("cuda"))

    def replayed() -> Any:
        replay()
        return kept[0]

    return replayed


def milliseconds(
    call: Callable[[], Any], device: torch.device, n_runs: int
) -> list[float]:
    """Return the times of several calls, by the clock of the device.

    Of long calls fewer, so that all take some seconds, but a few at least.
    """
    if device.type != "cuda":
        return [_milliseconds(call) for _ in range(n_runs)]
    started = time.perf_counter()
    for _ in range(N_WARMUP):
        call()
    torch.cuda.synchronize()
    each = (time.perf_counter() - started) / N_WARMUP
    n_runs = min(n_runs, max(FEWEST, int(LONGEST_S / each)))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(n_runs + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in pairwise(marks)]


def _milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)
