r"""Time whole strides on a GPU: on the host's path and on the device, and replicas.

    python benchmarks/speed/gpu_strides.py
    python benchmarks/speed/gpu_strides.py --systems water-192 --replicas ""
    python benchmarks/speed/gpu_strides.py --device cpu --systems paracetamol \
        --backends reference --strides 5 --replicas 2

Runs of the bundled models under the thermostats that they recommend, and of networks of
the paper's size (weights at random) under CSVR, without files and observers: a stride
is neighbors, network, conservation and thermostat. "host" is ``engine="host"``, where
each stride is launched operation by operation; "device" is ``engine="device"``, on CUDA
one graph. Beside each time stand the mark that it is to reach (:mod:`marks`), the least
time of the forecast alone on this card (:mod:`roofline`) as a fraction of it, the mean
temperature, whether a second run from the same start has the same bits, and how far a
stride without thermostat lies from that of the reference in float64, relative to the
largest displacement or velocity (``error``). What is asked first comes first, so that a
run that is stopped leaves what matters. Writes ``gpu_strides.csv`` and
``gpu_strides.md`` to the folder `--out`. The last line tries the script without a card.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import typer
from ase import Atoms
from gpu import machine
from journal import Journal, Row
from marks import GAIN, MARKS_MS, REPLICAS, mark_of, mark_of_batch
from roofline import Size, card_of, least_ms
from run import chosen
from systems import CASES, FAMILIES, TEMPERATURE_K, Case, Network, our_model

from trajcast_ase import Replicas
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import state_from_atoms
from trajcast_ase.stride import stride
from trajcast_ase.units import ns_per_day

Engine = Literal["host", "device"]
ENGINES: tuple[Engine, ...] = ("host", "device")
BACKENDS = ("reference", "triton", "cpp")
COLUMNS = (
    "system",
    "network",
    "atoms",
    "replicas",
    "backend",
    "engine",
    "first_s",
    "ms",
    "mark_ms",
    "reached",
    "steps_per_s",
    "ns_per_day",
    "us_per_atom",
    "least_ms",
    "of_roofline",
    "temperature_K",
    "same_bits",
    "error",
    "note",
)
TURNS = 3
EXPLAINED = (
    f"Marks are of an H200; that of {REPLICAS} molecules is {GAIN:g} times the strides "
    "of one. Least times: roofline.py."
)
LONGEST_S = 1.5
"""Of the turns together; of long strides fewer are timed, but ten a turn at least."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A system on a backend, with strides made in one place.

    Attributes
    ----------
    case : Case
    network : "paper" or "shipped"
    model : Forecaster
        On the device, with its backend.
    engine : "host" or "device"
    n_replicas : int
    """

    case: Case
    network: Network
    model: Forecaster
    engine: Engine
    n_replicas: int

    def starts(self) -> list[Atoms]:
        """Return a thermal start for each replica."""
        found = []
        for number in range(self.n_replicas):
            atoms, rng = self.case.structure(), np.random.default_rng(number)
            atoms = atoms.repeat(self.case.repeats) if atoms.pbc.any() else atoms
            draw_momenta(atoms, TEMPERATURE_K, rng, self.model.conservation)
            found.append(atoms)
        return found

    def begin(self) -> Replicas:
        """Return replicas at their starts, under their thermostats."""
        return Replicas(
            self.starts(),
            self.model,
            thermostat=partial(self.model.recommended_thermostat, TEMPERATURE_K),
            seed=1,
            engine=self.engine,
        )

    def size(self) -> Size:
        """Return what the network sees of all replicas."""
        state, config = state_from_atoms(self.starts()[0]), self.model.config
        edges, pairs = (
            len(find_edges(state, cutoff).receivers)
            for cutoff in (config.cutoff, config.reach)
        )
        return Size(*(self.n_replicas * n for n in (state.n_atoms, edges, pairs)))

    def after(self, strides: int) -> np.ndarray:
        """Return the positions of a run from the start."""
        replicas = self.begin()
        replicas.run(strides)
        return np.stack([driver.atoms.positions for driver in replicas])

    def error(self) -> float | None:
        """Return how far a stride lies from that of the reference in float64.

        None where the card has no room for that.
        """
        device = self.model.device
        exact = exact_changes(self.case, self.network, str(device))
        if exact is None:
            return None
        atoms = self.starts()[:1]
        before = atoms[0].positions.copy()
        Replicas(atoms, self.model, guards=(), engine=self.engine).run(1)
        state = state_from_atoms(atoms[0])
        found = state.positions - torch.from_numpy(before), state.velocities
        return max(
            float((ours - theirs).abs().max() / theirs.abs().max())
            for ours, theirs in zip(found, exact, strict=True)
        )


@cache
@torch.no_grad()
def exact_changes(
    case: Case, network: Network, device: str
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return displacements and velocities of one stride in float64, by torch."""
    model = copy.deepcopy(plain_model(case, network)).double().to(device)
    model.set_backend("reference")
    contest = Contest(case, network, model, "host", 1)
    state = state_from_atoms(contest.starts()[0], device)
    try:
        after = stride(model, state)
    except torch.cuda.OutOfMemoryError:
        return None
    return (after.positions - state.positions).cpu(), after.velocities.cpu()


@cache
def plain_model(case: Case, network: Network) -> Forecaster:
    """Return a network in float32, on the CPU; systems of one kind share it."""
    return our_model(FAMILIES[case.family], network, torch.float32)


