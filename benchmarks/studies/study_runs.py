"""Long runs of several seeds as chunks on disk, which continue where they ended.

A folder holds ``settings.json`` and ``chunk-0000.h5``, ``chunk-0001.h5``, ... Each
chunk is complete or not there, holds the frames of all seeds in float32, and the state
after it in float64. Each chunk draws from random numbers of its own, so that a run that
was interrupted gives the same frames as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import typer
from ase import Atoms
from numpy.typing import NDArray
from study_pages import machine
from study_thermostats import MakeMembers

from trajcast_ase import ForecastNoise, Replicas, TrajCast
from trajcast_ase.dynamics.losses import LostReplicasError
from trajcast_ase.network import Forecaster
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.trajectory import Frames
from trajcast_ase.units import ns_per_day

CHUNK_PS = 10.0
"""Length of a chunk: what an interruption costs at most."""

MakeThermostats = Callable[[float], MakeMembers]
"""From the time at which a chunk starts, fs, to what makes its thermostats."""
Check = Callable[[Frames], str]
"""From the frames of a seed in a chunk to why the run ends, or nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes
    ----------
    model : Forecaster
    thermostats : callable
        See :data:`MakeThermostats`.
    picoseconds : float, ps
    seed : int
        Of the random numbers of all seeds.
    settings : dict
        What makes two runs differ, as plain values, for the file and its check.
    noise : bool
        With the calibrated noise of the model.
    every : int
        Strides between frames.
    chunk_ps : float, ps
    """

    model: Forecaster
    thermostats: MakeThermostats
    picoseconds: float
    seed: int
    settings: dict[str, Any]
    noise: bool = False
    every: int = 1
    chunk_ps: float = CHUNK_PS

    @property
    def chunk_strides(self) -> int:
        """Strides in a chunk, a multiple of those between frames."""
        n_frames = self.chunk_ps * 1e3 / self.model.horizon_fs / self.every
        return self.every * max(1, round(n_frames))

    @property
    def n_chunks(self) -> int:
        """Number of chunks, the last of which may exceed the length."""
        n_strides = self.picoseconds * 1e3 / self.model.horizon_fs
        return max(1, round(n_strides / self.chunk_strides))


@dataclass
class Recorder:
    """Keeps the frames of one seed in memory, without the one at the start."""

    positions: list[NDArray[np.float32]] = field(default_factory=list)
    velocities: list[NDArray[np.float32]] = field(default_factory=list)

    def record(self, dynamics: TrajCast) -> None:
        """Keep the present frame."""
        if dynamics.nsteps:
            self.positions.append(dynamics.atoms.get_positions().astype(np.float32))
            velocities = velocities_from_atoms(dynamics.atoms)
            self.velocities.append(velocities.astype(np.float32))


def extend(
    folder: Path, starts: Sequence[Atoms], plan: Plan, check: Check | None = None
) -> str:
    """Run what is missing of a plan; return why it ended early, or nothing.

    Parameters
    ----------
    folder : path
    starts : sequence of Atoms
        With momenta, one for each seed.
    plan : Plan
    check : callable, optional
        Of the frames of each seed after each chunk.

    Raises
    ------
    typer.BadParameter
        The folder holds a run with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_settings(folder / "settings.json", plan.settings)
    for number in range(plan.n_chunks):
        path = chunk_path(folder, number)
        before = chunk_path(folder, number - 1) if number else None
        if not path.exists():
            systems = last_states(before, starts) if before else starts
            run_chunk(path, systems, plan, number, before)
            print(f"{folder.name}: {path.name} of {plan.n_chunks}", flush=True)
        reasons = [check(one) for one in read_chunk(path)] if check else []
        for seed, reason in enumerate(reasons):
            if reason:
                return f"seed {seed}, chunk {number}: {reason}"
    return ""


def check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run, or refuse those of another."""
    wanted = json.loads(json.dumps(settings))
    if not path.exists():
        text = json.dumps({**wanted, "machine": machine()}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if found.get(name) != value:
            raise typer.BadParameter(
                f"{path.parent} holds a run with {name} = {found.get(name)}, now "
                f"{value} is asked for; remove the folder or choose another"
            )


def run_chunk(
    path: Path, starts: Sequence[Atoms], plan: Plan, number: int, before: Path | None
) -> None:
    """Run one chunk of all seeds and write it; the file appears when it is complete.

    Parameters
    ----------
    path : path
    starts : sequence of Atoms
    plan : Plan
    number : int
        Of the chunk.
    before : path or None
        The chunk before, whose frictions are taken over.

    Raises
    ------
    LostReplicasError
        A guard has ended a run; no chunk is written.
    """
    model = plan.model
    members: list[Any] = []
    systems = [atoms.copy() for atoms in starts]
    began = number * plan.chunk_strides * model.horizon_fs

    def thermostats(streams: Any) -> list[Any]:
        members.extend(plan.thermostats(began)(streams))
        set_frictions(members, before)
        return list(members)

    noise = (lambda rng: ForecastNoise.of_model(model, rng)) if plan.noise else None
    recorders = [Recorder() for _ in systems]
    started = time.perf_counter()
    with Replicas(
        systems,
        model,
        thermostat=thermostats,
        noise=noise,
        seed=chunk_seed(plan.seed, number),
        batch_atoms=sum(map(len, systems)),  # one batch, one set of thermostats
    ) as replicas:
        for recorder, driver in zip(recorders, replicas, strict=True):
            driver.attach(recorder.record, plan.every, driver)
        replicas.run(plan.chunk_strides)
    if replicas.lost:
        raise LostReplicasError(replicas.lost, len(systems))
    seconds = time.perf_counter() - started
    partial = path.with_name(path.name + ".part")
    with h5py.File(partial, "w") as file:
        write_chunk(file, systems, recorders, plan)
        write_frictions(file, members)
        file.attrs["seconds"] = seconds
    partial.replace(path)


def chunk_seed(seed: int, number: int) -> int:
    """Return the seed of a chunk: a stream of its own for each."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def set_frictions(members: Sequence[Any], before: Path | None) -> None:
    """Give adaptive thermostats the frictions with which the chunk before ended."""
    if before is None:
        return
    with h5py.File(before) as file:
        for k, member in enumerate(members):
            if hasattr(member, "frictions"):
                member.frictions = torch.from_numpy(file[f"frictions-{k}"][:])


