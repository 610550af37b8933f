"""Write the page of a system with the paper's figures for its model.

    trajcast evaluate water-5fs data/water/nve-5.h5 --out runs/errors/water
    python benchmarks/studies/long_runs.py water --settings recommended
    python benchmarks/studies/system_pages.py water --errors runs/errors/water

Errors and their growth, and for the long runs beside reference MD: the distribution of
the temperature, the vibrational spectrum, g(r) or the free energy, mean square
displacements. Writes ``docs/systems/SYSTEM.md`` and its figures; takes a minute or two.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from long_runs import RUNS, SHEET
from long_runs_page import special_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from model_card import growth_text, percent
from study_observables import (
    diffusion_of,
    hydroxyl_profile,
    pooled_msd,
)
from study_pages import (
    describe_machine,
    read_json,
    save_small,
    table,
    write_page,
)
from study_reports import passed
from study_runs import read_seeds
from study_systems import DATA, SUBJECTS, TEMPERATURE_K, Subject, subject_of

from trajcast_ase.analysis.free_energy import (
    PARACETAMOL_DIHEDRALS,
    PARACETAMOL_RELABELLINGS,
    dihedral,
    free_energy_surface,
)
from trajcast_ase.analysis.plots import draw_free_energy
from trajcast_ase.analysis.plots.style import (
    INK,
    REFERENCE,
    RUN,
    finish,
    legend_style,
)
from trajcast_ase.analysis.rdf import rdf
from trajcast_ase.analysis.temperature import canonical_density, temperature
from trajcast_ase.analysis.vdos import vdos
from trajcast_ase.kinetics import run_dof
from trajcast_ase.trajectory import Frames, read_frames

PANEL_INCHES = (4.2, 3.0)
INDEX = """# Systems

What the bundled model of each system does, with the figures of the paper: errors and
their growth, temperature, spectrum, structure, mobility or free energy, and the whole
report of long runs. Written by `benchmarks/studies/system_pages.py`."""
RDF_FRAMES = 400
"""Of each side."""
Sides = tuple[tuple[Sequence[Frames], str, str], ...]
"""Runs, color and label of reference and model."""


def sides_of(runs: Sequence[Frames], md: Sequence[Frames]) -> Sides:
    """Return both sides as they are drawn, reference first."""
    return ((md, REFERENCE, "MD"), (runs, RUN, "forecasts"))


def draw_temperature(axes: Axes, sides: Sides) -> None:
    """Draw the distribution of the temperature beside the canonical one."""
    first = sides[0][0][0]
    n_dof = run_dof(first)
    for runs, color, label in sides:
        kelvin = np.concatenate(
            [temperature(one.velocities, one.masses, n_dof) for one in runs]
        )
        found = f"{label}: {kelvin.mean():.1f} K, sd {kelvin.std():.1f} K"
        axes.hist(
            kelvin, bins=60, density=True, histtype="step", color=color, label=found
        )
    grid = np.linspace(*axes.get_xlim(), 300)
    density = canonical_density(grid, TEMPERATURE_K, n_dof)
    axes.plot(grid, density, color=INK, lw=1.0, ls=(0, (4, 3)), label="canonical")
    axes.set(xlabel="temperature (K)", ylabel="density (1/K)")
    axes.set_ylim(top=1.4 * density.max())  # room for the legend


def draw_spectrum(axes: Axes, sides: Sides) -> None:
    """Draw the vibrational density of states, mean of all runs of a side."""
    for runs, color, label in sides:
        spectra = [
            vdos(one.velocities, one.stride_fs, one.masses, one.atomic_numbers)
            for one in runs
        ]
        mean = 1e3 * np.mean([one.total for one in spectra], axis=0)
        axes.plot(spectra[0].frequency_cm, mean, color=color, lw=1.1, label=label)
    axes.set(xlabel="wavenumber (cm⁻¹)", ylabel="share of kinetic energy (‰ per cm⁻¹)")
    axes.set_xlim(left=0.0)


def draw_radial(axes: Axes, sides: Sides) -> None:
    """Draw g(r) of all pairs of elements."""
    for runs, color, label in sides:
        every = max(1, sum(one.n_frames for one in runs) // RDF_FRAMES)
        found = rdf(
            np.concatenate([one.positions[::every] for one in runs]),
            runs[0].atomic_numbers,
            cell=runs[0].cell,
            pbc=runs[0].pbc,
            n_blocks=2,
        )
        for k, (pair, g) in enumerate(found.g.items()):
            # One above the other; the peaks of bonds would hide all else.
            axes.plot(found.distance, np.minimum(g, 5.0) + 5.0 * k, color=color, lw=1.1)
            if color == RUN:
                axes.text(0.15, 5.0 * k + 1.2, pair, fontsize=8, color=INK)
        axes.plot([], [], color=color, label=label)
    axes.set(xlabel="distance (Å)", ylabel="g(r), cut at 5, shifted", xlim=(0.0, 6.0))


def draw_hydroxyl(axes: Axes, sides: Sides) -> None:
    """Draw the free energy over the hydroxyl torsion with its error band."""
    for runs, color, label in sides:
        one = hydroxyl_profile(runs)
        low, high = (
            one.free_energy_kT + sign * np.minimum(one.error_kT, 5.0)
            for sign in (-1, 1)
        )
        axes.fill_between(one.angle_deg, low, high, color=color, alpha=0.28, lw=0)
        axes.plot(one.angle_deg, one.free_energy_kT, color=color, lw=1.3, label=label)
    axes.set(xlabel="hydroxyl torsion (°)", ylabel="free energy (kT)")
    axes.set_xticks(np.arange(-180, 181, 90))


def draw_mobility(axes: Axes, sides: Sides, subject: Subject) -> None:
    """Draw mean square displacements by element."""
    for runs, color, label in sides:
        moved = pooled_msd(runs)
        for style, (name, values) in zip(
            ("-", "--"), moved.by_element.items(), strict=False
        ):
            text = f"{label}, {name}"
            if name == subject.diffusing:
                text += f", D {diffusion_of(moved, name).coefficient}"
            axes.plot(
                moved.lag_fs[1:] * 1e-3,
                values[1:],
                style,
                color=color,
                lw=1.2,
                label=text,
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="time (ps)",
        ylabel="mean square displacement (Å²)",
    )


def draw_surface(axes: Axes, runs: Sequence[Frames]) -> None:
    """Draw the free energy over both torsions of paracetamol."""
    angles = [
        np.concatenate([dihedral(one.positions, four) for one in runs])
        for four in PARACETAMOL_DIHEDRALS
    ]
    surface = free_energy_surface(
        *angles, TEMPERATURE_K, relabellings=PARACETAMOL_RELABELLINGS
    )
    draw_free_energy(axes, surface, ("hydroxyl", "ring-N"))


def draw_runs(subject: Subject, runs: Sequence[Frames], md: Sequence[Frames]) -> Figure:
    """Return the paper's figures of long runs beside MD."""
    sides = sides_of(runs, md)
    size = (2 * PANEL_INCHES[0], 2 * PANEL_INCHES[1])
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(2, 2)
    draw_temperature(panels[0, 0], sides)
    draw_spectrum(panels[0, 1], sides)
    drawn = [panels[0, 0], panels[0, 1], panels[1, 0]]
    if runs[0].pbc.any():
        draw_radial(panels[1, 0], sides)
        draw_mobility(panels[1, 1], sides, subject)
        drawn.append(panels[1, 1])
    else:
        draw_hydroxyl(panels[1, 0], sides)
        draw_surface(panels[1, 1], runs)
    for axes in drawn:
        finish(axes)
        axes.legend(**legend_style())
    return figure


