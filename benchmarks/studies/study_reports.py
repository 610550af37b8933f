"""Reports of runs of several seeds, and the numbers that tables take from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study_pages import save_small
from study_systems import TEMPERATURE_K

from trajcast_ase.analysis.bonds import longest_bonds
from trajcast_ase.trajectory import Frames
from trajcast_ase.validation.inputs import Run, observe_both
from trajcast_ase.validation.observables import Observables
from trajcast_ase.validation.output import markdown
from trajcast_ase.validation.report import Report, Row, compare
from trajcast_ase.validation.sheet import report_sheet
from trajcast_ase.validation.topology import BREAKING


def runs_of(frames: Sequence[Frames]) -> list[Run]:
    """Return runs of 300 K."""
    return [Run(one, TEMPERATURE_K) for one in frames]


def report_of(
    seeds: Sequence[Frames],
    reference: Sequence[Frames] | Observables,
    piece_ps: float | None = None,
) -> Report:
    """Return the report of ``trajcast validate`` on all seeds together.

    Parameters
    ----------
    seeds : sequence of Frames
        Equilibrated.
    reference : sequence of Frames, or Observables
    piece_ps : float, ps, optional
    """
    wanted = reference if isinstance(reference, Observables) else runs_of(reference)
    return compare(*observe_both(runs_of(seeds), wanted, piece_ps))


def bond_check(reference: Observables) -> Any:
    """Return a check of chunks: the reason to stop where a bond has broken."""
    limits = {
        kind: BREAKING * length for kind, length in reference.longest_bonds_A.items()
    }

    def check(frames: Frames) -> str:
        longest = longest_bonds(
            frames.positions,
            reference.topology.pairs,
            frames.atomic_numbers,
            cell=frames.cell,
            pbc=frames.pbc,
        )
        for kind, length in longest.items():
            if length > limits[kind]:
                return f"{kind} of {length:.2f} Å, limit {limits[kind]:.2f} Å"
        return ""

    return check


def summary(report: Report) -> dict[str, Any]:
    """Return what tables take from a report, as plain values."""
    bands = [row for row in report.rows if is_band(row.observable)]
    return {
        "verdict": report.verdict,
        "n_rows": len(report.rows),
        "n_passed": sum(row.passes for row in report.rows),
        "n_failed": report.n_failed,
        "length_ps": report.run.length_ps,
        "n_runs": report.run.n_runs,
        "reference_ps": report.reference.length_ps,
        "piece_ps": report.run.piece_fs * 1e-3,
        "n_dof": report.run.n_dof,
        "rows": {row.observable: row_values(row) for row in report.rows},
        "bands": [row.observable for row in bands],
        "markdown": markdown(report),
    }


def row_values(row: Row) -> dict[str, Any]:
    """Return value, error, reference and verdict of a row."""
    return {
        "value": row.value,
        "error": row.error,
        "reference": row.reference,
        "reference_error": row.reference_error,
        "verdict": str(row.verdict),
    }


def is_band(observable: str) -> bool:
    """Return whether a row is the temperature of a band."""
    return observable.startswith("temperature") and observable.endswith("cm⁻¹")


def passed(content: dict[str, Any]) -> str:
    """Return rows passed of all, and how many fail for sure."""
    text = f"{content['n_passed']} of {content['n_rows']}"
    doubtful = content["n_rows"] - content["n_passed"] - content["n_failed"]
    return f"{text} ({doubtful} doubtful)" if doubtful else text


def element_rows(content: dict[str, Any]) -> list[str]:
    """Return the rows of the temperatures of elements."""
    return [
        name
        for name in content["rows"]
        if name.startswith("temperature of ") and not is_band(name)
    ]


def cell_of(content: dict[str, Any], name: str) -> str:
    """Return value and error of a row, for a table."""
    row = content["rows"][name]
    if not row["error"]:
        return f"{row['value']:.3f}"
    return f"{row['value']:.1f} ± {row['error']:.1f}"


def extreme_bands(content: dict[str, Any]) -> str:
    """Return the coldest and the hottest band of all atoms, relative to MD, in K."""
    shifts = {
        name: content["rows"][name]["value"] - content["rows"][name]["reference"]
        for name in content["bands"]
        if " of " not in name
    }
    if not shifts:
        return "none"
    named = (min(shifts, key=lambda n: shifts[n]), max(shifts, key=lambda n: shifts[n]))
    return ", ".join(
        f"{shifts[name]:+.0f} ({name.removeprefix('temperature at ')})"
        for name in named
    )


def save_sheet(report: Report, path: Path) -> None:
    """Write the sheet of figures of a report, small."""
    save_small(report_sheet(report), path)