def write_frictions(file: h5py.File, members: Sequence[Any]) -> None:
    """Write the frictions of adaptive thermostats."""
    for k, member in enumerate(members):
        if hasattr(member, "frictions"):
            file[f"frictions-{k}"] = member.frictions.cpu().numpy()


def write_chunk(
    file: h5py.File, systems: Sequence[Atoms], recorders: list[Recorder], plan: Plan
) -> None:
    """Write frames of all seeds, (n_seeds, n_frames, n_atoms, 3), and their end."""
    first = systems[0]
    file["numbers"], file["masses"] = first.numbers, first.get_masses()
    file["cell"], file["pbc"] = first.cell.array, first.pbc
    file["positions"] = np.stack([np.stack(one.positions) for one in recorders])
    file["velocities"] = np.stack([np.stack(one.velocities) for one in recorders])
    file["last_positions"] = np.stack([one.get_positions() for one in systems])
    file["last_momenta"] = np.stack([one.get_momenta() for one in systems])
    file.attrs["stride_fs"] = plan.every * plan.model.horizon_fs


def chunk_path(folder: Path, number: int) -> Path:
    """Return the file of a chunk."""
    return folder / f"chunk-{number:04d}.h5"


def last_states(chunk: Path, starts: Sequence[Atoms]) -> list[Atoms]:
    """Return the states of all seeds after a chunk, exactly."""
    systems = [atoms.copy() for atoms in starts]
    with h5py.File(chunk) as file:
        for k, atoms in enumerate(systems):
            atoms.set_positions(file["last_positions"][k])
            atoms.set_momenta(file["last_momenta"][k], apply_constraint=False)
    return systems


def read_chunk(path: Path) -> list[Frames]:
    """Return the frames of each seed in a chunk."""
    with h5py.File(path) as file:
        numbers = file["numbers"][:].astype(np.int64)
        return [
            Frames(
                positions=positions.astype(np.float64),
                velocities=velocities.astype(np.float64),
                atomic_numbers=numbers,
                masses=file["masses"][:],
                cell=file["cell"][:],
                pbc=file["pbc"][:],
                stride_fs=float(file.attrs["stride_fs"]),
                source=f"{path.parent.name}, seed {seed}",
            )
            for seed, (positions, velocities) in enumerate(
                zip(file["positions"][:], file["velocities"][:], strict=True)
            )
        ]


def read_seeds(folder: Path, skip_ps: float = 0.0) -> list[Frames]:
    """Return the frames of each seed, without the first `skip_ps`.

    Raises
    ------
    FileNotFoundError
        The folder holds no chunk.
    ValueError
        Nothing is left.
    """
    paths = sorted(folder.glob("chunk-????.h5"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no chunk; run the study first")
    chunks = [read_chunk(path) for path in paths]
    return [
        joined([chunk[k] for chunk in chunks], skip_ps) for k in range(len(chunks[0]))
    ]


def joined(parts: Sequence[Frames], skip_ps: float) -> Frames:
    """Return consecutive parts as one run, without its first `skip_ps`."""
    first = parts[0]
    skipped = round(skip_ps * 1e3 / first.stride_fs)
    positions = np.concatenate([part.positions for part in parts])[skipped:]
    velocities = np.concatenate([part.velocities for part in parts])[skipped:]
    if not len(positions):
        raise ValueError(
            f"{first.source}: {skip_ps:g} ps would leave out the whole run; skip less"
        )
    return Frames(
        positions=positions,
        velocities=velocities,
        atomic_numbers=first.atomic_numbers,
        masses=first.masses,
        cell=first.cell,
        pbc=first.pbc,
        stride_fs=first.stride_fs,
        source=first.source,
    )


def speed(folder: Path) -> float:
    """Return the simulated time of all seeds per day of wall time, ns."""
    seconds, femtoseconds = 0.0, 0.0
    for path in sorted(folder.glob("chunk-????.h5")):
        with h5py.File(path) as file:
            seconds += float(file.attrs["seconds"])
            n_seeds, n_frames = file["positions"].shape[:2]
            femtoseconds += n_seeds * n_frames * float(file.attrs["stride_fs"])
    return ns_per_day(seconds, femtoseconds)


def identity(model: Forecaster) -> dict[str, str]:
    """Return name and fingerprint of a model, for the settings of its runs."""
    return {
        "model": model.name,
        "sha256": model.header.sha256 if model.header else "",
    }


def n_chunks_in(folder: Path) -> int:
    """Return the number of chunks of a run so far."""
    return len(list(folder.glob("chunk-????.h5")))


def one_thread() -> None:
    """Compute on one thread, which small systems are fastest on."""
    torch.set_num_threads(1)
