"""Write a model that ``trajcast distill`` made as one that comes with the package.

    python benchmarks/own_systems/ship.py runs/own/ethanol/ethanol.trajcast \
        runs/ship/ethanol-gfn2.trajcast
    python benchmarks/studies/long_runs.py ethanol --settings recommended,csvr \
        --model runs/ship/ethanol-gfn2.trajcast
    python benchmarks/own_systems/ship.py runs/ship/ethanol-gfn2.trajcast \
        trajcast_ase/models/ethanol-gfn2.trajcast \
        --long-run runs/long/ethanol/recommended

Weights, configuration, and what the header says of training and errors stay. Added are
licence and citations, and what the recommended thermostat was held to: long runs beside
MD of ``reference.py``. The structure and observables that come with the package are
written by ``benchmarks/reference_md/observables.py`` from the same MD.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from trajcast_ase import load_model, save_model
from trajcast_ase.models.model_header import ModelCard, ModelHeader
from trajcast_ase.thermostats.setting import ThermostatSetting

LICENCE = "Apache-2.0"
CITATION = (
    "Thiemann et al., Nat. Mach. Intell. 8, 764 (2026), arXiv:2503.23794; data by "
    "GFN2-xTB: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019)"
)


def held_to(setting: ThermostatSetting, long_run: Path) -> ThermostatSetting:
    """Return a setting that says which long runs it was held to."""
    path = long_run / "summary.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    if run["words"] != str(setting):
        raise typer.BadParameter(
            f"{path} is of {run['words']}, the model recommends {setting}"
        )
    passed = f"{run['n_passed']} of {run['n_rows']} rows pass"
    words = f"{run['n_runs']} seeds, {run['length_ps']:.0f} ps in all: {passed}"
    return replace(setting, chosen_by=f"trajcast distill; trajcast validate, {words}")


def card(header: ModelHeader, setting: ThermostatSetting | None) -> ModelCard:
    """Return what the shipped file says beside its weights."""
    return ModelCard(
        training=header.training,
        errors=header.errors,
        licence=LICENCE,
        citation=CITATION,
        periodic=header.periodic,
        masses_amu=dict(zip(header.elements, header.masses_amu, strict=True)),
        thermostat=setting,
    )


def main(
    model: Annotated[Path, typer.Argument(help="Of distill, or of a training.")],
    out: Annotated[Path, typer.Argument(help="The file to be written.")],
    long_run: Annotated[
        Path | None, typer.Option(help="Folder of long_runs.py, recommended setting.")
    ] = None,
) -> None:
    """Write a model with licence, citation, and what it was held to."""
    network = load_model(model)
    if network.header is None or network.header.thermostat is None:
        raise typer.BadParameter(f"{model} recommends no thermostat")
    setting = network.header.thermostat
    if long_run is not None:
        setting = held_to(setting, long_run)
    out.parent.mkdir(parents=True, exist_ok=True)
    written = save_model(network, out, metadata=card(network.header, setting))
    print(f"{out}: {written.sha256}, {setting} ({setting.chosen_by})")


if __name__ == "__main__":
    typer.run(main)
