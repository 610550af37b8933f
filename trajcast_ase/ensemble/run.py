"""An ensemble from Python: plan, folder, workers, result in one call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from trajcast_ase.constraints import constraints_of
from trajcast_ase.dynamics.checkpoint import plain
from trajcast_ase.dynamics.rollout import Ending, Limits
from trajcast_ase.ensemble.dask_pool import local_workers
from trajcast_ase.ensemble.engine import Means, Pool, Status, carry_out, first_made
from trajcast_ase.ensemble.folder import (
    Folder,
    bare,
    checked_model,
    identity,
    read_plan,
    write_inputs,
    write_plan,
)
from trajcast_ase.ensemble.plan import (
    EnsembleError,
    Plan,
    Start,
    checked_temperatures,
    default_batch,
)
from trajcast_ase.ensemble.result import EnsembleResult, read_ensemble, write_result
from trajcast_ase.files import sole_writer
from trajcast_ase.models.model_file import load_model
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.network.forecaster import Forecaster
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.recommended import setting_of
from trajcast_ase.thermostats.setting import ThermostatSetting

AFFINITY = hasattr(os, "sched_getaffinity")
"""Whether the system tells which cores a process may use."""


class UnfinishedError(RuntimeError):
    """An ensemble was stopped before its end; the same call goes on.

    Parameters
    ----------
    ending : Ending
        Why it was stopped.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"ended by {ending.reason}; the same call again goes on")
        self.ending = ending


@dataclass(frozen=True, slots=True)
class Request:
    """An ensemble as users ask for it.

    Attributes
    ----------
    starts : tuple of Atoms
        All of one system, with or without velocities.
    model : str or Path
        Bundled name, or a ``.trajcast`` file.
    temperatures_K : tuple of float, K
    strides : int
    replicas : int
        For each start and temperature.
    thermostat : ThermostatSetting, "recommended" or None
    noise, engine, draw_velocities, interval, threads, dtype
        As of :class:`.Plan`.
    seed, batch : int or None
        None: those of the folder; of a new one a fresh seed, and shares for all
        workers.
    names : tuple of str, optional
        Of the starts.
    """

    starts: tuple[Atoms, ...]
    model: str | Path
    temperatures_K: tuple[float, ...]
    strides: int
    replicas: int = 1
    thermostat: ThermostatSetting | str | None = "recommended"
    noise: bool = False
    engine: str = "host"
    draw_velocities: bool = False
    interval: int = 10
    threads: int = 1
    dtype: str | None = None
    seed: int | None = None
    batch: int | None = None
    names: tuple[str, ...] = ()


def ensemble(
    starts: Atoms | Sequence[Atoms],
    model: str | Path,
    folder: str | Path,
    *,
    temperatures_K: float | Sequence[float],
    strides: int,
    replicas: int = 1,
    thermostat: ThermostatSetting | str | None = "recommended",
    noise: bool = False,
    engine: str = "host",
    draw_velocities: bool = False,
    seed: int | None = None,
    interval: int = 10,
    batch: int | None = None,
    threads: int = 1,
    dtype: str | None = None,
    workers: int | None = None,
    executor: Pool | None = None,
    device: str = "cpu",
    backend: str = "auto",
    checkpoint_minutes: float = 5.0,
    limits: Limits | None = None,
    report: Callable[[Status], None] | None = None,
) -> EnsembleResult:
    """Run replicas of each start at each temperature on many workers.

    The same call again goes on where an earlier one was stopped, killed or failed; a
    larger `strides` prolongs one that has ended.

    Parameters
    ----------
    starts : Atoms, or sequence of them
        All of one system. Velocities are drawn where a start has none.
    model : name of a bundled model, or path to a ``.trajcast`` file
    folder : path
        New, or of this ensemble; every worker must see it.
    temperatures_K : float, or sequence of them, K
    strides : int
    replicas : int
        For each start and temperature.
    thermostat : ThermostatSetting, "recommended" or None
    noise : bool
        With the model's calibrated noise.
    engine : "host" or "device"
        As of :class:`trajcast_ase.Replicas`: where strides are made.
    draw_velocities : bool
        Also where a start has them.
    seed : int, optional
        Default: that of the folder, else a fresh one.
    interval : int
        Strides between two frames.
    batch : int, optional
        Replicas that a worker forecasts together. Default: that of the folder, else as
        many as leave no worker idle and fit in one forward pass.
    threads : int
        Of the CPU, for each share.
    dtype : "float32", "float64" or None
        Of the network; None: as in its file.
    workers : int, optional
        Processes of this machine, by dask. Default: one for each CPU core.
    executor : concurrent.futures.Executor, or callable that returns one, optional
        Instead of `workers`. A callable, such as ``partial(ProcessPoolExecutor, 4,
        mp_context=get_context("spawn"))``, is called again when a lost worker has
        broken the pool. Processes that are forked are refused: they may hang.
    device : str
        Of each worker, "cpu" or "cuda".
    backend : "auto", "reference", "cpp" or "triton"
        That computes the network, on each worker.
    checkpoint_minutes : float
        Wall time between two checkpoints of a share.
    limits : Limits, optional
    report : callable of Status, optional
        Told about twice a second how far the ensemble is.

    Raises
    ------
    EnsembleError
        Settings or an executor that are refused, or other settings than those of the
        folder.
    FileExistsError
        The folder is of something else, or another process carries the ensemble out.
    SharesFailedError
        Shares have failed; the others have ended.
    UnfinishedError
        A signal or a limit stopped it.

    Notes
    -----
    Workers are processes that import the script that calls this; guard the call with
    ``if __name__ == "__main__":``.
    """
    # A plan is of Python's own numbers, as its file is.
    request = Request(
        starts=(starts,) if isinstance(starts, Atoms) else tuple(starts),
        model=model,
        temperatures_K=checked_temperatures(plain(temperatures_K)),
        strides=plain(strides),
        replicas=plain(replicas),
        thermostat=thermostat,
        noise=plain(noise),
        engine=engine,
        draw_velocities=plain(draw_velocities),
        interval=plain(interval),
        threads=plain(threads),
        dtype=dtype,
        seed=plain(seed),
        batch=plain(batch),
    )
    count = plain(workers) or cores()
    place = Folder(Path(folder))
    plan = planned(request, place, count)
    means = Means(
        executor or partial(local_workers, min(count, len(plan.shares))),
        device,
        backend,
        checkpoint_minutes,
        limits or Limits(),
        report,
    )
    ending = carried_out(request, place, plan, means)
    if ending.reason:
        raise UnfinishedError(ending)
    result = read_ensemble(folder)
    write_result(result)
    return result


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if AFFINITY else os.cpu_count() or 1


