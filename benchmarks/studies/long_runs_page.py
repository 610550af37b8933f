"""The page of ``long_runs.py``: a row for each setting of the thermostat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study_pages import describe_machine, read_json, table
from study_reports import cell_of, element_rows, extreme_bands, passed
from study_systems import TEMPERATURE_K

from trajcast_ase.analysis.blocks import Estimate

SETTINGS = (
    "recommended",
    "csvr",
    "langevin:1+csvr",
    "langevin:2+csvr",
    "langevin:5+csvr",
    "langevin:10+csvr",
    "langevin:10+molecular",
    "molecular",
    "adaptive:2",
    "csvr+noise",
    "langevin:2+csvr+noise",
    "langevin:2+noise",
    "csvr:10",
    "csvr:50",
    "csvr:100",
)
SCAN = ("csvr:10", "csvr:50", "csvr:100")
"""Time constants of the paper's scan, in strides."""
WITHIN = 0.05
"""Of MD's diffusion coefficient."""
WITHIN_KT = 1.0
"""Of MD's free energy."""
TITLE = """# Long runs

The shipped models under many thermostats, all seeds of a setting in one report, beside
reference MD of independent seeds. Plain CSVR is what the paper used. Bands: the coldest
and the hottest of all atoms, as the difference from MD. Speeds are those of a machine
that did other work beside, up to a third of an idle one's. Written by
`benchmarks/studies/long_runs.py`."""
SCAN_TITLE = """### Mean and width of the temperature under CSVR

The paper's scan of the time constant, in strides. The canonical width is
T √(2 / degrees of freedom)."""


def special_text(content: dict[str, Any]) -> str:
    """Return diffusion or free energy beside MD, for a table."""
    if "diffusion" in content:
        ours, md = (Estimate(*content[key]) for key in ("diffusion", "diffusion_md"))
        share = ours.mean / md.mean - 1.0
        verdict = "within" if abs(share) <= WITHIN else "not within"
        return f"{ours} ({100 * share:+.0f} %, {verdict} 5 %)"
    if "free_energy_kT" in content:
        worst = content["free_energy_kT"]
        if worst is None:
            return f"unvisited at {content['free_energy_at_deg']:g}°"
        verdict = "within" if worst <= WITHIN_KT else "not within"
        return f"{worst:.2f} kT at {content['free_energy_at_deg']:g}° ({verdict} kT)"
    return "none"


def settings_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return one row for each setting."""
    lines = []
    for one in rows:
        elements = ", ".join(
            f"{row.removeprefix('temperature of ')} {cell_of(one, row)}"
            for row in element_rows(one)
        )
        failed = f", **{one['ended']}**" if one["ended"] else ""
        lines.append(
            [
                one["words"],
                f"{one['n_runs']} in {one['length_ps']:.4g}, {one['reference_ps']:.4g}",
                passed(one) + failed,
                cell_of(one, "temperature"),
                elements,
                extreme_bands(one),
                cell_of(one, "overlap of spectrum"),
                special_text(one),
                f"{one['ns_per_day']:.3g}",
            ]
        )
    header = ("thermostat", "runs in ps, MD", "rows passed", "T (K)", "of elements (K)")
    more = ("bands (K)", "spectrum overlap", "diffusion or free energy", "ns/day")
    return table((*header, *more), lines)


def scan_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return mean and width of the temperature for the time constants of CSVR."""
    lines = []
    for one in rows:
        if one["setting"] not in SCAN and one["setting"] != "csvr":
            continue
        width = TEMPERATURE_K * np.sqrt(2.0 / one["n_dof"])
        strides = one["setting"].removeprefix("csvr:").replace("csvr", "the paper's")
        cells = [cell_of(one, name) for name in ("temperature", "sd of temperature")]
        lines.append([strides, one["words"], *cells, f"{width:.1f}"])
    if len(lines) <= 1:  # the paper's alone is no scan
        return ""
    header = ("strides", "thermostat", "mean (K)", "width (K)", "canonical (K)")
    return f"{SCAN_TITLE}\n\n{table(header, lines)}"


def section(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the section of one system."""
    first = rows[0]
    files = ", ".join(first["key"]["reference"])
    length = f"{first['reference_ps']:.4g} ps"
    reference = [f"Reference of the first row: {length} ({files})"]
    if "diffusion_md" in first:
        reference.append(f"D of O {Estimate(*first['diffusion_md'])} 1e-9 m²/s")
    if "barrier_kT" in first:
        reference.append(f"hydroxyl barrier {first['barrier_kT'][1]:.2f} kT")
    models = ", ".join(sorted({f"`{row['model']}`" for row in rows}))
    text = f"""## {name}

Model {models}, {describe_machine(first["machine"])}. {"; ".join(reference)}. Lengths
are without equilibration; pieces of the first row: {first["piece_ps"]:.3g} ps.

{settings_table(rows)}

{scan_table(rows)}"""
    return text.strip()


def stored(path: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a system with new ones in place of old, in a fixed order."""
    old = read_json(path)["rows"] if path.exists() else []
    by_name = {row["setting"]: row for row in [*old, *rows]}
    known = [by_name[name] for name in SETTINGS if name in by_name]
    return known + [row for name, row in by_name.items() if name not in SETTINGS]
