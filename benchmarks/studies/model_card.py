"""Write a model's card from its file, its errors on held-out pairs and long runs.

    trajcast evaluate quartz-30fs runs/quartz/nve-6.h5 \
        --twin runs/quartz/nve-6-twin.h5 --out runs/errors
    python benchmarks/studies/long_runs.py quartz --settings recommended,csvr
    python benchmarks/studies/model_card.py quartz-30fs --errors runs/errors \
        --run runs/long/quartz/recommended --plain runs/long/quartz/csvr

Writes ``docs/models/NAME.md`` and its figures beside it. Every number of the card comes
from these files.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from long_runs import SHEET
from study_pages import read_json

from trajcast_ase import load_model
from trajcast_ase.models.model_header import ModelHeader

# Thiemann et al., arXiv:2503.23794, Table S1: displacement and velocity, per cent.
PUBLISHED = {
    "paracetamol-7fs": (0.38, 0.68),
    "quartz-30fs": (2.52, 3.96),
    "water-5fs": (0.17, 0.37),
}


@dataclass(frozen=True)
class System:
    """What a card says of the system that a model was trained on."""

    name: str
    limits: str
    errors: str = ""
    """What is behind the errors on held-out pairs."""


SYSTEMS = {
    "paracetamol-7fs": System(
        "one isolated molecule of paracetamol",
        "One isolated molecule near 300 K, with the force field it was trained on "
        "(OPLS-AA): no dimers, no crystal",
        "In six of these eight runs, as in nine tenths of the training data, the ring "
        "stands as in the start geometry: 0.38 / 0.57 %. In two it is turned over: "
        "0.53 / 0.76 %, most of it of two hydrogens. The improper torsions of this "
        "force field give the ring's equivalent atoms roles by their numbers, so that "
        "it changes by 1 meV (3 at most) where they are exchanged, and no network that "
        "knows elements and places can see that "
        "([more](../training.md#what-limits-the-three-systems)).",
    ),
    "quartz-30fs": System(
        "alpha-quartz, 162 atoms in a periodic cell",
        "Alpha-quartz near 300 K at the density it was trained on, with the force "
        "field it was trained on (BKS): no beta-quartz, no surfaces, no glass, no "
        "diffusion",
    ),
    "quartz-30fs-bulk": System(
        "alpha-quartz, 162 and 1 296 atoms in periodic cells",
        "Alpha-quartz in cells of 1 296 atoms or more, near 300 K at the density it "
        "was trained on, with the force field it was trained on (BKS): no beta-quartz, "
        "no surfaces, no glass, no diffusion; in 162 atoms `quartz-30fs` passes more",
    ),
    "water-5fs": System(
        "liquid water, 64 molecules in a periodic cell",
        "Liquid water near 300 K at the density it was trained on, with the force "
        "field it was trained on (SPC/Fw): no ions, no vapour, no surfaces, no ice, "
        "no reactions",
    ),
    "ethanol-gfn2": System(
        "one isolated molecule of ethanol",
        "One isolated molecule near 300 K, with the method it was trained on "
        "(GFN2-xTB): no dimers, no liquid, no reactions; its methyl group turns half "
        "as often as in MD ([turns](../studies/ethanol_torsions.md))",
    ),
}


def percent(error: dict[str, float]) -> str:
    """Return the relative error in per cent."""
    return f"{100 * error['relative_mae']:.2f}"


def about(header: ModelHeader, n_parameters: int) -> str:
    """Return what the model is and how it was made."""
    config, training = header.config, header.training
    optimizer, stretches = training["optimizer"], history(training)
    kelvin = training["run_temperatures_K"]
    hours = sum(one["hours"] for one in stretches)
    farthest = config.get("surroundings_cutoff")
    reach = f", surroundings to {farthest:g} Å" if farthest else ""
    return f"""## What it is

- **Forecast horizon** {header.horizon_fs:g} fs.
- **Cutoff** {header.cutoff_A:g} Å{reach}.
- **Elements** {", ".join(header.elements)}; {SYSTEMS[header.name].name}.
- **Network** {config["n_channels"]} channels, {config["n_layers"]} layers, lmax
  {config["lmax"]}, {n_parameters / 1e6:.2f} million parameters, velocity encoding
  "{config["velocity_encoding"]}".
- **Data** {training["data"]}. {training["pairs"]} pairs from {training["runs"]} runs,
  of {min(kelvin):.0f} to {max(kelvin):.0f} K mean temperature.
- **Training** {", then ".join(stretch(one) for one in stretches)};
  pairs reversed in time with probability {optimizer["reversal_probability"]:g},
  {training["dtype"]}: **{hours:.2f} hours on one core** of a shared two-core AMD EPYC
  (Zen 4) virtual machine.
- **Thermostat** that it recommends: {described_thermostat(header)}.
- **Licence** {header.licence}. SHA-256 of the weights `{header.sha256}`.
"""


def history(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the trainings that led to a model, the first one first."""
    earlier = training.get("started_from")
    return [*(history(earlier) if earlier else []), training]


