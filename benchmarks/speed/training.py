"""Optimizer steps of ``run.py --training``: ours and rivals on the same batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from clock import Settings, race
from measure import described, entries
from memory import available_memory, peak_memory, reset_peak
from systems import (
    TRAINING_BYTES,
    Case,
    Network,
    memory_reason,
    our_model,
    rival_model,
)
from torch import nn

from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import State, state_from_atoms

PAIRS = {"paracetamol": 10, "quartz": 1, "water": 1}
"""In a batch; e3nn keeps some 7 GB for the backward pass of one box of water."""
LEARNING_RATE = 1e-4


def batch(case: Case, cutoff: float, device: str) -> tuple[State, Edges]:
    """Return the inputs of an optimizer step."""
    atoms = [case.atoms(seed) for seed in range(PAIRS[case.family])]
    state = state_from_atoms(atoms, device)
    return state, find_edges(state, cutoff)


def learner(rival: str, case: Case, ours: Forecaster) -> nn.Module:
    """Return a contestant in float32, with parameters that want a gradient."""
    if rival == "e3nn":
        model: nn.Module = rival_model(case, rival).to(ours.device).network
    elif rival == "reference":
        model = copy.deepcopy(ours).set_backend("reference")
    else:
        model = ours
    return model.requires_grad_()


def reason_against(rival: str, network: Network, n_edges: int, device: str) -> str:
    """Return why a contestant is not timed, or nothing."""
    if rival == "ours":
        return ""
    if rival == "compile":
        return "not compiled for training"
    if rival == "e3nn" and network == "shipped":
        return "the published network has no thermal velocity encoding"
    return memory_reason(TRAINING_BYTES * n_edges, available_memory(device))


def optimizer_step(model: nn.Module, state: State, edges: Edges) -> Callable[[], None]:
    """Return forward pass, backward pass and update, neighbors given."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        targets = model(state.atomic_numbers, state.velocities, edges)
        targets.square().mean().backward()
        optimizer.step()

    return step


def training(case: Case, network: Network, settings: Settings) -> list[dict[str, Any]]:
    """Return ms per optimizer step and pairs/s of each contestant."""
    settings.begin()
    device, n_pairs = settings.device, PAIRS[case.family]
    ours = our_model(case, network, torch.float32).to(device).set_backend("auto")
    state, edges = batch(case, ours.config.reach, device)
    n_edges = len(edges.receivers)
    reasons = {
        name: reason_against(name, network, n_edges, device)
        for name in ("ours", *settings.rivals)
    }
    calls = entries(
        {
            name: optimizer_step(learner(name, case, ours), state, edges)
            for name, reason in reasons.items()
            if not reason
        },
        settings,
    )
    may_fail = [entry for entry in calls if entry[0] != "ours"]
    times, failures = race(calls, settings, may_fail=may_fail)
    common = described(case, network) | {"pairs": n_pairs, "edges": n_edges}
    rows: list[dict[str, Any]] = []
    for entry in calls:
        row = common | {"contestant": entry[0], "threads": entry[1]}
        if entry in times:
            row |= times[entry].columns() | {
                "pairs_per_s": n_pairs / times[entry].median,
                "times_ours": times[entry].median / times["ours", entry[1]].median,
            }
        rows.append(row | {"note": failures.get(entry, "")})
    reasons = {name: reason for name, reason in reasons.items() if reason}
    return rows + [common | {"contestant": n, "note": reasons[n]} for n in reasons]


def training_memory(
    case: Case, network: Network, contestant: str, settings: Settings
) -> float:
    """Return the peak memory, MiB, of a process that makes its first two steps."""
    settings.begin()
    ours = our_model(case, network, torch.float32).to(settings.device)
    model = learner(contestant, case, ours.set_backend("auto"))
    state, edges = batch(case, ours.config.reach, settings.device)
    step = optimizer_step(model, state, edges)
    reset_peak(settings.device)
    for _ in range(2):
        step()
    return peak_memory(settings.device)
