"""Write a model's card from its file, its errors on held-out pairs and a rollout.

    python benchmarks/rollout.py --out runs/rollout
    python benchmarks/model_card.py paracetamol-7fs data/paracetamol/nve-2.h5 \
        data/paracetamol/nve-3.h5 --rollout runs/rollout

Writes ``docs/models/NAME.md`` and its figure beside it. Every number of the card comes
from here.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from trajcast_ase import load_model
from trajcast_ase.model_header import ModelHeader
from trajcast_ase.training.data import load_pairs
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import ForecastErrors, TargetError, evaluate
from trajcast_ase.training.pairs import thin

# Thiemann et al., arXiv:2503.23794, Table S1: displacement and velocity, per cent.
PUBLISHED = {"paracetamol-7fs": (0.38, 0.68)}
HELD_OUT_PAIRS = 1000


def percent(error: TargetError) -> str:
    """Return the relative error in per cent."""
    return f"{100 * error.relative_mae:.2f}"


def about(header: ModelHeader, n_parameters: int) -> str:
    """Return what the model is and how it was made."""
    config, training = header.config, header.training
    optimizer = training["optimizer"]
    kelvin = training["run_temperatures_K"]
    return f"""## What it is

- **Forecast horizon** {header.horizon_fs:g} fs, **cutoff** {header.cutoff_A:g} Å.
- **Elements** {", ".join(header.elements)}; one isolated molecule of paracetamol.
- **Network** {config["n_channels"]} channels, {config["n_layers"]} layers, lmax
  {config["lmax"]}, {n_parameters / 1e6:.2f} million parameters, velocity encoding
  "{config["velocity_encoding"]}".
- **Data** {training["data"]}. {training["pairs"]} pairs from {training["runs"]} runs,
  of {min(kelvin):.0f} to {max(kelvin):.0f} K mean temperature.
- **Training** {training["steps"]} steps of {training["batch_size"]} pairs,
  {optimizer["optimizer"]}, learning rate {optimizer["learning_rate"]:g},
  {optimizer["schedule"]} schedule, pairs reversed in time with probability
  {optimizer["reversal_probability"]:g}, {training["dtype"]}:
  **{training["hours"]:.2f} hours on one core** of a shared two-core AMD EPYC (Zen 4)
  virtual machine.
- **Licence** {header.licence}. SHA-256 of the weights `{header.sha256}`.
"""


def errors_section(errors: ForecastErrors, name: str) -> str:
    """Return the table of held-out errors."""
    rows = {"all": (errors.displacement, errors.velocity)} | errors.by_element
    table = "\n".join(
        f"| {row} | {moved.mae * 1e5:.1f}e-5 Å | {percent(moved)} % "
        f"| {changed.mae * 1e5:.2f}e-5 Å/fs | {percent(changed)} % |"
        for row, (moved, changed) in rows.items()
    )
    if name in PUBLISHED:
        moved, changed = PUBLISHED[name]
        table += f"\n| published (Table S1), all | | {moved} % | | {changed} % |"
    return f"""## Errors on held-out pairs

{errors.n_pairs} pairs from NVE runs of other seeds. Per cent of the mean absolute value
of the target, as in Table S1 of the paper.

| | displacement MAE | | velocity MAE | |
| --- | ---: | ---: | ---: | ---: |
{table}
"""


def with_error(value: dict[str, float]) -> str:
    """Return a mean with its error bar."""
    return f"{value['mean']:.1f} ± {value['error']:.1f}"


def rollout_table(rollout: dict[str, Any]) -> str:
    """Return the rows of the long run beside reference MD."""
    reference = rollout["reference_element_temperatures_K"]
    longest = rollout["reference_longest_bonds_A"]
    pieces = rollout["spectrum_overlap_of_reference_pieces"]
    rows = [
        (
            f"temperature ({rollout['n_dof']} degrees of freedom), K",
            with_error(rollout["temperature_K"]),
            with_error(rollout["reference_temperature_K"]),
        ),
        (
            "its sd over the canonical one",
            f"{rollout['temperature_sd_over_canonical']:.3f}",
            "1",
        ),
    ]
    rows += [
        (f"temperature of {name}, K", with_error(value), with_error(reference[name]))
        for name, value in rollout["element_temperatures_K"].items()
    ]
    rows += [
        (f"longest {kind} bond, Å", f"{length:.2f}", f"{longest[kind]:.2f}")
        for kind, length in rollout["longest_bonds_A"].items()
    ]
    rows.append(
        (
            f"overlap with the reference's spectrum ({pieces['piece_ps']:g} ps pieces)",
            f"{rollout['spectrum_overlap']:.3f}",
            f"{pieces['mean']:.3f} ± {pieces['sd']:.3f}",
        )
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def rollout_section(rollout: dict[str, Any]) -> str:
    """Return what the long run showed."""
    machine = rollout["machine"]
    return f"""## A long run beside reference MD

{rollout["length_ps"] / 1000:.2f} ns NVT at 300 K, CSVR with a time constant of
{rollout["taut_fs"]:g} fs, seed {rollout["seed"]}; the first tenth is left out of the
averages. In an isolated molecule without total momenta the elements do not share one
temperature, so reference MD is the measure, not 300 K.

| | this model | reference MD |
| --- | ---: | ---: |
{rollout_table(rollout)}

{"No bond broke." if rollout["intact"] else "**A bond broke.**"} Speed, with every frame
kept: {rollout["ns_per_day"]:.0f} ns/day on {machine["threads"]} thread(s) of a shared
two-core {machine["processor"].strip()} virtual machine.
"""


LIMITS = """## Limits

One isolated molecule near 300 K, with the force field it was trained on (OPLS-AA): no
dimers, no crystal, no other temperature, no other isotopes. Long runs need a
thermostat. See [Limits](../limits.md).
"""


def main(
    model: Annotated[str, typer.Argument(help="Bundled name, or a .trajcast file.")],
    pairs: Annotated[list[str], typer.Argument(help="Held-out trajectories.")],
    rollout: Annotated[Path, typer.Option(help="Folder of benchmarks/rollout.py.")],
    out: Annotated[Path, typer.Option(help="Folder of the cards.")] = Path(
        "docs/models"
    ),
) -> None:
    """Write the card of a model."""
    network = load_model(model)
    if network.header is None:
        raise typer.BadParameter(f"{model} has no header")
    parts = thin(load_pairs(tuple(pairs), network.horizon_fs), HELD_OUT_PAIRS)
    errors = evaluate(network, PairDataset(parts))
    numbers = json.loads((rollout / "rollout.json").read_text(encoding="utf-8"))
    figure = f"{network.name}.png"
    shutil.copy(rollout / "rollout.png", out / figure)
    sections = (
        f"# {network.name}\n\nWritten by `benchmarks/model_card.py`.\n",
        about(network.header, network.n_parameters),
        errors_section(errors, network.name),
        rollout_section(numbers),
        f"![Temperature and spectrum of the run]({figure})\n",
        LIMITS,
    )
    path = out / f"{network.name}.md"
    path.write_text("\n".join(sections), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    typer.run(main)