def stretch(training: dict[str, Any]) -> str:
    """Return one training in words."""
    optimizer = training["optimizer"]
    return (
        f"{training['steps']} steps of {training['batch_size']} pair(s) with "
        f"{optimizer['optimizer']}, learning rate {optimizer['learning_rate']:g}, "
        f"{optimizer['schedule']} schedule"
    )


def described_thermostat(header: ModelHeader) -> str:
    """Return the setting of the model file, and what chose it."""
    setting = header.thermostat
    if setting is None:
        return "none"
    return f"{setting} ({setting.chosen_by})" if setting.chosen_by else f"{setting}"


def errors_section(evaluation: dict[str, Any], name: str) -> str:
    """Return the table of held-out errors."""
    errors = evaluation["errors"]
    rows = {"all": (errors["displacement"], errors["velocity"])} | errors["by_element"]
    table = "\n".join(
        f"| {row} | {moved['mae'] * 1e5:.1f}e-5 Å | {percent(moved)} % "
        f"| {changed['mae'] * 1e5:.2f}e-5 Å/fs | {percent(changed)} % |"
        for row, (moved, changed) in rows.items()
    )
    if name in PUBLISHED:
        moved, changed = PUBLISHED[name]
        table += f"\n| published (Table S1), all | | {moved} % | | {changed} % |"
    n_runs = len(evaluation["trajectories"])
    told = SYSTEMS[name].errors
    remark = f"\n{told}\n" if told else ""
    runs = "an NVE run of another seed" if n_runs == 1 else "NVE runs of other seeds"
    return f"""## Errors on held-out pairs

{errors["n_pairs"]} pairs from {runs}. Per cent of the mean absolute value of the
target, as in Table S1 of the paper.

| | displacement MAE | | velocity MAE | |
| --- | ---: | ---: | ---: | ---: |
{table}
{remark}
{growth_text(evaluation)}

![Forecast against MD, and the growth of errors]({name}-errors.png)
"""


def growth_text(evaluation: dict[str, Any]) -> str:
    """Return how the error grows over strides in a row."""
    growth, twins = evaluation["growth"], evaluation["divergence_of_twins"]
    n_strides, last = len(growth["time_fs"]), growth["time_fs"][-1]
    moved, starts = growth["displacement_A"], growth["n_starts"]
    text = f"""Over {n_strides} strides in a row, {last:g} fs, from {starts} starts, the
mean absolute error grows from {moved[0]:.1e} to {moved[-1]:.1e} Å."""
    if twins is None:
        return text
    apart = twins["displacement_A"][twins["time_fs"].index(last)]
    return f"""{text} Two MD runs that
start 1e-6 Å apart lie {apart:.1e} Å apart by then: what grows is the error of the
forecasts, not chaos."""


def run_section(folder: Path, name: str, suffix: str, title: str) -> str:
    """Return what a long run of ``long_runs.py`` showed, with its report."""
    run = read_json(folder / "summary.json")
    outcome = f"**Ended early: {run['ended']}.**" if run["ended"] else "No bond broke."
    return f"""## {title}

{run["words"]}; {run["n_runs"]} run(s), {run["length_ps"]:.4g} ps in all without
equilibration. {outcome}

{run["markdown"]}

![Report]({name}-{suffix}.png)
"""


def limits_section(name: str) -> str:
    """Return where the model ends."""
    return f"""## Limits

{SYSTEMS[name].limits}, no other temperature, no other isotopes. Long runs need a
thermostat. See [Limits](../limits.md), and [Performance](../performance.md) for speeds.
"""


def main(
    model: Annotated[str, typer.Argument(help="Bundled name, or a .trajcast file.")],
    errors: Annotated[Path, typer.Option(help="Folder of trajcast evaluate --out.")],
    run: Annotated[Path, typer.Option(help="Of long_runs.py, recommended setting.")],
    plain: Annotated[Path, typer.Option(help="The same with CSVR alone.")],
    out: Annotated[Path, typer.Option(help="Folder of the cards.")] = Path(
        "docs/models"
    ),
) -> None:
    """Write the card of a model."""
    network = load_model(model)
    if network.header is None:
        raise typer.BadParameter(f"{model} has no header")
    name = network.name
    evaluation = json.loads((errors / "evaluation.json").read_text(encoding="utf-8"))
    shutil.copy(errors / "evaluation.png", out / f"{name}-errors.png")
    shutil.copy(run / SHEET, out / f"{name}-run.png")
    shutil.copy(plain / SHEET, out / f"{name}-csvr.png")
    sections = (
        f"# {name}\n\nWritten by `benchmarks/studies/model_card.py`.\n",
        about(network.header, network.n_parameters),
        errors_section(evaluation, name),
        run_section(run, name, "run", "Long runs with the recommended thermostat"),
        run_section(plain, name, "csvr", "Long runs with the paper's thermostat"),
        limits_section(name),
    )
    path = out / f"{name}.md"
    path.write_text("\n".join(sections), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    typer.run(main)
