"""``trajcast ensemble``: replicas of starts and temperatures on many workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trajcast_ase.cli.options import (
    BackendName,
    BackendOption,
    CheckpointMinutesOption,
    DeviceOption,
    DrawVelocitiesOption,
    EngineName,
    EngineOption,
    FrictionOption,
    MaxHoursOption,
    NoiseOption,
    PrecisionOption,
    ResponseOption,
    StopFileOption,
    TautOption,
    ThermostatOption,
)
from trajcast_ase.cli.run import read_structure
from trajcast_ase.cli.thermostat import Bath, ThermostatName, setting_of_choice

if TYPE_CHECKING:
    from trajcast_ase.dynamics.rollout import Ending
    from trajcast_ase.ensemble.engine import Pool
    from trajcast_ase.ensemble.plan import Plan
    from trajcast_ase.ensemble.result import EnsembleResult


def ensemble(
    model: Annotated[str, typer.Argument(help="Bundled name, or a .trajcast file.")],
    structures: Annotated[
        list[Path],
        typer.Argument(help="Starts of one system, in any ASE format; last frames."),
    ],
    *,
    temperature: Annotated[
        str, typer.Option(help="Of thermostat and drawn velocities, K: 280,300,320.")
    ],
    picoseconds: Annotated[float, typer.Option(help="Length of each replica, ps.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the ensemble, which all workers see.")
    ],
    replicas: Annotated[
        int, typer.Option(min=1, help="For each start and temperature.")
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes on this machine. Default: one for each CPU core."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of a running dask scheduler, whose workers do it instead."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Replicas that a worker runs together. Default: few enough that none "
            "is idle.",
        ),
    ] = None,
    thermostat: ThermostatOption = ThermostatName.RECOMMENDED,
    taut: TautOption = None,
    friction: FrictionOption = None,
    response: ResponseOption = None,
    noise: NoiseOption = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Default: that of the folder, else a new one."),
    ] = None,
    interval: Annotated[
        int, typer.Option(min=1, help="Strides between two frames and log lines.")
    ] = 10,
    draw_velocities: DrawVelocitiesOption = False,
    skip: Annotated[
        float,
        typer.Option(min=0.0, help="Leave out of the means at each start, ps."),
    ] = 0.0,
    threads: Annotated[
        int, typer.Option(min=1, help="Of the CPU, for each worker.")
    ] = 1,
    device: DeviceOption = "cpu",
    engine: EngineOption = EngineName.HOST,
    backend: BackendOption = BackendName.AUTO,
    dtype: PrecisionOption = None,
    checkpoint_minutes: CheckpointMinutesOption = 5.0,
    max_hours: MaxHoursOption = None,
    stop_file: StopFileOption = None,
) -> None:
    """Run replicas at one temperature or several on many workers.

    The same command again goes on where an earlier one ended for any reason.
    """
    from trajcast_ase.dynamics.rollout import Limits  # noqa: PLC0415
    from trajcast_ase.ensemble.engine import Means  # noqa: PLC0415  --help does without
    from trajcast_ase.ensemble.folder import Folder  # noqa: PLC0415
    from trajcast_ase.ensemble.plan import EnsembleError  # noqa: PLC0415
    from trajcast_ase.ensemble.run import (  # noqa: PLC0415
        Request,
        carried_out,
        cores,
        planned,
    )
    from trajcast_ase.models.model_file import load_model  # noqa: PLC0415
    from trajcast_ase.progress import EnsembleProgress  # noqa: PLC0415

    if address is not None and workers is not None:
        raise ValueError("--workers starts workers, --address uses some; give one")
    console = Console(highlight=False)
    network = load_model(model)
    bath = Bath(thermostat, None, taut, friction, response)
    if not 0 < picoseconds < float("inf"):
        raise EnsembleError(f"--picoseconds {picoseconds:g} must be positive")
    request = Request(
        starts=tuple(map(read_structure, structures)),
        model=model,
        temperatures_K=_temperatures(temperature),
        strides=max(1, round(1e3 * picoseconds / network.horizon_fs)),
        replicas=replicas,
        thermostat=setting_of_choice(bath, network),
        noise=noise,
        engine=engine.value,
        draw_velocities=draw_velocities,
        interval=interval,
        threads=threads,
        dtype=None if dtype is None else str(dtype),
        seed=seed,
        batch=batch,
        names=tuple(path.name for path in structures),
    )
    folder, count = Folder(out), workers or cores()
    plan = planned(request, folder, count)
    _announce(plan, network.horizon_fs, console)
    total = plan.replicas * plan.cells * plan.strides
    with EnsembleProgress(total, network.horizon_fs, console=console) as progress:
        means = Means(
            _pool(address, min(count, len(plan.shares))),
            device,
            backend.value,
            checkpoint_minutes,
            Limits(None if max_hours is None else 3600 * max_hours, stop_file),
            progress,
        )
        ending = carried_out(request, folder, plan, means)
    _conclude(ending, out, skip, console)


def _temperatures(text: str) -> tuple[float, ...]:
    """Return the numbers of a list with commas, K."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--temperature {text} is no list of numbers; give one, as in 280,300"
        ) from error


def _pool(address: str | None, workers: int) -> Pool:
    from trajcast_ase.ensemble.dask_pool import (  # noqa: PLC0415
        local_workers,
        workers_at,
    )

    if address is not None:
        return partial(workers_at, address)
    return partial(local_workers, workers)


def _announce(plan: Plan, horizon_fs: float, console: Console) -> None:
    """Print what will run."""
    starts = f"{len(plan.starts)} starts, " if len(plan.starts) > 1 else ""
    kelvins = ", ".join(f"{one:g}" for one in plan.temperatures_K)
    console.print(
        f"{plan.model}: {plan.replicas * plan.cells} replicas in {len(plan.shares)} "
        f"shares, {starts}{kelvins} K, {plan.strides} strides of {horizon_fs:g} fs, "
        f"thermostat {plan.thermostat or 'none'}, seed {plan.seed}",
        soft_wrap=True,
    )


def _conclude(ending: Ending, out: Path, skip: float, console: Console) -> None:
    """Write and print the result of an ensemble that is at its end; else say so."""
    from trajcast_ase.ensemble.result import (  # noqa: PLC0415
        read_ensemble,
        write_result,
    )

    if ending.reason:
        console.print(
            f"ended by {ending.reason}; the same command again goes on", soft_wrap=True
        )
        raise typer.Exit(ending.exit_status)
    result = read_ensemble(out, skip_ps=skip)
    write_result(result)
    console.print(_table(result))
    console.print(f"wrote {out}/ensemble.{{csv,json}}", soft_wrap=True)
    if result.lost:
        for one in result.lost:
            console.print(
                f"replica {one.number} is lost after stride {one.strides}: {one.lost}",
                soft_wrap=True,
            )
        raise typer.Exit(1)


def _table(result: EnsembleResult) -> Table:
    table = Table("K", "replicas", "mean temperature (K)", "standard error", box=None)
    for one in result.mean_temperatures():
        table.add_row(
            f"{one.temperature_K:g}",
            f"{one.replicas}",
            f"{one.mean:.2f}",
            f"{one.standard_error:.2f}",
        )
    return table
