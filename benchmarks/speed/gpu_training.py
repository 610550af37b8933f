"""Time training steps on a GPU: pairs there or not, the update as a graph or not.

    python benchmarks/speed/gpu_training.py
    python benchmarks/speed/gpu_training.py --device cpu --systems paracetamol --steps 3

A step is that of a training with the default optimizer (SOAP): a batch, its neighbors,
forecast, gradients, and the update of weights and their average, bases of SOAP
included. "host, calls" sends each batch from the host, finds its neighbors there, and
launches the update operation by operation; "device, calls" has pairs and neighbors on
the device; "device, graph" replays the update, too, as trainings on a GPU do; "triton"
is that with the products of that backend, and their derivatives. The pairs
are a structure and its free flight: they cost what pairs of a trajectory cost.
``update_ms`` is the update alone, ``apart`` the largest difference of the weights to
those of the first row after the same steps, relative to the largest. Writes
``gpu_training.csv`` and ``gpu_training.md`` to the folder `--out`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import typer
from gpu import machine
from gpu_calls import NEEDS_A_CARD
from journal import Journal, Row
from run import chosen
from systems import CASES, Case, Network, our_model
from training import PAIRS

from trajcast_ase.device.capture import captured
from trajcast_ase.network import Forecaster
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.training.config import DataPlace, OptimizerConfig
from trajcast_ase.training.dataset import Batch, PairDataset
from trajcast_ase.training.loss import ForecastLoss
from trajcast_ase.training.pairs import Pairs, make_pairs
from trajcast_ase.training.resident import ResidentPairs, placed
from trajcast_ase.training.update import Update
from trajcast_ase.trajectory import Frames

Kind = Literal["host, calls", "device, calls", "device, graph", "triton"]
COLUMNS = (
    "system",
    "network",
    "backend",
    "kind",
    "pairs",
    "atoms",
    "first_s",
    "ms",
    "update_ms",
    "steps_per_s",
    "pairs_per_s",
    "apart",
    "note",
)
CAPTURED = ("device, graph", "triton")
"""Kinds that need a card."""
RATE = 1e-3
COMPARED = 3
"""Steps after which weights are compared: later, rounding has grown."""
LONGEST_S = 2.0


@dataclass(frozen=True, slots=True)
class Learner:
    """A network that is trained, with what it is trained on."""

    model: Forecaster
    update: Update
    loss: ForecastLoss
    dataset: PairDataset
    resident: ResidentPairs | None

    @classmethod
    def of(cls, case: Case, network: Network, kind: Kind, device: str) -> Learner:
        """Return the learner of a system, before its first step."""
        model = our_model(case, network, torch.float32).to(device).requires_grad_()
        model.set_backend("triton" if kind == "triton" else "reference")
        options = OptimizerConfig(steps=100_000)
        made = Update.of(model, options)
        capture = captured if kind in CAPTURED else None
        update = Update(model, made.average, made.optimizers, options, capture)
        pairs = PairDataset([pairs_of(case, n) for n in range(PAIRS[case.family])])
        where: DataPlace = "host" if kind.startswith("host") else "device"
        resident = placed(pairs, model, where)
        return cls(model, update, ForecastLoss(model), pairs, resident)

    def batch(self) -> Batch:
        """Return all pairs."""
        every = np.arange(len(self.dataset))
        if self.resident is not None:
            return self.resident.batch(every, every < 0)
        return self.dataset.batch(every, device=self.model.device)

    def step(self, number: int) -> None:
        """Take a step."""
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(self.loss(self.batch()))
        self.update(RATE, number)

    def weights(self) -> torch.Tensor:
        """Return all weights in a row."""
        return torch.cat([one.detach().flatten() for one in self.model.parameters()])


def pairs_of(case: Case, seed: int) -> Pairs:
    """Return a structure and where its atoms fly in one horizon."""
    atoms = case.atoms(seed)
    velocities = velocities_from_atoms(atoms)
    flown = atoms.positions + case.horizon_fs * velocities
    frames = Frames(
        positions=np.stack([atoms.positions, flown]),
        velocities=np.stack([velocities, velocities]),
        atomic_numbers=atoms.numbers.astype(np.int64),
        masses=atoms.get_masses(),
        cell=atoms.cell.array.copy(),
        pbc=atoms.pbc.copy(),
        stride_fs=case.horizon_fs,
        source=case.name,
    )
    return make_pairs(frames, case.horizon_fs, checks_motion=False)


def seconds(call: Callable[[int], None], steps: int, device: str) -> float:
    """Return the mean time of calls, the device's work included."""
    _wait(device)
    start = time.perf_counter()
    for number in range(1, steps + 1):
        call(number)
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(learner: Learner, steps: int, device: str) -> tuple[Row, torch.Tensor]:
    """Return times, and the weights after the first steps."""
    start = time.perf_counter()
    for number in range(COMPARED):
        learner.step(number)
    weights = learner.weights()
    _wait(device)
    first = time.perf_counter() - start
    each = seconds(learner.step, 2, device)
    steps = min(steps, max(5, int(LONGEST_S / each)))
    whole = seconds(learner.step, steps, device)
    update = seconds(lambda number: learner.update(RATE, number), steps, device)
    state = learner.batch().state
    times = {
        "pairs": state.n_systems,
        "atoms": state.n_atoms,
        "first_s": first,
        "ms": 1e3 * whole,
        "update_ms": 1e3 * update,
        "steps_per_s": 1.0 / whole,
        "pairs_per_s": state.n_systems / whole,
    }
    return times, weights


class Class:
    """Who learns from the same pairs, one after the other."""

    def __init__(self, case: Case, network: Network, steps: int, device: str) -> None:
        self._case, self._network = case, network
        self._steps, self._device = steps, device
        self._plain: torch.Tensor | None = None

    def rows(self, kind: Kind) -> Iterator[Row]:
        """Yield the row of a kind of step."""
        if kind in CAPTURED and self._device == "cpu":
            yield {"note": NEEDS_A_CARD}
            return
        learner = Learner.of(self._case, self._network, kind, self._device)
        times, weights = timed(learner, self._steps, self._device)
        if kind == "host, calls":
            self._plain = weights
        if self._plain is not None:
            apart = (weights - self._plain).abs().max() / self._plain.abs().max()
            times["apart"] = float(apart)
        yield times | {"backend": learner.model.backend.name}


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[str, typer.Option(help="Names.")] = (
        "paracetamol,quartz-162,water-192"
    ),
    networks: Annotated[str, typer.Option(help="paper, shipped.")] = "paper,shipped",
    steps: Annotated[int, typer.Option(min=2, help="That count, at most.")] = 100,
    device: Annotated[str, typer.Option(help="cuda, or cpu for a trial.")] = "cuda",
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/gpu"),
    go_on: Annotated[bool, typer.Option("--go-on", help="Of what is there.")] = False,
) -> None:
    """Time training steps on a GPU."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device; try --device cpu")
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(
        out / "gpu_training", COLUMNS, device, head=machine(device), go_on=go_on
    )
    for name in chosen(systems, tuple(CASES), "--systems"):
        for network in chosen(networks, get_args(Network), "--networks"):
            learners = Class(CASES[name], network, steps, device)
            for kind in get_args(Kind):
                row = {"system": name, "network": network, "kind": kind}
                journal.measure(
                    (name, network, kind), row, partial(learners.rows, kind)
                )


if __name__ == "__main__":
    typer.run(main)
