"""The model card: what was done, what it cost, and when it pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trajcast_ase.box import Box
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.report_stage import Speeds, report_folder
from trajcast_ase.distill.request import Request, shown_range
from trajcast_ase.distill.rollouts import starts
from trajcast_ase.distill.state import STAGES, StateFile
from trajcast_ase.distill.words import figures, shown
from trajcast_ase.files import write_atomically

CARD_NAME = "README.md"
TITLES = {
    "reference": "Reference MD",
    "choice": "Choice",
    "training": "Training",
    "bath": "Bath",
    "report": "Report",
}


def write_card(request: Request, facts: Facts, state: StateFile, model: str) -> Path:
    """Write the card of a finished distillation and return its path."""
    result = state.stages["report"]["result"]
    speeds = Speeds(result["model_ns_per_day"], result["calculator_ns_per_day"])
    calculator, kelvins = request.calculator, shown_range(facts.temperatures_K)
    source = "given trajectories" if calculator is None else calculator.name
    lines = [
        f"# {Path(model).stem}",
        "",
        f"Distilled from {source} at {kelvins} K by `trajcast distill`.",
        f"**{_sentence(result['verdict'])}**{_links(facts, result)}.",
        f"The report: {result['sharpness']}." if result["sharpness"] else "",
        "",
        "```console",
        (
            f"$ trajcast run start.xyz --model {model} "
            f"--temperature {facts.middle:g} --steps 10000"
        ),
        "```",
        "",
        "## What was decided",
        "",
        *(f"- **{TITLES[name]}**: {state.stages[name]['line']}." for name in STAGES),
        "",
        *_held_out(request.fixed.langevin_fs, facts),
        *_advice(result),
        *_larger_cells(request, facts, state),
        "## What it cost",
        "",
        "| stage | wall time |",
        "| --- | ---: |",
        *(f"| {name} | {shown(state.seconds.get(name, 0.0))} |" for name in STAGES),
        f"| all | {shown(sum(state.seconds.values()))} |",
        "",
        "## Will it pay?",
        "",
        _pays(speeds, sum(state.seconds.values())),
        "",
    ]
    if not facts.has_thermostat:
        lines += [
            (
                "The reference runs have constant energy, so that the spread of the "
                "temperature is not judged."
            ),
            "",
        ]
    path = request.out / CARD_NAME
    write_atomically(path, "\n".join(lines).encode())
    return path


def _sentence(text: str) -> str:
    """Return a text with a capital at its beginning, and nothing else changed."""
    return text[:1].upper() + text[1:]


def _links(facts: Facts, result: dict[str, Any]) -> str:
    """Return links to the reports, which there are where all runs have lasted."""
    if not result["rows"]:
        return ""
    if len(facts.temperatures_K) == 1:
        return " ([report](report.md))"
    links = (
        f"[{kelvin:g} K]({report_folder(facts, kelvin)}/report.md)"
        for kelvin in facts.temperatures_K
    )
    return f" ({', '.join(links)})"


def _held_out(langevin_fs: float | None, facts: Facts) -> list[str]:
    """Return what the report's reference was used for beside the report."""
    if langevin_fs is not None or not facts.shares_reference:
        return ["The report's reference MD was used for nothing else.", ""]
    return [
        (
            "The bath was chosen beside the reference runs of the report: "
            "its count of rows leans high. Longer runs with the calculator and "
            "`trajcast validate` are the independent test."
        ),
        "",
    ]


def _advice(result: dict[str, Any]) -> list[str]:
    if result["passes"]:
        return []
    lines = ["## What to try", ""]
    if result["failing"]:
        lines += [f"Rows that do not pass: {', '.join(result['failing'])}.", ""]
    return [*lines, *(f"- {_sentence(one)}." for one in result["try"]), ""]


def _larger_cells(request: Request, facts: Facts, state: StateFile) -> list[str]:
    """Return what the report says nothing about: waves longer than a periodic cell."""
    atoms = request.atoms
    if atoms is None:
        (atoms,) = starts(facts, request.out, 1)
    box = Box.of(atoms.cell.array, atoms.pbc)
    if not box.is_periodic:
        return []
    choice = Candidate.from_plain(state.stages["choice"]["result"])
    return [
        "## In larger cells",
        "",
        (
            f"Data and report are of {len(atoms)} atoms in a cell that is "
            f"{2.0 * box.half_height:.3g} Å wide at the narrowest, and a stride sees "
            f"{choice.n_layers * choice.cutoff_A:.3g} Å to every side. A larger cell "
            "has longer waves, which the model has never met and may heat or cool: "
            "distill the cell that you will run, or hold a run against MD of that "
            "size with `trajcast validate`."
        ),
        "",
    ]


def _pays(speeds: Speeds, spent_s: float) -> str:
    text = f"One run on one core: {figures(speeds.model)} ns/day"
    if speeds.calculator is None:
        return f"{text}. The speed of the MD that made the trajectories is not known."
    text += f" with the model, {figures(speeds.calculator)} ns/day with the calculator"
    after = speeds.breaks_even(spent_s)
    if after is None:
        return f"{text}: the model is not faster, and never pays."
    return (
        f"{text}, both measured at the end, one after the other. The {shown(spent_s)} "
        f"spent are paid for after {after:.3g} ns."
    )
