"""Water cooled from 300 to 100 K by forecasts of the 300 K model, beside MD.

    python benchmarks/studies/glassy_water.py --rate 4 --replicas 4

Both start from the same 300 K configurations and cool at constant volume and rate, MD
by ``benchmarks/reference_md`` (``cool``), the model under thermostats that follow a
``LinearRamp``. In windows of 20 K: O-O g(r), tetrahedral order, diffusion from short
windows, and the error of single strides. The page says at which temperature each
departs. Writes ``docs/studies/glassy_water.md``, its figure and a CSV file.

Cost of the defaults (64 molecules, 4 K/ps, 4 replicas of 50 ps): about 20 minutes of
one core for the model, 10 for MD; in proportion to replicas over rate. Both continue
where they were interrupted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms, units
from glassy_water_page import Window, csv_rows, departures, draw, page
from numpy.typing import NDArray
from study_pages import (
    machine,
    save_small,
    write_csv,
    write_page,
)
from study_runs import (
    MakeThermostats,
    Plan,
    extend,
    identity,
    joined,
    one_thread,
    read_seeds,
    speed,
)
from study_systems import STUDIES, TEMPERATURE_K, WATER, atoms_of
from study_thermostats import Choice, MakeMembers, parse_choice

from trajcast_ase import LinearRamp, load_model
from trajcast_ase.analysis.msd import msd
from trajcast_ase.analysis.rdf import rdf
from trajcast_ase.analysis.structure import tetrahedral_order
from trajcast_ase.kinetics import run_temperature
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.streams import Purpose, random_stream
from trajcast_ase.stride import ForecastModel, forecast
from trajcast_ase.trajectory import Frames, read_frames
from trajcast_ase.units import DIFFUSION_PER_A2_FS, EV_PER_AMU_A2_FS2, FS, KB

# isort: split
# After study_systems, which puts the folder of these modules on the path.
from engine import Engine
from protocol import Settings, record
from water import water

FRAME_FS = 100.0
"""Between frames of both."""
R_MAX, N_BINS = 6.0, 120
PEAK_A, MINIMUM_A = (2.4, 3.1), (3.0, 4.0)
"""Where the first peak and the first minimum of the O-O g(r) are looked for."""
PROBES = 6
"""Frames of each window and run from which single strides are made."""


def windows(start_K: float, end_K: float, rate: float, width_K: float) -> list[Window]:
    """Return the windows of a run that cools at `rate` K/ps, the hottest first.

    Frame k is at the time k + 1 times 100 fs.

    Raises
    ------
    typer.BadParameter
        Fewer than two windows, or too few frames in each.
    """
    per_frame = rate * FRAME_FS * 1e-3
    length, number = round(width_K / per_frame), round((start_K - end_K) / width_K)
    if number < 2 or length < 10:
        raise typer.BadParameter(
            f"{number} windows of {length} frames show no dependence on temperature; "
            "choose --window between ten frames and half the span"
        )
    return [
        Window(start_K - (k + 0.5) * width_K, slice(k * length, (k + 1) * length))
        for k in range(number)
    ]


def observe(
    frames: Frames, window: Window, lag_ps: tuple[float, float]
) -> dict[str, Any]:
    """Return structure and mobility of a window of a run."""
    positions = frames.positions[window.frames]
    numbers, box = frames.atomic_numbers, {"cell": frames.cell, "pbc": frames.pbc}
    oxygen = numbers == 8
    pairs = rdf(
        positions[:, oxygen],
        numbers[oxygen],
        **box,
        r_max=R_MAX,
        n_bins=N_BINS,
        n_blocks=2,
    )
    g = pairs.g["O-O"]
    near, far = (
        (pairs.distance > low) & (pairs.distance < high)
        for low, high in (PEAK_A, MINIMUM_A)
    )
    order = tetrahedral_order(positions, numbers, **box)
    return {
        "distance": pairs.distance,
        "g": g,
        "peak": float(g[near].max()),
        "minimum": float(g[far].min()),
        "order": float(order.mean()),
        "diffusion": short_diffusion(frames, window, lag_ps),
        "temperature": run_temperature(
            replace(
                frames, positions=positions, velocities=frames.velocities[window.frames]
            )
        ),
    }


def short_diffusion(
    frames: Frames, window: Window, lag_ps: tuple[float, float]
) -> float:
    """Return D of O from the mean square displacements at two lags, 1e-9 m²/s."""
    first, last = (round(1e3 * lag / frames.stride_fs) for lag in lag_ps)
    moved = msd(
        frames.positions[window.frames],
        frames.stride_fs,
        frames.atomic_numbers,
        masses=frames.masses,
        max_lag_fs=last * frames.stride_fs,
        n_blocks=2,
    ).by_element["O"]
    slope = (moved[last] - moved[first]) / ((last - first) * frames.stride_fs)
    return float(slope / 6.0 * DIFFUSION_PER_A2_FS)


def residual_shares(
    engine: Engine, model: ForecastModel, frames: Frames, window: Window
) -> float:
    """Return the variance of a stride's velocity error in units of kT/m.

    The truth is MD from the same state. A thermostat has to make up for it at each
    stride.
    """
    n_steps = round(model.horizon_fs / engine.system.timestep)
    chosen = np.linspace(window.frames.start, window.frames.stop - 1, PROBES)
    engine.commands("fix integrate all nve")
    errors = []
    for k in chosen.round().astype(int):
        atoms = atoms_of(frames, k)
        atoms.set_momenta(frames.velocities[k] * frames.masses[:, None] / FS)
        engine.set_state(frames.positions[k], frames.velocities[k])
        engine.start()
        truth = engine.advance(n_steps).velocities
        error = forecast(model, atoms).velocities - truth
        errors.append(frames.masses[:, None] * error**2)
    engine.commands("unfix integrate")
    return float(np.mean(errors) * EV_PER_AMU_A2_FS2 / (KB * window.temperature_K))


def cool_md(rate: float, end_K: float, n_replicas: int, folder: Path) -> list[Frames]:
    """Return cooling runs of reference MD, made or continued where they are missing.

    The frame at the start is the first.
    """
    system = water()
    length = (system.temperature - end_K) / rate
    paths = [
        record(
            system,
            Settings(
                "cooling", seed, length, FRAME_FS, "canonical", system.damping, rate
            ),
            folder,
        )
        for seed in range(1, n_replicas + 1)
    ]
    return [read_frames(path) for path in paths]


def starts_of(runs: list[Frames], model: ForecastModel, seed: int) -> list[Atoms]:
    """Return the first configuration of each run with momenta of its own."""
    starts = []
    for number, frames in enumerate(runs):
        atoms = atoms_of(frames)
        rng = random_stream(seed, number, Purpose.VELOCITIES)
        draw_momenta(atoms, TEMPERATURE_K, rng, model.conservation)
        starts.append(atoms)
    return starts


def cooling(choice: Choice, end_K: float, rate: float) -> MakeThermostats:
    """Return what makes the thermostats of a chunk, whose time starts anew.

    A ramp from the temperature that is due at its start is the rest of the whole ramp.
    """

    def from_time(began_fs: float) -> MakeMembers:
        now = TEMPERATURE_K - rate * began_fs * 1e-3
        rest = LinearRamp(now, end_K, (now - end_K) / rate * 1e3 * units.fs)
        return choice.thermostats(rest)

    return from_time


def summarize(
    spans: list[Window], runs: list[Frames], lag_ps: tuple[float, float]
) -> dict[str, NDArray[np.float64]]:
    """Return each observable as (n_replicas, n_windows, ...)."""
    rows = [[observe(run, span, lag_ps) for span in spans] for run in runs]
    return {
        name: np.array([[one[name] for one in row] for row in rows])
        for name in rows[0][0]
    }


def main(  # noqa: PLR0917  options of the command line
    rate: Annotated[float, typer.Option(min=0.1, help="Of cooling, K/ps.")] = 4.0,
    to: Annotated[float, typer.Option(min=20.0, max=260.0, help="K.")] = 100.0,
    replicas: Annotated[int, typer.Option(min=2)] = 4,
    window: Annotated[float, typer.Option(help="Of temperature, K.")] = 20.0,
    thermostat: Annotated[
        str, typer.Option(help="See study_thermostats.py: recommended, csvr, ...")
    ] = "recommended",
    model: Annotated[str, typer.Option(help="Bundled name or file.")] = WATER.model,
    seed: int = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path(
        "runs/glassy_water"
    ),
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Cool water by forecasts and by MD, and say where they part."""
    one_thread()
    spans = windows(TEMPERATURE_K, to, rate, window)
    lags = (window / rate / 10.0, window / rate / 5.0)
    reference = cool_md(rate, to, replicas, out / "md")
    network = load_model(model, device=device)
    length = (TEMPERATURE_K - to) / rate
    chosen = parse_choice(thermostat, network, WATER.taut_fs)
    folder = out / f"{network.name}-{chosen.folder}"
    settings = identity(network) | {
        "rate": rate,
        "to_K": to,
        "replicas": replicas,
        "seed": seed,
        "thermostat": chosen.words,
    }
    plan = Plan(
        model=network,
        thermostats=cooling(chosen, to, rate),
        picoseconds=length,
        seed=seed,
        settings=settings,
        noise=chosen.noise,
        every=round(FRAME_FS / network.horizon_fs),
        chunk_ps=length / max(1, round(length / 5.0)),
    )
    extend(folder, starts_of(reference, network, seed), plan)
    runs = read_seeds(folder)
    cooled = [joined([one], FRAME_FS * 1e-3) for one in reference]  # no start
    run, md = (summarize(spans, one, lags) for one in (runs, cooled))
    with Engine(water()) as engine:
        shares = np.array(
            [
                [residual_shares(engine, network, one, span) for span in spans]
                for one in cooled
            ]
        )
    facts = settings | {
        "ps": length,
        "width": window,
        "windows": len(spans),
        "lags": f"{lags[0]:g} and {lags[1]:g}",
        "machine": machine(device),
        "speed": speed(folder),
    }
    departs = departures(spans, run, md)
    save_small(draw(spans, run, md, shares), docs / "glassy_water.png")
    write_csv(docs / "glassy_water.csv", csv_rows(spans, run, md, shares))
    write_page(docs / "glassy_water.md", page(facts, departs, shares))
    print(departs)


if __name__ == "__main__":
    typer.run(main)