def planned(request: Request, folder: Folder, workers: int) -> Plan:
    """Return the plan of an ensemble, checked against that of its folder.

    Parameters
    ----------
    request : Request
    folder : Folder
        New, or of this ensemble.
    workers : int
        That a new ensemble is divided among.

    Raises
    ------
    EnsembleError
        Settings that are refused, or other ones than those of the folder.
    FileExistsError
        Something else is in the folder.
    """
    kept = read_plan(folder) if folder.plan.is_file() else None
    if kept is None:
        folder.check_fresh()
    _check_starts(request)
    data = find_model(request.model).read_bytes()
    network = load_model(request.model)
    _check_forecasts(request, network)
    setting = request.thermostat
    if isinstance(setting, str):
        if setting != "recommended":
            raise EnsembleError(
                f"thermostat = {setting!r}; give 'recommended', a ThermostatSetting "
                "or None"
            )
        setting = setting_of(network)
    if request.noise:
        ForecastNoise.of_model(network)  # refuses a model without
    seed, batch = request.seed, request.batch
    if seed is None:
        seed = (
            int(np.random.default_rng().integers(2**32)) if kept is None else kept.seed
        )
    if batch is None:
        cells = len(request.temperatures_K) * len(request.starts)
        n_atoms = len(request.starts[0])
        fresh = default_batch(n_atoms, request.replicas, cells, workers)
        batch = fresh if kept is None else kept.batch
    plan = Plan(
        model=network.name,
        model_sha256=hashlib.sha256(data).hexdigest(),
        starts=_named(request),
        temperatures_K=request.temperatures_K,
        replicas=request.replicas,
        strides=request.strides,
        interval=request.interval,
        thermostat=setting,
        noise=request.noise,
        engine=request.engine,
        draw_velocities=request.draw_velocities,
        seed=seed,
        batch=batch,
        threads=request.threads,
        dtype=request.dtype,
    )
    _check_chance(request, plan)
    if kept is not None:
        plan.check_continues(kept)
    return plan


def carried_out(request: Request, folder: Folder, plan: Plan, means: Means) -> Ending:
    """Write what workers need, and carry out a plan of :func:`planned`.

    Raises
    ------
    EnsembleError
        The pool is refused.
    FileExistsError
        Another process carries it out now.
    SharesFailedError
        As of :func:`.engine.carry_out`.
    """
    if not folder.plan.is_file():
        means = replace(means, pool=first_made(means.pool))
    folder.path.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder.plan):
        if folder.plan.is_file():
            plan.check_continues(read_plan(folder))
            checked_model(folder, plan)
        else:
            data = find_model(request.model).read_bytes()
            write_inputs(folder, data, request.starts)
        folder.make(plan)
        write_plan(folder, plan)
        return carry_out(folder, plan, means)


def _check_starts(request: Request) -> None:
    """Raise EnsembleError for starts that are not of one system."""
    if not request.starts or not all(len(one) for one in request.starts):
        raise EnsembleError("give at least one start, with at least one atom")
    first = request.starts[0]
    for number, atoms in enumerate(request.starts):
        if not np.array_equal(atoms.numbers, first.numbers):
            raise EnsembleError(
                f"start {number} is {atoms.symbols}, but the first is {first.symbols}; "
                "an ensemble is of one system with its atoms in one order, make one "
                "for each"
            )


def _check_forecasts(request: Request, network: Forecaster) -> None:
    """Raise EnsembleError for a start that the network cannot forecast."""
    for name, atoms in zip(_names(request), request.starts, strict=True):
        try:
            network.check_elements(torch.from_numpy(atoms.numbers))
            constraints_of(atoms)
        except (ValueError, NotImplementedError) as error:
            raise EnsembleError(f"{name}: {error}") from error


def _named(request: Request) -> tuple[Start, ...]:
    """Return what the plan keeps of the starts."""
    return tuple(
        Start(name, identity(bare(atoms)))
        for name, atoms in zip(_names(request), request.starts, strict=True)
    )


def _names(request: Request) -> tuple[str, ...]:
    return request.names or tuple(f"start {k}" for k in range(len(request.starts)))


def _check_chance(request: Request, plan: Plan) -> None:
    """Raise EnsembleError for replicas without chance, which are one run many times."""
    chance = plan.thermostat or plan.noise or plan.draw_velocities
    moving = [bool(atoms.get_momenta().any()) for atoms in request.starts]
    if not chance and any(moving) and plan.replicas * len(plan.temperatures_K) > 1:
        raise EnsembleError(
            "replicas from the velocities of a start, without a thermostat and noise, "
            "are one run many times; draw velocities, or choose a thermostat or noise"
        )
