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
temperature, whether a second run from the same start has the same bits, and, of smaller
systems with bundled models and without a thermostat, how far a stride lies from the one
of the reference on the CPU. What is
asked first comes first, so that a run that is stopped leaves what matters. Writes
``gpu_strides.csv`` and ``gpu_strides.md`` to the folder `--out`. The last line tries
the script without a card.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import typer
from ase import Atoms
from gpu import machine
from gpu_calls import reason
from marks import GAIN, MARKS_MS, REPLICAS, mark_of, mark_of_batch
from output import Row, table, write_csv
from roofline import Size, card_of, least_ms
from run import chosen
from systems import CASES, TEMPERATURE_K, Case, Network, our_model

from trajcast_ase import Replicas, TrajCast
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import state_from_atoms
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
    "ns_per_day",
    "us_per_atom",
    "least_ms",
    "of_roofline",
    "temperature_K",
    "same_bits",
    "off_A",
    "note",
)
TURNS = 3
EXPLAINED = (
    f"Marks are of an H200; that of {REPLICAS} molecules is {GAIN:g} times the strides "
    "of one. Least times: roofline.py."
)
MOST_EDGES = 20_000
"""Of a system that the reference computes on the CPU."""
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
            thermostat=lambda rng: self.model.recommended_thermostat(
                TEMPERATURE_K, rng
            ),
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

    def off(self) -> float | None:
        """Return how far a stride lies from that of the reference on the CPU, Å.

        Where that takes no more than seconds, and atoms move as atoms do.
        """
        if self.network == "paper" or self.size().n_edges > MOST_EDGES:
            return None
        plain = our_model(self.case, self.network, torch.float32)
        plain.set_backend("reference")
        ours, theirs = self.starts()[0], self.starts()[0]
        TrajCast(ours, self.model, engine=self.engine, guards=()).run(1)
        TrajCast(theirs, plain, guards=()).run(1)
        return float(np.abs(ours.positions - theirs.positions).max())


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
        "ns_per_day": contest.n_replicas * ns_per_day(seconds, contest.case.horizon_fs),
        "us_per_atom": 1e6 * seconds / n_atoms,
        "temperature_K": float(np.mean(temperatures)),
        "same_bits": bool(np.array_equal(contest.after(few), contest.after(few))),
        "off_A": contest.off(),
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


def attempted(contest: Contest, strides: int, device: str, one: float | None) -> Row:
    """Return the row of a contest, or why there is none."""
    row = {
        "system": contest.case.name,
        "network": contest.network,
        "atoms": contest.n_replicas * contest.case.n_atoms,
        "replicas": contest.n_replicas,
        "backend": contest.model.backend.name,
        "engine": contest.engine,
    }
    try:
        return compared(row | timed(contest, strides), contest, device, one)
    except Exception as error:  # noqa: BLE001  whatever a driver or compiler raises
        return row | {"note": reason(error)}


def contests(
    groups: Sequence[tuple[str, Network, int]], backends: Sequence[str], device: str
) -> Iterator[Contest]:
    """Yield who is timed; what runs on the device comes first."""
    models = {
        (name, network): our_model(CASES[name], network, torch.float32)
        for name, network in dict.fromkeys(group[:2] for group in groups)
    }
    for engine in reversed(ENGINES):
        for name, network, number in groups:
            for backend in backends:
                model = copy.deepcopy(models[name, network]).to(device)
                model.set_backend(backend)
                yield Contest(CASES[name], network, model, engine, number)


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
) -> None:
    """Time whole strides on a GPU."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device; try --device cpu")
    kinds = chosen(networks, get_args(Network), "--networks")
    numbers = [1, *(int(number) for number in replicas.split(",") if number)]
    groups = [
        (name, network, number)
        for name in chosen(systems, tuple(CASES), "--systems")
        for network in kinds
        for number in (numbers if name == "paracetamol" else (1,))
    ]
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    times: dict[tuple[str, ...], float] = {}
    who = chosen(backends, BACKENDS, "--backends")
    for contest in contests(groups, who, device):
        key = contest.network, contest.model.backend.name, contest.engine
        row = attempted(contest, strides, device, times.get(key))
        if contest.case.name == "paracetamol" and contest.n_replicas == 1:
            times[key] = row.get("ms", 0.0)
        print(table([row], COLUMNS), flush=True)
        rows.append(row)
        write_csv(rows, COLUMNS, out / "gpu_strides.csv")
        text = f"{machine(device)}\n\n{table(rows, COLUMNS)}\n\n{EXPLAINED}\n"
        (out / "gpu_strides.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
