"""Optimizer steps of ``speed.py --training``: ours and rivals on the same batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from speed_parts import Settings, quartiles, race
from speed_systems import Case, Network, our_model, rival_model
from torch import nn

from trajcast_ase.neighbors import find_edges
from trajcast_ase.state import State, state_from_atoms

PAIRS = {"paracetamol": 10, "quartz": 1, "water": 1}
"""In a batch; e3nn keeps some 10 GB for the backward pass of one box of water."""
LEARNING_RATE = 1e-4


def networks(
    case: Case, network: Network, rivals: Iterable[str], device: str
) -> dict[str, nn.Module]:
    """Return who competes in float32, with parameters that want a gradient."""
    ours = our_model(case, network, torch.float32).to(device).set_backend("auto")
    models: dict[str, nn.Module] = {"ours": ours}
    if "reference" in rivals:
        models["reference"] = copy.deepcopy(ours).set_backend("reference")
    if "e3nn" in rivals and network == "paper":
        models["e3nn"] = rival_model(case, "e3nn").to(device).network
    return {name: model.requires_grad_() for name, model in models.items()}


def optimizer_step(model: nn.Module, state: State, cutoff: float) -> Callable[[], None]:
    """Return forward pass, backward pass and update, neighbors given."""
    edges = find_edges(state, cutoff)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        targets = model(state.atomic_numbers, state.velocities, edges)
        targets.square().mean().backward()
        optimizer.step()

    return step


def training_rows(
    case: Case, network: Network, settings: Settings
) -> list[dict[str, Any]]:
    """Return ms per optimizer step and pairs/s of each contestant."""
    n_pairs = PAIRS[case.family]
    batch = [case.atoms(seed) for seed in range(n_pairs)]
    state = state_from_atoms(batch, settings.device)
    models = networks(case, network, settings.rivals, settings.device)
    cutoff = models["ours"].config.cutoff
    calls = {
        name: optimizer_step(model, state, cutoff) for name, model in models.items()
    }
    times, failures = race(
        calls, settings.reader(), settings.n_runs, may_fail=settings.rivals
    )
    common = {"system": case.name, "network": network, "pairs": n_pairs}
    rows: list[dict[str, Any]] = []
    for name in calls:
        row = common | {"contestant": name, "note": failures.get(name, "")}
        if name in times:
            q1, median, q3 = quartiles(times[name])
            row |= {
                "step_ms": 1e3 * median,
                "q1_ms": 1e3 * q1,
                "q3_ms": 1e3 * q3,
                "pairs_per_s": n_pairs / median,
            }
        rows.append(row)
    return rows
