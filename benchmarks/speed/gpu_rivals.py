"""Who competes with us in ``gpu.py``: e3nn's network, and sums over edges by others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from convolutions import Convolution, NotInstalledError, libraries
from e3nn_rival import build_rival
from gpu_calls import Problem, timed_row
from journal import Row, reason
from memory import available_memory
from systems import STEP_BYTES, Case, memory_reason, paper_options, paper_weights
from torch import Tensor

from trajcast_ase.network.backend import Backend, Reference
from trajcast_ase.network.triton.backend import Triton

EXACT_BYTES = 3.0
"""Memory of messages and their parts, in units of the messages."""


def e3nn_network(case: Case, given: Problem, n_runs: int) -> Iterator[Row]:
    """Yield rows of the published formulation with our weights, of the paper's size."""
    row: Row = {"contestant": "e3nn", "part": "network"}
    edges, device = given.near.edges, given.state.device
    needed = STEP_BYTES * len(edges.receivers)
    if note := memory_reason(needed, available_memory(str(device))):
        yield row | {"graph": False, "note": note}
        return
    options = paper_options(case)
    network = build_rival(options, seed=0, codegen="eager")
    network.load_published(paper_weights(options))
    network.requires_grad_(requires_grad=False).to(device)

    def call() -> Tensor:
        found: Tensor = network(
            given.state.atomic_numbers, given.state.velocities, edges
        )
        return found

    for graph in (False, True):
        found = timed_row(call, given.targets, device, n_runs, graph=graph)
        yield row | {"graph": graph} | found


def convolution_rows(given: Problem, n_runs: int) -> Iterator[Row]:
    """Yield rows of the sum over edges of one layer, by every library that is here."""
    edges, state = given.near.edges, given.state
    convolution = Convolution.of(given.model, edges, state.n_atoms)
    backends: dict[str, Backend] = {"reference": Reference()}
    if Triton().computes_on(state.device):
        backends["triton"] = Triton()
    needed = EXACT_BYTES * convolution.message_bytes
    short = memory_reason(needed, available_memory(str(state.device)))
    exact = convolution.exact()
    for name, prepare in libraries(convolution, backends).items():
        row: Row = {"contestant": name, "part": "convolution"}
        if short and name in {"e3nn", "reference"}:
            yield row | {"graph": False, "note": short}
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # theirs, of their fallbacks
                entry = prepare()
        except NotInstalledError as error:
            yield row | {"graph": False, "note": str(error)}
            continue
        except Exception as error:  # noqa: BLE001  whatever a library raises
            yield row | {"graph": False, "note": reason(error)}
            continue
        for graph in (False, True):
            found = timed_row(
                entry.call, exact, state.device, n_runs, graph=graph, read=entry.read
            )
            yield row | {"graph": graph} | found
