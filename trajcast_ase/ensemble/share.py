"""What a worker does: run a share from where it is, with checkpoints, to its end.

Only a folder's name and plain values reach a worker, and all results are files. So a
share can be begun by one worker and finished by another on any machine that sees the
folder.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trajcast_ase.dynamics.checkpoint import read_checkpoint
from trajcast_ase.dynamics.file_marks import CheckpointError
from trajcast_ase.dynamics.losses import LostReplicasError
from trajcast_ase.dynamics.replicas import Replicas
from trajcast_ase.dynamics.rollout import Checkpoints, Limits, roll_out
from trajcast_ase.ensemble.folder import (
    Folder,
    began,
    checked_model,
    read_plan,
    read_start,
    write_json,
)
from trajcast_ase.ensemble.plan import (
    MOST_REPLICAS,
    MOST_STRIDES,
    EnsembleError,
    Plan,
    Share,
)
from trajcast_ase.files import sole_writer
from trajcast_ase.models.model_file import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network.forecaster import Forecaster
from trajcast_ase.streams import Purpose, random_stream
from trajcast_ase.strict import integer, members, parse_json, text
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.recommended import thermostats_of

BEAT_S = 1.0
"""Shortest time between two words of progress."""
TERMINATED = 128 + signal.SIGTERM
PATIENCE_S = 600.0
"""How long a worker waits for another one that still writes its share."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A replica that failed, as a file keeps it."""

    number: int
    stride: int
    reason: str


@dataclass(frozen=True, slots=True)
class ShareEnd:
    """What is left of a share when all its strides are made.

    Attributes
    ----------
    strides : int
    lost : tuple of Loss
        Replicas that failed on the way.
    """

    strides: int
    lost: tuple[Loss, ...]


def run_share(
    folder: str,
    number: int,
    *,
    device: str = "cpu",
    backend: str = "auto",
    checkpoint_minutes: float = 5.0,
) -> bool:
    """Make the strides of a share that are still missing.

    Parameters
    ----------
    folder : str
        Of the ensemble, as this worker sees it.
    number : int
        Of the share.
    device : str
    backend : str
        That computes the network.
    checkpoint_minutes : float
        Wall time between two checkpoints.

    Returns
    -------
    bool
        Whether all strides are made; False where the share was told to stop.

    Raises
    ------
    EnsembleError
        The folder is damaged, or holds another ensemble's files.
    ValueError, BackendError
        The backend does not compute on the device, or does not work here.
    FileExistsError
        Another worker still writes the share, and did not end.
    """
    place = Folder(Path(folder))
    plan = read_plan(place)
    share = plan.shares[number]
    with _turn(place, share) as mine:
        if not mine:
            return False
        if has_ended(place, plan, share):
            return True
        with _threads(plan.threads):
            load = partial(_loaded, place, plan, device, backend)
            status = _advance(place, plan, share, load, checkpoint_minutes)
    if status == TERMINATED:
        # Noted while the stride ended. A pool of processes waits for their death.
        signal.raise_signal(signal.SIGTERM)
    return status == 0


def read_end(folder: Folder, share: Share) -> ShareEnd | None:
    """Return how a share ended; None if it has not.

    Raises
    ------
    EnsembleError
        The file is damaged.
    """
    path = folder.end(share)
    if not path.exists():
        return None
    try:
        values = members(parse_json(path.read_bytes()), "the end of a share", dict)
        if values.keys() != {"strides", "lost"}:
            raise ValueError("its keys are not strides and lost")  # noqa: TRY301
        lost = tuple(map(_loss, members(values["lost"], "lost")))
        return ShareEnd(integer(values["strides"], "strides", 1, MOST_STRIDES), lost)
    except ValueError as error:
        raise EnsembleError(
            f"{path} is damaged ({error}); delete it, and the same command finds out "
            "again how the share ended"
        ) from error


def has_ended(folder: Folder, plan: Plan, share: Share) -> bool:
    """Return whether a share has made all strides of a plan."""
    end = read_end(folder, share)
    return end is not None and end.strides >= plan.strides


def strides_made(folder: Folder, share: Share) -> int | None:
    """Return how far a worker says that a share has come; None if nobody says."""
    try:
        values = json.loads(folder.progress(share).read_bytes())
        return int(values["strides"])
    except (OSError, ValueError, LookupError, TypeError):  # display only
        return None


def strides_kept(folder: Folder, share: Share) -> int:
    """Return how far a share is, as far as a checkpoint or its end tell."""
    end = read_end(folder, share)
    if end is not None:
        return end.strides
    try:
        return max(run.nsteps for run in read_checkpoint(folder.checkpoint(share)))
    except (FileNotFoundError, CheckpointError):  # the share itself says what is wrong
        return 0


def _loss(value: Any) -> Loss:
    given = members(value, "a loss", dict)
    if given.keys() != {"number", "stride", "reason"}:
        raise ValueError("a lost replica has number, stride and reason")
    return Loss(
        integer(given["number"], "number", 0, MOST_REPLICAS),
        integer(given["stride"], "stride", 0, MOST_STRIDES),
        text(given["reason"], "reason"),
    )


