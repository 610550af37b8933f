"""What ``kills.py`` kills: runs and trainings that write a checkpoint at each step."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.io import Trajectory
from models import TOML, vibrating_pair

from trajcast_ase import Replicas, TrajCast
from trajcast_ase.cli import app
from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.checkpoint import has_checkpoint, previous, read_checkpoint
from trajcast_ase.models.model_file import load_model, save_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster, ForecasterConfig
from trajcast_ase.training.checkpoint import CHECKPOINT_NAME, load_checkpoint
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.loop import train

MODEL, TEMPERATURE_K = "paracetamol-7fs", 300.0
N_REPLICAS = 3
CLOCKS = ("seconds_per_step",)
"""Columns of the log of a training that no two runs share."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a kill left behind.

    Attributes
    ----------
    step : int
        Of the checkpoint that the next life goes on from; -1 where there is none.
    stood_in : bool
        Whether it is the checkpoint before the last.
    written : int
        Steps that the output files have.
    """

    step: int
    stood_in: bool
    written: int


@dataclass(frozen=True, slots=True)
class Job:
    """Something that can be killed and goes on.

    Attributes
    ----------
    live : callable of a folder
        Begins, or goes on with what the folder holds, to the end.
    look : callable of a folder and the folder of an undisturbed run
        Returns what a kill has left; raises a KillError for what may not be.
    same : callable of two folders
        KillError where what two finished runs wrote differs.
    loss : int
        Steps that a kill may cost.
    forks : bool
        Whether a process that has lived it may fork. The threads of autograd do not
        survive that.
    training : bool
        Whether it writes to a folder of its own.
    """

    live: Callable[[Path], None]
    look: Callable[[Path, Path], Found]
    same: Callable[[Path, Path], None]
    loss: int
    forks: bool = True
    training: bool = False

    def output(self, folder: Path) -> Path:
        """Return where what is written grows, made if need be."""
        place = folder / "out" if self.training else folder
        place.mkdir(exist_ok=True)
        return place


class KillError(Exception):
    """Something that a kill may not do."""


def expect(holds: bool | np.bool_, what: str) -> None:
    """Raise a KillError with `what` is wrong unless something holds."""
    if not holds:
        raise KillError(what)


def start(model: Forecaster, number: int) -> Atoms:
    """Return a molecule at 300 K."""
    atoms, rng = paracetamol(), np.random.default_rng(number)
    draw_momenta(atoms, TEMPERATURE_K, rng, model.conservation)
    return atoms


def single(model: Forecaster, steps: int) -> Callable[[Path], None]:
    """Return what runs one molecule."""

    def live(folder: Path) -> None:
        path = folder / "run.checkpoint"
        given: dict[str, Any] = {
            "thermostat": model.recommended_thermostat(
                TEMPERATURE_K, np.random.default_rng(1)
            ),
            "trajectory": folder / "run.traj",
            "logfile": folder / "run.log",
        }
        if has_checkpoint(path):
            run = TrajCast.restart(path, model, **given)
        else:
            clear(folder)
            run = TrajCast(start(model, 1), model, **given)
        run.attach(run.checkpoint, 1, path)
        run.run(steps - run.nsteps)
        run.close()

    return live


def many(model: Forecaster, steps: int) -> Callable[[Path], None]:
    """Return what runs replicas."""

    def live(folder: Path) -> None:
        path = folder / "run.checkpoint"
        given: dict[str, Any] = {
            "thermostat": lambda rng: model.recommended_thermostat(TEMPERATURE_K, rng),
            "trajectory": str(folder / "run-{replica:02d}.traj"),
            "logfile": str(folder / "run-{replica:02d}.log"),
        }
        if has_checkpoint(path):
            run = Replicas.restart(path, model, **given)
        else:
            clear(folder)
            systems = [start(model, k) for k in range(N_REPLICAS)]
            run = Replicas(systems, model, seed=1, **given)
        run.attach(run.checkpoint, 1, path)
        run.run(steps - run.nsteps)
        run.close()

    return live


def small_network() -> Forecaster:
    """Return a network without training that is ready at once."""
    config = ForecasterConfig(
        elements=(1, 6, 7, 8),
        horizon_fs=7.0,
        cutoff=3.5,
        displacement_rms=1e-3,
        velocity_rms=1e-4,
        avg_num_neighbors=8.0,
        n_channels=4,
        lmax=1,
        n_layers=1,
        n_edge_rbf=3,
        edge_mlp=(4,),
        n_velocity_rbf=3,
        velocity_mlp=(4,),
        velocity_scales=(0.0157, 0.00456, 0.0042, 0.00395),
    )
    return Forecaster(config, generator=torch.Generator().manual_seed(1)).float()


def command(steps: int, *more: str) -> Callable[[Path], None]:
    """Return ``trajcast run``, always the same, with a checkpoint after each leap.

    Of a small network, whose lives are not over before their first stride.
    """

    def live(folder: Path) -> None:
        structure = folder / "start.xyz"
        if not structure.exists():
            ase.io.write(structure, paracetamol())
            save_model(small_network(), folder / "small.trajcast")
        _call(
            *("run", str(structure), "--model", str(folder / "small.trajcast")),
            *("--out", str(folder / "run"), "--guards", "off", "--thermostat", "csvr"),
            *("--temperature", f"{TEMPERATURE_K}", "--seed", "3", "--interval", "1"),
            *("--steps", f"{steps}", "--checkpoint-minutes", "0"),
            *("--restart", "--overwrite", *more),
        )

    return live


def training(steps: int) -> Callable[[Path], None]:
    """Return a training, always the same, with a checkpoint after each step."""
    settings = TOML.replace("steps = 9", f"steps = {steps}").replace(
        "threads = 1",
        "threads = 1\nlog_every = 1\nvalidate_every = 5\ncheckpoint_minutes = 1e-9",
    )

    def live(folder: Path) -> None:
        if not (folder / "train.toml").exists():
            ase.io.write(folder / "run.traj", vibrating_pair())
            (folder / "train.toml").write_text(settings, encoding="utf-8")
        train(TrainingConfig.from_toml(folder / "train.toml"))

    return live


def clear(folder: Path) -> None:
    """Remove what a life left that was killed before its first checkpoint."""
    for file in folder.glob("run*"):
        file.unlink()


def look_at_runs(folder: Path, whole: Path) -> Found:
    """Return what a kill has left of a run; frames and rows are those of `whole`."""
    step, stood_in = _kept(folder / "run.checkpoint")
    written = []
    for path in sorted(whole.glob("*.traj")):
        frames, rows = _states(folder / path.name), _rows(folder, path.stem)
        expected = _states(path)
        same = not len(frames) or np.array_equal(frames, expected[: len(frames)])
        expect(same, f"other frames in {path.name}")
        expect(rows == _rows(whole, path.stem)[: len(rows)], f"another {path.stem}.log")
        n_rows = max(0, len(rows) - 1)  # without the header
        expect(abs(len(frames) - n_rows) <= 1, "rows without frames")
        written.append(len(frames) - 1)
    expect(step < 0 or min(written) >= step, "no frames that the checkpoint counts on")
    return Found(step, stood_in, max(written))


def same_runs(folder: Path, whole: Path) -> None:
    """Raise a KillError unless two finished runs are the same byte for byte."""
    for pattern in ("*.traj", "*.log"):
        names = sorted(path.name for path in whole.glob(pattern))
        expect(names == sorted(path.name for path in folder.glob(pattern)), pattern)
        for name in names:
            read = [(each / name).read_bytes() for each in (folder, whole)]
            expect(read[0] == read[1], f"another {name}")
    runs = [read_checkpoint(each / "run.checkpoint") for each in (folder, whole)]
    for one, other in zip(*runs, strict=True):
        expect(one.nsteps == other.nsteps, "another length")
        expect(
            one.thermostats == other.thermostats, "other thermostats or random numbers"
        )
        momenta = [each.atoms.get_momenta() for each in (one, other)]
        expect(np.array_equal(*momenta), "other momenta")


def look_at_training(folder: Path, whole: Path) -> Found:
    """Return what a kill has left of a training; the log is that of `whole`."""
    path = folder / "out" / CHECKPOINT_NAME
    step = load_checkpoint(path).step if path.exists() else -1
    rows = _training_rows(folder)
    expect(rows == _training_rows(whole)[: len(rows)], "another log")
    model = folder / "out" / "pair.trajcast"
    if model.exists():
        load_model(model)
    expect(len(rows) >= step, "no rows that the checkpoint counts on")
    return Found(step, stood_in=False, written=len(rows))


def same_trainings(folder: Path, whole: Path) -> None:
    """Raise a KillError unless finished trainings are the same but for clocks."""
    expect(_training_rows(folder) == _training_rows(whole), "another log")
    models = [load_model(each / "out" / "pair.trajcast") for each in (folder, whole)]
    weights = [model.state_dict() for model in models]
    expect(weights[0].keys() == weights[1].keys(), "other weights")
    for name, tensor in weights[0].items():
        expect(torch.equal(tensor, weights[1][name]), f"another {name}")
    kept = [load_checkpoint(each / "out" / CHECKPOINT_NAME) for each in (folder, whole)]
    for name, tensor in kept[0].tensors.items():
        expect(torch.equal(tensor, kept[1].tensors[name]), f"another {name}")


def _call(*arguments: str) -> None:
    """Call the command with its output thrown away."""
    with redirect_stdout(StringIO()):
        status = app(list(arguments), standalone_mode=False)
    if status:
        raise RuntimeError(f"trajcast {arguments[0]} ended with status {status}")


def _kept(path: Path) -> tuple[int, bool]:
    """Return the step of the checkpoint, and whether it is the one before the last."""
    if not has_checkpoint(path):
        return -1, False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steps = {run.nsteps for run in read_checkpoint(path)}
    expect(len(steps) == 1, "replicas at different steps")
    if path.exists() and previous(path).exists():
        expect(not caught, "a damaged checkpoint")
    return steps.pop(), not path.exists()


def _states(path: Path) -> np.ndarray:
    """Return positions and momenta of all frames; none for a file without any."""
    if not path.exists() or path.stat().st_size == 0:
        return np.empty(0)
    with Trajectory(path) as frames:
        return np.array([(one.positions, one.get_momenta()) for one in frames])


def _rows(folder: Path, stem: str) -> list[str]:
    path = folder / f"{stem}.log"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    expect(not text or text.endswith("\n"), "half a row")
    return text.splitlines()


def _training_rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "out" / "log.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def jobs() -> dict[str, Job]:
    """Return what is killed, by name; the model is read once for all lives."""
    model = load_model(MODEL)
    whole = 10**9  # the command looks at its clock after leaps, which grow
    return {
        "TrajCast": Job(single(model, 60), look_at_runs, same_runs, 1),
        "Replicas": Job(many(model, 40), look_at_runs, same_runs, 1),
        "trajcast run": Job(command(200), look_at_runs, same_runs, whole),
        "trajcast train": Job(
            training(60), look_at_training, same_trainings, 1, False, True
        ),
    }
