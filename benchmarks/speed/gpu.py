"""Time the network on a GPU: torch and Triton, launched one by one and as a CUDA graph.

    python benchmarks/speed/gpu.py
    python benchmarks/speed/gpu.py --systems water-5184 --precisions ieee,tf32x3,tf32
    TRITON_INTERPRET=1 python benchmarks/speed/gpu.py --device cpu --atoms 2 --runs 1

"reference" is the torch path, "triton" the backend of that name, with each precision of
its linear maps and each source of the weights of edges. Timed is the network alone, for
given edges, and the sums over the surroundings; of the paper's size also the e3nn
formulation of the network, and the sum over the edges of one layer by e3nn,
cuEquivariance and OpenEquivariance, where they are installed (:mod:`convolutions`).
Every time stands beside the largest deviation from float64, relative to the largest
output, whether a second run gave the same bits, and for a network the least time on
this card (:mod:`roofline`) as a fraction of it. The last line tries the script on a
machine without a card, where kernels are interpreted: its times mean nothing.

Writes ``gpu.csv`` and ``gpu.md`` to the folder `--out`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import torch
import typer
from gpu_calls import Contestant, Problem, measured, torch_alone
from gpu_rivals import convolution_rows, e3nn_network
from journal import Journal, Row
from roofline import Size, card_of, least_ms
from run import chosen, versions
from systems import CASES, LARGEST, Case, Network, our_model

from trajcast_ase.network.triton.backend import EdgeWeights, Triton
from trajcast_ase.network.triton.layer import Precision
from trajcast_ase.state import state_from_atoms

FIRST = (
    *("paracetamol", "quartz-162", "water-192", "quartz-1296", "water-1536"),
    *("quartz-4374", "water-5184"),
)
"""Systems, what is asked first before what may need the memory of a card."""
COLUMNS = (
    "system",
    "network",
    "atoms",
    "edges",
    "part",
    "contestant",
    "graph",
    "runs",
    "ms",
    "q1_ms",
    "q3_ms",
    "of_roofline",
    "error",
    "same_bits",
    "note",
)


def contestants(
    precisions: tuple[Precision, ...], weights: tuple[EdgeWeights, ...]
) -> Iterator[Contestant]:
    """Yield torch, and Triton in every way that is asked for."""
    yield torch_alone()
    for precision in precisions:
        for source in weights:
            name = f"triton, {precision}, {source}"
            yield Contestant(name, Triton(precision=precision, edge_weights=source))


def problem(case: Case, network: Network, device: str, n_atoms: int) -> Problem:
    """Return a system, or the atoms next to its first one, and its network."""
    atoms = case.atoms()
    if n_atoms:
        distances = np.linalg.norm(atoms.positions - atoms.positions[0], axis=1)
        atoms = atoms[distances.argsort()[:n_atoms]]
        atoms.pbc = False
    model = our_model(case, network, torch.float32).set_backend("reference")
    return Problem.of(model.to(device), state_from_atoms(atoms, device))


def with_roofline(row: Row, given: Problem, device: str) -> Row:
    """Return a row of a network with the least time as a fraction of its own."""
    card = card_of(torch.cuda.get_device_name()) if device != "cpu" else None
    if card is None or row["part"] != "network" or "ms" not in row:
        return row
    config, edges = given.model.config, given.near.edges
    # The sums over the surroundings have a row of their own.
    alone = replace(config, surroundings_cutoff=None)
    least = least_ms(alone, Size(given.state.n_atoms, len(edges.receivers), 0), card)
    return row | {"of_roofline": least / row["ms"]}


def machine(device: str) -> str:
    """Return a line on what the times depend on."""
    name = platform.processor()
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    return f"{name}; {', '.join(versions())}"


class Arena:
    """A system and a network, made ready when somebody competes there."""

    def __init__(
        self, case: Case, network: Network, device: str, n_atoms: int, n_runs: int
    ) -> None:
        self._case, self._network, self._device = case, network, device
        self._n_atoms, self._n_runs = n_atoms, n_runs

    @cached_property
    def given(self) -> Problem:
        """System, network, and what is right."""
        return problem(self._case, self._network, self._device, self._n_atoms)

    def works(
        self, contestants: Iterable[Contestant]
    ) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
        """Yield who competes, and what gives the rows."""
        for one in contestants:
            yield (
                one.name,
                lambda one=one: self._rows(  # type: ignore[misc]
                    measured(self.given, [one], self._n_runs)
                ),
            )
        if self._network == "paper":
            yield (
                "e3nn",
                lambda: self._rows(e3nn_network(self._case, self.given, self._n_runs)),
            )
            yield (
                "sums over edges",
                lambda: self._rows(convolution_rows(self.given, self._n_runs)),
            )

    def _rows(self, rows: Iterator[Row]) -> Iterator[Row]:
        edges = len(self.given.near.edges.receivers)
        common = {"atoms": self.given.state.n_atoms, "edges": edges}
        for row in rows:
            yield common | with_roofline(row, self.given, self._device)


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[
        str, typer.Option(help=f"Names, or all: all but {LARGEST}.")
    ] = ",".join(FIRST),
    networks: Annotated[str, typer.Option(help="paper, shipped.")] = "paper,shipped",
    precisions: Annotated[str, typer.Option(help="ieee, tf32x3, tf32.")] = "ieee",
    weights: Annotated[str, typer.Option(help="tables, perceptrons.")] = "tables",
    device: Annotated[str, typer.Option(help="cuda, or cpu for a trial.")] = "cuda",
    atoms: Annotated[int, typer.Option(min=0, help="Next to the first; 0: all.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="That count.")] = 200,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/gpu"),
    go_on: Annotated[bool, typer.Option("--go-on", help="Of what is there.")] = False,
) -> None:
    """Time the network on a GPU, beside its agreement with float64."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device; try --device cpu --atoms 2")
    everything = ",".join(name for name in CASES if name != LARGEST)
    names = chosen(
        everything if systems == "all" else systems, tuple(CASES), "--systems"
    )
    competing = tuple(
        contestants(
            chosen(precisions, get_args(Precision), "--precisions"),
            chosen(weights, get_args(EdgeWeights), "--weights"),
        )
    )
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / "gpu", COLUMNS, device, head=machine(device), go_on=go_on)
    for case in (CASES[name] for name in names):
        for network in chosen(networks, get_args(Network), "--networks"):
            arena = Arena(case, network, device, atoms, runs)
            for name, work in arena.works(competing):
                row = {"system": case.name, "network": network, "contestant": name}
                journal.measure((case.name, network, name), row, work)


if __name__ == "__main__":
    typer.run(main)