@contextmanager
def _turn(folder: Folder, share: Share) -> Iterator[bool]:
    """Be the only one who writes a share; False where it is told to stop.

    A worker that its scheduler gave up on may be alive: wait for it to end.
    """
    patience = time.monotonic() + PATIENCE_S
    with ExitStack() as held:
        while not folder.stop(share).exists():
            try:
                held.enter_context(sole_writer(folder.checkpoint(share)))
            except FileExistsError:
                if time.monotonic() > patience:
                    raise
                time.sleep(BEAT_S)
            else:
                yield True
                return
        folder.stop(share).unlink(missing_ok=True)
        yield False


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with a number of CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _advance(
    folder: Folder,
    plan: Plan,
    share: Share,
    load: Callable[[], Forecaster],
    checkpoint_minutes: float,
) -> int:
    """Run the replicas of a share; return 0 if they reached their end.

    Else the exit status of what stopped them: :mod:`trajcast_ase.dynamics.rollout`.
    """
    beat = _Beat(folder.progress(share))
    beat.write(0)
    model = load()
    make = _continued if began(folder, share) else _begun
    with make(folder, plan, share, model) as replicas:
        beat.write(replicas.nsteps)
        replicas.attach(lambda: beat(replicas.nsteps), plan.interval)
        try:
            ending = roll_out(
                replicas,
                plan.strides,
                checkpoints=Checkpoints(folder.checkpoint(share), checkpoint_minutes),
                limits=Limits(stop_file=folder.stop(share)),
            )
        except LostReplicasError:  # all of them
            pass
        else:
            if ending.reason:
                beat.write(replicas.nsteps)
                return ending.exit_status
        lost = [Loss(one.number, one.stride, one.reason) for one in replicas.lost]
    beat.write(plan.strides)
    _write_end(folder.end(share), plan.strides, lost)
    return 0


def _loaded(folder: Folder, plan: Plan, device: str, backend: str) -> Forecaster:
    """Return the model of an ensemble on a worker."""
    dtype = None if plan.dtype is None else getattr(torch, plan.dtype)
    model = load_model(checked_model(folder, plan), device=device, dtype=dtype)
    return model.set_backend(backend)


class _Beat:
    """Says now and then how far a share has come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0

    def __call__(self, strides: int) -> None:
        """Say it, unless that was done a moment ago."""
        if time.monotonic() - self._last > BEAT_S:
            self.write(strides)

    def write(self, strides: int) -> None:
        """Say it."""
        self._last = time.monotonic()
        partial = self._path.with_name(f"{self._path.name}.part")
        partial.write_text(json.dumps({"strides": strides}))
        partial.replace(self._path)


def _begun(folder: Folder, plan: Plan, share: Share, model: Forecaster) -> Replicas:
    """Return new replicas; files that a crash left before any checkpoint go."""
    start = read_start(folder, plan, share.start)
    draws = plan.draw_velocities or not start.get_momenta().any()
    systems = [start.copy() for _ in share.replicas]
    if draws:
        for number, atoms in zip(share.replicas, systems, strict=True):
            rng = random_stream(plan.seed, number, Purpose.VELOCITIES)
            draw_momenta(atoms, share.temperature_K, rng, model.conservation)
    for number in share.replicas:
        folder.trajectory(share.temperature_K, number).unlink(missing_ok=True)
        folder.log(share.temperature_K, number).unlink(missing_ok=True)
    return Replicas(
        systems,
        model,
        seed=plan.seed,
        first_replica=share.replicas.start,
        **_settings(folder, plan, share, model, len(start)),
    )


def _continued(folder: Folder, plan: Plan, share: Share, model: Forecaster) -> Replicas:
    """Return the replicas of the checkpoint."""
    start = read_start(folder, plan, share.start)
    path = folder.checkpoint(share)
    return Replicas.restart(
        path, model, **_settings(folder, plan, share, model, len(start))
    )


def _settings(
    folder: Folder, plan: Plan, share: Share, model: Forecaster, n_atoms: int
) -> dict[str, Any]:
    """Return what new and continued replicas have in common."""
    thermostat, noise = None, None
    if plan.thermostat is not None:
        thermostat = partial(thermostats_of, plan.thermostat, share.temperature_K)
    if plan.noise:
        noise = partial(ForecastNoise, ForecastNoise.of_model(model).covariances)
    return {
        "thermostat": thermostat,
        "noise": noise,
        "engine": plan.engine,
        "trajectory": folder.template(share.temperature_K, ".traj"),
        "logfile": folder.template(share.temperature_K, ".log"),
        "loginterval": plan.interval,
        "batch_atoms": len(share.replicas) * n_atoms,
    }


def _write_end(path: Path, strides: int, lost: Sequence[Loss]) -> None:
    values = [
        {"number": one.number, "stride": one.stride, "reason": one.reason}
        for one in lost
    ]
    write_json(path, {"strides": strides, "lost": values})
