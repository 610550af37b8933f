r"""Time whole strides on a GPU: on the host's path and on the device, and replicas.

    python benchmarks/speed/gpu_strides.py
    python benchmarks/speed/gpu_strides.py --systems water-192 --replicas ""
    python benchmarks/speed/gpu_strides.py --device cpu --systems paracetamol \
        --backends reference --strides 5 --replicas 2

Runs of the bundled models under the thermostats that they recommend, without files and
observers: a stride is neighbors, network, conservation and thermostat. "host" is
``engine="host"``, where each stride is launched operation by operation; "device" is
``engine="device"``, on CUDA one graph. Beside each time stand the mean temperature,
whether a second run from the same start has the same bits, and, without a thermostat,
how far a stride lies from the one of the reference on the CPU. Writes
``gpu_strides.csv`` and ``gpu_strides.md`` to the folder `--out`. The last line tries
the script without a card.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from ase import Atoms
from gpu import machine
from output import Row, table, write_csv
from run import chosen
from systems import CASES, TEMPERATURE_K, Case

from trajcast_ase import Replicas, TrajCast, load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster
from trajcast_ase.units import ns_per_day

Engine = Literal["host", "device"]
ENGINES: tuple[Engine, ...] = ("host", "device")
BACKENDS = ("reference", "triton", "cpp")
COLUMNS = (
    "system",
    "atoms",
    "replicas",
    "backend",
    "engine",
    "first_s",
    "ms",
    "ns_per_day",
    "us_per_atom",
    "temperature_K",
    "same_bits",
    "off_A",
    "note",
)
TURNS = 3


@dataclass(frozen=True, slots=True)
class Contest:
    """A system on a backend, with strides made in one place.

    Attributes
    ----------
    case : Case
    model : Forecaster
        On the device, with its backend.
    engine : "host" or "device"
    n_replicas : int
    """

    case: Case
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
        """Return replicas at their starts, under the recommended thermostats."""
        return Replicas(
            self.starts(),
            self.model,
            thermostat=lambda rng: self.model.recommended_thermostat(
                TEMPERATURE_K, rng
            ),
            seed=1,
            engine=self.engine,
        )

    def after(self, strides: int) -> np.ndarray:
        """Return the positions of a run from the start."""
        replicas = self.begin()
        replicas.run(strides)
        return np.stack([driver.atoms.positions for driver in replicas])

    def off(self) -> float:
        """Return how far a stride lies from that of the reference on the CPU, Å."""
        plain = load_model(self.case.shipped).set_backend("reference")
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
        "system": contest.case.name,
        "atoms": n_atoms,
        "replicas": contest.n_replicas,
        "backend": contest.model.backend.name,
        "engine": contest.engine,
        "first_s": first,
        "ms": 1e3 * seconds,
        "ns_per_day": contest.n_replicas * ns_per_day(seconds, contest.case.horizon_fs),
        "us_per_atom": 1e6 * seconds / n_atoms,
        "temperature_K": float(np.mean(temperatures)),
        "same_bits": bool(np.array_equal(contest.after(few), contest.after(few))),
        "off_A": contest.off(),
    }


def row_of(
    case: Case,
    backend: str,
    engine: Engine,
    n_replicas: int,
    *,
    strides: int,
    device: str,
) -> Row:
    """Return the row of a contest, or in it why there is none."""
    given = {
        "system": case.name,
        "replicas": n_replicas,
        "backend": backend,
        "engine": engine,
    }
    try:
        model = load_model(case.shipped, device=device).set_backend(backend)
        return timed(Contest(case, model, engine, n_replicas), strides)
    except Exception as error:  # noqa: BLE001  whatever a driver or compiler raises
        reason = str(error).strip().partition("\n")[0]
        return given | {"note": f"{type(error).__name__}: {reason}"}


def main(  # noqa: PLR0917  options of the command line
    systems: Annotated[str, typer.Option(help="Names.")] = (
        "paracetamol,quartz-162,water-192,quartz-1296,water-1536,quartz-4374"
    ),
    backends: Annotated[
        str, typer.Option(help="reference, triton, cpp.")
    ] = "reference,triton",
    replicas: Annotated[
        str, typer.Option(help="Numbers of paracetamol besides one.")
    ] = "16,64",
    strides: Annotated[int, typer.Option(min=2, help="Of a turn.")] = 200,
    device: Annotated[str, typer.Option(help="cuda, or cpu for a trial.")] = "cuda",
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/gpu"),
) -> None:
    """Time whole strides on a GPU."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device; try --device cpu")
    groups = [(name, 1) for name in chosen(systems, tuple(CASES), "--systems")]
    groups += [("paracetamol", int(number)) for number in replicas.split(",") if number]
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name, number in groups:
        for backend in chosen(backends, BACKENDS, "--backends"):
            for engine in ENGINES:
                row = row_of(
                    CASES[name],
                    backend,
                    engine,
                    number,
                    strides=strides,
                    device=device,
                )
                print(table([row], COLUMNS), flush=True)
                rows.append(row)
                write_csv(rows, COLUMNS, out / "gpu_strides.csv")
                text = f"{machine(device)}\n\n{table(rows, COLUMNS)}\n"
                (out / "gpu_strides.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
