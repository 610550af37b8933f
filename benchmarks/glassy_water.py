"""Water cooled from 300 to 100 K by forecasts of the 300 K model, beside MD.

    python benchmarks/glassy_water.py --rate 4 --replicas 4 --out runs/glassy_water

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

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms, units
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats
from study_pages import (
    describe_machine,
    machine,
    mean_of,
    save_small,
    table,
    write_csv,
    write_page,
)
from study_runs import (
    MakeThermostats,
    Plan,
    extend,
    joined,
    one_thread,
    read_seeds,
    speed,
)
from study_systems import STUDIES, TEMPERATURE_K, WATER, atoms_of
from study_thermostats import MakeMembers, Setting, folder_name, parse_setting

from trajcast_ase import LinearRamp, load_model
from trajcast_ase.analysis.msd import msd
from trajcast_ase.analysis.plots.style import (
    REFERENCE,
    RUN,
    finish,
    legend_style,
)
from trajcast_ase.analysis.rdf import rdf
from trajcast_ase.analysis.structure import tetrahedral_order
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster
from trajcast_ase.streams import Purpose, random_stream
from trajcast_ase.stride import ForecastModel, forecast
from trajcast_ase.training.trajectory import Frames, read_frames
from trajcast_ase.units import DIFFUSION_PER_A2_FS, EV_PER_AMU_A2_FS2, FS, KB

# isort: split
# After study_systems, which puts the folder of these modules on the path.
from engine import Engine
from protocol import Settings, record
from water import water

FRAME_FS = 100.0
"""Between frames of both."""
LEVEL = 0.05
"""Chance that a curve of equal liquids departs anywhere."""
R_MAX, N_BINS = 6.0, 120
PEAK_A, MINIMUM_A = (2.4, 3.1), (3.0, 4.0)
"""Where the first peak and the first minimum of the O-O g(r) are looked for."""
PROBES = 6
"""Frames of each window and run from which single strides are made."""
SHOWN = 4
"""Windows whose g(r) is drawn."""
CURVES = {
    "peak": "height of the first O-O peak",
    "minimum": "depth of the first O-O minimum",
    "order": "tetrahedral order",
    "diffusion": "diffusion of O (1e-9 m²/s)",
    "temperature": "kinetic temperature (K)",
}


@dataclass(frozen=True, slots=True)
class Window:
    """Frames of a cooling run within a span of the thermostat's temperature.

    Attributes
    ----------
    temperature_K : float, K
        Of the thermostat, in the middle.
    frames : slice
    """

    temperature_K: float
    frames: slice


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
    twice = np.einsum("fac,a->f", frames.velocities[window.frames] ** 2, frames.masses)
    n_dof = 3 * len(frames.masses) - 3
    return {
        "distance": pairs.distance,
        "g": g,
        "peak": float(g[near].max()),
        "minimum": float(g[far].min()),
        "order": float(order.mean()),
        "diffusion": short_diffusion(frames, window, lag_ps),
        "temperature": float(twice.mean() * EV_PER_AMU_A2_FS2 / (n_dof * KB)),
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


def departure(
    temperatures: NDArray[np.float64],
    run: NDArray[np.float64],
    reference: NDArray[np.float64],
) -> float | None:
    """Return the first (highest) temperature at which two curves differ, or None.

    Welch's test of the replicas of each window at the level 0.05 over the number of
    windows, so that equal liquids differ anywhere in at most 5 % of the cases.

    Parameters
    ----------
    temperatures : (n_windows,), K
        From high to low.
    run, reference : (n_replicas, n_windows)
    """
    p = stats.ttest_ind(run, reference, axis=0, equal_var=False).pvalue
    differs = np.flatnonzero(p < LEVEL / len(temperatures))
    return float(temperatures[differs[0]]) if len(differs) else None


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


def cooling(
    setting: Setting, model: Forecaster, end_K: float, rate: float
) -> MakeThermostats:
    """Return what makes the thermostats of a chunk, whose time starts anew.

    A ramp from the temperature that is due at its start is the rest of the whole ramp.
    """

    def from_time(began_fs: float) -> MakeMembers:
        now = TEMPERATURE_K - rate * began_fs * 1e-3
        rest = LinearRamp(now, end_K, (now - end_K) / rate * 1e3 * units.fs)
        return setting.thermostats(rest, model, WATER.taut_fs)

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


def draw(
    spans: list[Window],
    run: dict[str, NDArray[np.float64]],
    md: dict[str, NDArray[np.float64]],
    shares: NDArray[np.float64],
) -> Figure:
    """Return g(r) at some temperatures, and what depends on temperature."""
    figure = Figure(figsize=(12.0, 5.6), layout="constrained")
    panels = figure.subplots(2, 4)
    chosen = np.linspace(0, len(spans) - 1, SHOWN).round().astype(int)
    for axes, k in zip(panels[0], chosen, strict=True):
        for found, color, label in ((md, REFERENCE, "MD"), (run, RUN, "forecasts")):
            r, g = found["distance"][0, k], found["g"][:, k]
            mean, error = g.mean(axis=0), g.std(axis=0, ddof=1) / np.sqrt(len(g))
            axes.fill_between(r, mean - error, mean + error, color=color, alpha=0.3)
            axes.plot(r, mean, color=color, lw=1.3, label=label)
        axes.set(xlim=(2.2, R_MAX), xlabel="distance (Å)", ylabel="g(r), O-O")
        axes.set_title(f"{spans[k].temperature_K:g} K", fontsize=9)
        finish(axes)
        axes.legend(**legend_style())
    kelvin = np.array([span.temperature_K for span in spans])
    for axes, name in zip(panels[1], ("minimum", "order", "diffusion"), strict=False):
        draw_points(axes, kelvin, run[name], md[name], CURVES[name])
    axes = panels[1, 3]
    axes.plot(kelvin, 1e2 * shares.mean(axis=0), "o-", ms=4, color=RUN)
    axes.set(xlabel="temperature (K)", ylabel="error of one stride (% of kT/m)")
    axes.set_ylim(bottom=0.0)
    axes.invert_xaxis()
    finish(axes)
    return figure


def draw_points(
    axes: Axes,
    kelvin: NDArray[np.float64],
    run: NDArray[np.float64],
    md: NDArray[np.float64],
    label: str,
) -> None:
    """Draw a curve of both, and a line where it departs."""
    for values, color, name in ((md, REFERENCE, "MD"), (run, RUN, "forecasts")):
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        axes.errorbar(
            kelvin,
            values.mean(axis=0),
            yerr=error,
            fmt="o-",
            ms=3,
            capsize=2,
            lw=1.0,
            color=color,
            label=name,
        )
    where = departure(kelvin, run, md)
    if where is not None:
        axes.axvline(where, color="#b3261e", lw=1.0, ls=":", label=f"from {where:g} K")
    axes.set(xlabel="temperature (K)", ylabel=label)
    axes.invert_xaxis()
    finish(axes)
    axes.legend(**legend_style())


def csv_rows(
    spans: list[Window],
    run: dict[str, NDArray[np.float64]],
    md: dict[str, NDArray[np.float64]],
    shares: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Return a row for each window, means and standard errors."""
    rows = []
    for k, span in enumerate(spans):
        row: dict[str, Any] = {"temperature_K": span.temperature_K}
        for name in CURVES:
            for label, found in (("run", run), ("md", md)):
                estimate = mean_of(found[name][:, k])
                row[f"{name}_{label}"] = estimate.mean
                row[f"{name}_{label}_error"] = estimate.error
        row["stride_error_share_of_kT"] = float(shares[:, k].mean())
        rows.append(row)
    return rows


