"""Runs of the model that are held against reference MD."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms

from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.speed import atoms_of, one_thread
from trajcast_ase.distill.words import counted
from trajcast_ase.dynamics.checkpoint import has_checkpoint
from trajcast_ase.dynamics.interruption import Interrupted
from trajcast_ase.dynamics.losses import LostReplicasError, LostReplicaWarning
from trajcast_ase.dynamics.replicas import Replicas
from trajcast_ase.dynamics.rollout import (
    EXIT_TO_BE_CONTINUED,
    Checkpoints,
    Ending,
    Limits,
    roll_out,
)
from trajcast_ase.network import Forecaster
from trajcast_ase.thermostats.recommended import thermostats_of
from trajcast_ase.thermostats.setting import ThermostatSetting
from trajcast_ase.trajectory import Frames, read_frames
from trajcast_ase.validation.inputs import Run, observe_both, read_run
from trajcast_ase.validation.observables import Observables
from trajcast_ase.validation.report import Report, compare

CHECKPOINT_MINUTES = 0.5
SKIPPED, MOST_SKIPPED_PS = 0.1, 5.0
"""Beginning of a run that is left out: share, and at most."""
SPREAD = "sd of temperature"
"""Not judged where the reference has no thermostat."""


@dataclass(frozen=True, slots=True)
class Strides:
    """Length of runs.

    Attributes
    ----------
    least, most : int
        Strides that are made in any case, and if there is time.
    seconds : float or None, s
        After which no more than the least are made; None: never.
    """

    least: int
    most: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Runs of a model.

    Attributes
    ----------
    paths : tuple of Path
    lost : str
        Why runs failed; empty where none did.
    """

    paths: tuple[Path, ...]
    lost: str


def starts(facts: Facts, folder: Path, count: int) -> list[Atoms]:
    """Return snapshots of training runs to start from."""
    files = facts.paths(facts.train, folder)
    chosen = np.linspace(0, len(files) - 1, count).round().astype(int)
    found = []
    for k, index in enumerate(chosen):
        frames = read_frames(files[index])
        found.append(atoms_of(frames, (frames.n_frames * (k + 1)) // (count + 1)))
    return found


def make_runs(
    model: Forecaster,
    systems: Sequence[Atoms],
    setting: ThermostatSetting,
    *,
    temperature_K: float,
    strides: Strides,
    folder: Path,
    seed: int,
    tick: Callable[[int], None],
) -> Rollouts:
    """Run a model from each of `systems`, or go on with it.

    Parameters
    ----------
    model : Forecaster
    systems : sequence of Atoms
    setting : ThermostatSetting
    temperature_K : float, K
    strides : Strides
        Of each run.
    folder : Path
        Of trajectories and checkpoint.
    seed : int
    tick : callable of the number of strides made

    Raises
    ------
    Interrupted
        A signal came; the checkpoint holds all strides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "run.checkpoint"
    template = str(folder / "run-{replica:02d}.traj")
    maker = partial(thermostats_of, setting, temperature_K)
    paths = tuple(folder / f"run-{k:02d}.traj" for k in range(len(systems)))
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LostReplicaWarning)  # said by the caller
        if has_checkpoint(checkpoint):
            replicas = Replicas.restart(
                checkpoint, model, thermostat=maker, trajectory=template
            )
        else:
            replicas = Replicas(
                systems, model, thermostat=maker, seed=seed, trajectory=template
            )
        with replicas:
            replicas.attach(lambda: tick(replicas.nsteps), max(1, strides.most // 100))
            try:
                ending = _carry_on(replicas, strides, checkpoint)
                replicas.raise_if_lost()
            except LostReplicasError as error:
                return Rollouts(paths, broken(error, paths))
    if ending.exit_status not in (0, EXIT_TO_BE_CONTINUED):
        raise Interrupted(
            f"interrupted by {ending.reason}; the same command goes on",
            ending.exit_status - 128,
        )
    return Rollouts(paths, "")


def broken(error: LostReplicasError, paths: Sequence[Path]) -> str:
    """Return which runs broke down, when and why, and where their ends are."""
    each = "; ".join(
        f"{paths[one.number].stem} after {counted(one.stride, 'stride', 'strides')} "
        f"({one.reason.split('; ')[0]})"
        for one in error.lost
    )
    text = f"{len(error.lost)} of {len(paths)} runs broke down: {each}"
    folder = paths[0].parent
    if any(folder.glob("*.evidence.extxyz")):
        text += f"; the last frames are in {folder}/*.evidence.extxyz"
    return text


def _carry_on(replicas: Replicas, strides: Strides, checkpoint: Path) -> Ending:
    """Run all strides that can be judged, and then as many as the time allows."""
    kept = Checkpoints(checkpoint, CHECKPOINT_MINUTES)
    began = time.monotonic()
    if replicas.nsteps < strides.least:
        ending = roll_out(replicas, strides.least, checkpoints=kept)
        if ending.reason or strides.least >= strides.most:
            return ending
    left = None
    if strides.seconds is not None:
        left = max(0.0, strides.seconds - (time.monotonic() - began))
        if left == 0.0:
            return Ending(0, 0.0)
    limits = Limits(wall_s=left)
    return roll_out(replicas, strides.most, checkpoints=kept, limits=limits)


def references_at(
    names: tuple[str, ...], kelvin: float, facts: Facts, folder: Path
) -> list[Run]:
    """Return the reference runs at a temperature; all where there is only one."""
    runs = [
        Run(read_frames(path), read_run(path).temperature_K)
        for path in facts.paths(names, folder)
    ]
    if len(facts.temperatures_K) == 1:
        return [Run(run.frames, kelvin) for run in runs]
    return [run for run in runs if run.temperature_K == kelvin]


def judge(
    paths: Sequence[Path],
    references: Sequence[Run],
    lag: int,
    *,
    has_thermostat: bool,
) -> Report:
    """Return the report on runs against reference MD.

    Parameters
    ----------
    paths : sequence of Path
        Of the runs.
    references : sequence of Run
        As stored, of one temperature; frames between strides are left out.
    lag : int
        Frames in a stride.
    has_thermostat : bool
        Whether the references have one.
    """
    kelvin = references[0].temperature_K
    ours = [_settled(read_frames(path), kelvin) for path in paths]
    theirs = [Run(thinned(run.frames, lag), kelvin) for run in references]
    found = observe_both(ours, theirs)
    if not has_thermostat:
        found = _without_spread(found[0]), _without_spread(found[1])
    return compare(*found)


def thinned(frames: Frames, lag: int) -> Frames:
    """Return every `lag`-th frame."""
    return replace(
        frames,
        positions=frames.positions[::lag],
        velocities=frames.velocities[::lag],
        stride_fs=lag * frames.stride_fs,
    )


def _settled(frames: Frames, temperature_K: float | None) -> Run:
    most = round(1e3 * MOST_SKIPPED_PS / frames.stride_fs)
    first = min(round(SKIPPED * frames.n_frames), most)
    kept = replace(
        frames,
        positions=frames.positions[first:],
        velocities=frames.velocities[first:],
    )
    return Run(kept, temperature_K)


def _without_spread(found: Observables) -> Observables:
    scalars = {name: one for name, one in found.scalars.items() if name != SPREAD}
    return replace(found, scalars=scalars)