def errors_table(evaluation: dict[str, Any]) -> str:
    """Return held-out errors, of all atoms and by element."""
    errors = evaluation["errors"]
    rows = {"all": (errors["displacement"], errors["velocity"])} | errors["by_element"]
    lines = [
        [name, *(text for one in both for text in (f"{one['mae']:.2e}", percent(one)))]
        for name, both in rows.items()
    ]
    header = ("atoms", "displacement (Å)", "(%)", "velocity (Å/fs)", "(%)")
    return table(header, lines)


def page(
    subject: Subject, evaluation: dict[str, Any], run: dict[str, Any]
) -> list[str]:
    """Return the sections of the page of a system."""
    name = subject.name
    growth = growth_text(evaluation) if evaluation["growth"] else ""
    special = special_text(run)
    by_model = ", which the model recommends" if run["setting"] == "recommended" else ""
    extra = "" if special == "none" else f" Diffusion or free energy: {special}."
    return [
        f"# {name.capitalize()}",
        f"""What the model `{run["model"]}` does on {name}, with the paper's figures.
**{passed(run)} rows of the report pass** with {run["words"]}{by_model}:
{run["n_runs"]} run(s), {run["length_ps"]:.4g} ps in all beside
{run["reference_ps"]:.4g} ps of MD.{extra} Written by
`benchmarks/studies/system_pages.py`;
{describe_machine(run["machine"])}, {run["ns_per_day"]:.3g} ns/day.""",
        f"""See also the [card of the model](../models/{run["model"]}.md), [other
thermostats](../studies/long_runs.md) and [MD against MD](../reports/{name}.md).""",
        "## Errors on held-out pairs",
        errors_table(evaluation),
        growth,
        f"![Forecast against MD, and the growth of errors]({name}-errors.png)",
        "## Long runs",
        f"![Temperature, spectrum, structure, mobility]({name}-runs.png)",
        run["markdown"],
        f"![Report]({name}-report.png)",
    ]


def write_index(folder: Path) -> None:
    """Write the index of the pages that there are."""
    names = [name for name in SUBJECTS if (folder / f"{name}.md").exists()]
    toctree = "\n".join(["```{toctree}", ":maxdepth: 1", "", *names, "```"])
    write_page(folder / "index.md", [INDEX, toctree] if names else [INDEX])


def main(
    system: Annotated[str, typer.Argument(help="paracetamol, quartz or water.")],
    errors: Annotated[Path, typer.Option(help="Folder of trajcast evaluate --out.")],
    run: Annotated[
        Path | None, typer.Option(help="Default: runs/long/SYSTEM/recommended.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nvt-*.h5.")] = DATA,
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path(
        "docs/systems"
    ),
) -> None:
    """Write the page of a system."""
    subject = subject_of(system)
    folder = run or RUNS / subject.name / "recommended"
    for path in (errors / "evaluation.json", folder / "summary.json"):
        if not path.exists():
            raise typer.BadParameter(
                f"there is no {path}; make it as the head of this script says"
            )
    content = read_json(folder / "summary.json")
    names = content["key"]["reference"]
    md = [read_frames(data / subject.name / name) for name in names]
    runs = read_seeds(folder, content["skipped_ps"])
    out.mkdir(parents=True, exist_ok=True)
    save_small(draw_runs(subject, runs, md), out / f"{subject.name}-runs.png")
    shutil.copy(errors / "evaluation.png", out / f"{subject.name}-errors.png")
    shutil.copy(folder / SHEET, out / f"{subject.name}-report.png")
    evaluation = read_json(errors / "evaluation.json")
    sections = [one for one in page(subject, evaluation, content) if one]
    write_page(out / f"{subject.name}.md", sections)
    write_index(out)
    print(out / f"{subject.name}.md")


if __name__ == "__main__":
    typer.run(main)
