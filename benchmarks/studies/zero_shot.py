"""Models of small cells on cells that they never saw, beside MD of that size.

    python benchmarks/studies/zero_shot.py quartz-1296 --picoseconds 60 --reference 120
    python benchmarks/studies/zero_shot.py quartz-4374 --picoseconds 30 --reference 60
    python benchmarks/studies/zero_shot.py quartz-1296 --model quartz-30fs-bulk
    python benchmarks/studies/zero_shot.py water-1536 --picoseconds 30 --reference 60

Makes the reference runs (``benchmarks/reference_md``), equilibrated starts of another
seed, and runs of the model, and holds them together as ``trajcast validate`` does.
Writes ``docs/studies/zero_shot.md``, a sheet of figures and a JSON file for each cell,
and to the folder of the runs what ``model_card.py`` reads.

Cost of these lengths on one idle core, MD and model: quartz-1296 0.4 + 0.1 h,
quartz-4374 0.9 + 0.1 h, water-1536 0.4 + 0.2 h; in proportion to the length. All of it
continues where it was interrupted, and ``--device cuda`` takes the model to a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from ase import Atoms
from long_runs import SHEET
from study_pages import (
    describe_machine,
    machine,
    read_json,
    table,
    write_json,
    write_page,
)
from study_reports import (
    bond_check,
    cell_of,
    element_rows,
    extreme_bands,
    passed,
    report_of,
    runs_of,
    save_sheet,
    summary,
)
from study_runs import Plan, extend, identity, one_thread, read_seeds, speed
from study_systems import (
    DATA,
    LARGER,
    STUDIES,
    TEMPERATURE_K,
    atoms_of,
    reference_nvt,
)
from study_thermostats import parse_choice

from trajcast_ase import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster
from trajcast_ase.streams import Purpose, random_stream
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.inputs import observe_runs

# isort: split
# After study_systems, which puts the folder of these modules on the path.
from system import System

START_SEED = 1001
"""Of the equilibrations from which forecasts start; the reference has seed 1."""

TITLE = """# Larger cells

Models on larger cells than their paper's, beside MD of that size with the same force
field: the report of `trajcast validate`. `quartz-30fs` and `water-5fs` have never seen
them; `quartz-30fs-bulk` has learnt from 162 and 1 296 atoms, and has never seen 4 374.
Forecasts start from configurations of an equilibration of their own, with momenta of
300 K. Written by `benchmarks/studies/zero_shot.py`."""


def equilibrated(
    system: System, model: Forecaster, seeds: int, folder: Path
) -> list[Atoms]:
    """Return equilibrated configurations of MD of other seeds, with new momenta."""
    starts = []
    for number in range(seeds):
        path = reference_nvt(
            system, START_SEED + number, system.stride * 1e-3, folder, system.stride
        )
        atoms = atoms_of(read_frames(path))
        rng = random_stream(START_SEED, number, Purpose.VELOCITIES)
        draw_momenta(atoms, TEMPERATURE_K, rng, model.conservation)
        starts.append(atoms)
    return starts


def overview(results: dict[str, dict[str, Any]]) -> str:
    """Return one row for each cell."""
    rows = []
    for name, one in results.items():
        elements = ", ".join(
            f"{row.removeprefix('temperature of ')} {cell_of(one, row)}"
            for row in element_rows(one)
        )
        cells = [
            f"`{one['model']}`",
            passed(one),
            cell_of(one, "temperature"),
            elements,
            extreme_bands(one),
            cell_of(one, "overlap of spectrum"),
            f"{one['ns_per_day']:.3g}",
        ]
        rows.append([name.removesuffix(f"-{one['model']}"), *cells])
    header = ("cell", "model", "rows passed", "T (K)", "of elements (K)")
    more = ("coldest, hottest band (K)", "spectrum overlap", "ns/day")
    return table((*header, *more), rows)


def sections(name: str, one: dict[str, Any]) -> str:
    """Return the report of one cell."""
    ended = f" **Ended early: {one['ended']}.**" if one["ended"] else ""
    cell = name.removesuffix(f"-{one['model']}")
    return f"""## {cell}, {one["model"]}

`{one["model"]}`, {one["setting"]}, {one["n_runs"]} run(s), {one["length_ps"]:.3g} ps in
all without equilibration, beside {one["reference_ps"]:.3g} ps of MD;
{describe_machine(one["machine"])}.{ended}

{one["markdown"]}

![Report](zero_shot-{name}.png)"""


def main(  # noqa: PLR0917  options of the command line
    cell: Annotated[str, typer.Argument(help=", ".join(LARGER))],
    picoseconds: Annotated[float, typer.Option(min=8.0, help="Of each run.")] = 30.0,
    reference: Annotated[float, typer.Option(min=8.0, help="Of MD, ps.")] = 60.0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of the model.")] = 1,
    skip: Annotated[float, typer.Option(help="Share that is equilibration.")] = 0.1,
    thermostat: Annotated[
        str, typer.Option(help="See study_thermostats.py: recommended, csvr, ...")
    ] = "recommended",
    model: Annotated[
        str | None, typer.Option(help="Bundled name or file. Default: the system's.")
    ] = None,
    thermalize: Annotated[
        float | None, typer.Option(help="MD before its frames count, ps.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    data: Annotated[Path, typer.Option(help="Folder of reference runs.")] = DATA,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path(
        "runs/zero_shot"
    ),
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Run a model on a larger cell and hold it against MD of that size."""
    if cell not in LARGER:
        raise typer.BadParameter(f"no cell {cell!r}; choose of {', '.join(LARGER)}")
    one_thread()
    subject, make = LARGER[cell]
    system = make()
    if thermalize is not None:
        system = replace(system, thermalize=thermalize)
    network = load_model(model or subject.model, device=device)
    choice = parse_choice(thermostat, network, subject.taut_fs)
    folder = data / system.name
    md = read_frames(reference_nvt(system, 1, reference, folder, network.horizon_fs))
    makers = choice.thermostats(TEMPERATURE_K)
    plan = Plan(
        model=network,
        thermostats=lambda _: makers,
        picoseconds=picoseconds,
        seed=1,
        settings=identity(network) | {"setting": choice.words, "seeds": seeds},
        noise=choice.noise,
        chunk_ps=5.0,
    )
    runs = out / f"{cell}-{network.name}-{choice.folder}"
    wanted = observe_runs(runs_of([md]))
    starts = equilibrated(system, network, seeds, folder)
    ended = extend(runs, starts, plan, bond_check(wanted))
    report = report_of(read_seeds(runs, skip * picoseconds), [md])
    content = summary(report) | {
        "model": network.name,
        "setting": choice.words,
        "ended": ended,
        "ns_per_day": speed(runs),
        "machine": machine(device),
    }
    own = network.name == subject.model
    name = cell if own else f"{cell}-{network.name}"
    write_json(docs / f"zero_shot-{name}.json", content)
    save_sheet(report, docs / f"zero_shot-{name}.png")
    write_json(runs / "summary.json", content | {"words": choice.words})
    save_sheet(report, runs / SHEET)
    results = {
        file.stem.removeprefix("zero_shot-"): read_json(file)
        for file in sorted(docs.glob("zero_shot-*.json"))
    }
    pages = [sections(name, one) for name, one in results.items()]
    write_page(docs / "zero_shot.md", [TITLE, overview(results), *pages])
    print(content["verdict"], docs / "zero_shot.md")


if __name__ == "__main__":
    typer.run(main)