@cache
def ready_model(case: Case, network: Network, backend: str, device: str) -> Forecaster:
    """Return a network on a device and backend; its tables are made once."""
    model = copy.deepcopy(plain_model(case, network)).to(device)
    return model.set_backend(backend)


def timed(contest: Contest, strides: int) -> Row:
    """Return the row of a contest."""
    replicas = contest.begin()
    start = time.perf_counter()
    replicas.run(2)
    first = time.perf_counter() - start
    start = time.perf_counter()
    replicas.run(2)
    each = (time.perf_counter() - start) / 2
    strides = min(strides, max(10, int(LONGEST_S / TURNS / each)))
    laps, temperatures = [], []
    for _ in range(TURNS):
        start = time.perf_counter()
        replicas.run(strides)  # ends with a transfer, which waits for the device
        laps.append((time.perf_counter() - start) / strides)
        temperatures += [driver.get_temperature() for driver in replicas]
    seconds = float(np.median(laps))
    n_atoms = sum(len(driver.atoms) for driver in replicas)
    few = min(strides, 10)
    return {
        "first_s": first,
        "ms": 1e3 * seconds,
        "steps_per_s": contest.n_replicas / seconds,
        "ns_per_day": contest.n_replicas * ns_per_day(seconds, contest.case.horizon_fs),
        "us_per_atom": 1e6 * seconds / n_atoms,
        "temperature_K": float(np.mean(temperatures)),
        "same_bits": bool(np.array_equal(contest.after(few), contest.after(few))),
        "error": contest.error(),
    }


def compared(row: Row, contest: Contest, device: str, ms_of_one: float | None) -> Row:
    """Return a row with the marks of its system and the least time of its forecast."""
    name, network = contest.case.name, contest.network
    mark = mark_of(name, network, contest.n_replicas)
    if name == "paracetamol" and contest.n_replicas == REPLICAS and ms_of_one:
        mark = mark_of_batch(ms_of_one)
    if mark is not None:
        row["mark_ms"] = str(mark)
    if device == "cpu":
        return row
    if mark is not None:
        row["reached"] = mark.reached(row["ms"])
    card = card_of(torch.cuda.get_device_name())
    if card is not None:
        least = least_ms(contest.model.config, contest.size(), card)
        row |= {"least_ms": least, "of_roofline": least / row["ms"]}
    return row


@dataclass(frozen=True, slots=True)
class Entry:
    """Who is timed on what: the names of a row."""

    system: str
    network: Network
    n_replicas: int
    backend: str
    engine: Engine

    @property
    def row(self) -> Row:
        """The columns that tell this entry from others."""
        return {
            "system": self.system,
            "network": self.network,
            "atoms": self.n_replicas * CASES[self.system].n_atoms,
            "replicas": self.n_replicas,
            "backend": self.backend,
            "engine": self.engine,
        }

    def rows(self, strides: int, device: str, known: list[Row]) -> Iterator[Row]:
        """Yield the one row, of which the mark may depend on what is `known`."""
        case = CASES[self.system]
        model = ready_model(case, self.network, self.backend, device)
        contest = Contest(case, self.network, model, self.engine, self.n_replicas)
        alone = replace(self, n_replicas=1).row
        one = [
            row["ms"] for row in known if alone.items() <= row.items() if "ms" in row
        ]
        yield compared(
            timed(contest, strides), contest, device, one[0] if one else None
        )


def entries(
    systems: tuple[str, ...],
    networks: tuple[Network, ...],
    backends: tuple[str, ...],
    replicas: list[int],
) -> Iterator[Entry]:
    """Yield who is timed; what runs on the device comes first."""
    for engine in reversed(ENGINES):
        for name in systems:
            for network in networks:
                for number in replicas if name == "paracetamol" else [1]:
                    for backend in backends:
                        yield Entry(name, network, number, backend, engine)


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[str, typer.Option(help="Names.")] = ",".join(MARKS_MS),
    networks: Annotated[str, typer.Option(help="paper, shipped.")] = "paper,shipped",
    backends: Annotated[
        str, typer.Option(help="reference, triton, cpp.")
    ] = "triton,reference",
    replicas: Annotated[
        str, typer.Option(help="Numbers of paracetamol besides one.")
    ] = "64",
    strides: Annotated[int, typer.Option(min=2, help="Of a turn, at most.")] = 200,
    device: Annotated[str, typer.Option(help="cuda, or cpu for a trial.")] = "cuda",
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/gpu"),
    go_on: Annotated[bool, typer.Option("--go-on", help="Of what is there.")] = False,
) -> None:
    """Time whole strides on a GPU."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device; try --device cpu")
    out.mkdir(parents=True, exist_ok=True)
    who = entries(
        chosen(systems, tuple(CASES), "--systems"),
        chosen(networks, get_args(Network), "--networks"),
        chosen(backends, BACKENDS, "--backends"),
        [1, *(int(number) for number in replicas.split(",") if number)],
    )
    journal = Journal(
        out / "gpu_strides",
        COLUMNS,
        device,
        head=machine(device),
        tail=EXPLAINED,
        go_on=go_on,
    )
    for entry in who:
        unit = tuple(str(value) for value in entry.row.values())
        work = partial(entry.rows, strides, device, journal.rows)
        journal.measure(unit, entry.row, work)


if __name__ == "__main__":
    typer.run(main)