def departures(
    spans: list[Window],
    run: dict[str, NDArray[np.float64]],
    md: dict[str, NDArray[np.float64]],
) -> str:
    """Return for each observable where forecasts depart from MD, as a table."""
    kelvin = np.array([span.temperature_K for span in spans])
    rows = []
    for name, label in CURVES.items():
        where = departure(kelvin, run[name], md[name])
        cells = [
            str(mean_of(found[name][:, k])) for k in (0, -1) for found in (run, md)
        ]
        place = "nowhere" if where is None else f"{where:g} K"
        rows.append([label, place, *cells])
    first, last = f"{kelvin[0]:g} K", f"{kelvin[-1]:g} K"
    header = ["observable", "departs at", f"{first}, forecasts", f"{first}, MD"]
    return table([*header, f"{last}, forecasts", f"{last}, MD"], rows)


def page(
    settings: dict[str, Any], departs: str, shares: NDArray[np.float64]
) -> list[str]:
    """Return the sections of the page."""
    hot, cold = 1e2 * shares.mean(axis=0)[[0, -1]]
    return [
        "# Glassy water",
        f"""64 molecules of SPC/Fw water, cooled from 300 to {settings["to_K"]:g} K at
{settings["rate"]:g} K/ps and constant volume: strides of `{settings["model"]}`, which
was trained at 300 K only, beside MD from the same configurations. Thermostat
{settings["thermostat"]}, {settings["replicas"]} replicas of {settings["ps"]:g} ps each.
Written by `benchmarks/glassy_water.py` on {describe_machine(settings["machine"])},
{settings["speed"]:.2g} ns/day in all.""",
        f"""Windows of {settings["width"]:g} K; error bars are standard errors over the
replicas. An observable departs at the first window in which Welch's test tells the
replicas of both apart, at a level that lets equal liquids depart anywhere in 5 % of the
cases. Diffusion is the slope of the mean square displacement between
{settings["lags"]} ps.""",
        departs,
        "![Cooling beside MD](glassy_water.png)",
        f"""The error of one stride from states of the MD run, as a share of the thermal
velocity variance, goes from {hot:.2g} % in the hottest to {cold:.2g} % in the coldest
window: an error that does not shrink with the temperature weighs more the colder the
liquid is, and the thermostat returns it to all motions alike.""",
    ]


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
    chosen = parse_setting(thermostat)
    spans = windows(TEMPERATURE_K, to, rate, window)
    lags = (window / rate / 10.0, window / rate / 5.0)
    reference = cool_md(rate, to, replicas, out / "md")
    network = load_model(model, device=device)
    length = (TEMPERATURE_K - to) / rate
    folder = out / f"{network.name}-{folder_name(chosen)}"
    settings = {
        "model": network.name,
        "rate": rate,
        "to_K": to,
        "replicas": replicas,
        "seed": seed,
        "thermostat": chosen.describe(network.horizon_fs, WATER.taut_fs),
    }
    plan = Plan(
        model=network,
        thermostats=cooling(chosen, network, to, rate),
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
