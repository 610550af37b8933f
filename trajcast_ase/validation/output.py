"""A report as files: JSON, a Markdown table, and one sheet of figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from trajcast_ase.analysis.plots import save_figure
from trajcast_ase.validation.difference import Verdict
from trajcast_ase.validation.report import Report, Row
from trajcast_ase.validation.row_text import cells
from trajcast_ase.validation.sheet import report_sheet

COLUMNS = ("observable", "run", "reference", "limit", "verdict", "fails at 80 %")


def write_report(report: Report, folder: str | Path) -> None:
    """Write ``report.json``, ``report.md``, ``report.png`` and ``report.pdf``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "passes": report.passes,
        "verdict": report.verdict,
        "trajectory": report.run.source,
        "reference": report.reference.source,
        "n_runs": report.run.n_runs,
        "length_ps": report.run.length_ps,
        "reference_n_runs": report.reference.n_runs,
        "reference_length_ps": report.reference.length_ps,
        "piece_ps": report.run.piece_fs * 1e-3,
        "stride_fs": report.run.conditions.stride_fs,
        "temperature_K": report.run.conditions.temperature_K,
        "odds": report.odds,
        "memory": report.memory,
        "baths": report.baths,
        "rows": [_finite({**asdict(row), "passes": row.passes}) for row in report.rows],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    figure = report_sheet(report)
    for suffix in ("png", "pdf"):
        save_figure(figure, folder / f"report.{suffix}")


def _finite(value: Any) -> Any:
    """Return nested values with null for what is infinite, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown(report: Report) -> str:
    """Return verdict, table, odds and memory as Markdown."""
    formula = report.run.conditions.formula
    lines = [
        f"**{report.verdict.capitalize()}.** {formula}, {report.size}.",
        "",
        "| observable | run | reference | limit | verdict | fails at 80 % |",
        "| --- | ---: | ---: | --- | --- | --- |",
    ]
    for row in report.rows:
        *texts, verdict, seen = cells(row)
        if row.verdict is Verdict.FAIL:
            verdict = f"**{verdict}**"
        lines.append(f"| {' | '.join((*texts, verdict, seen))} |")
    texts = [text for text in (report.odds, report.memory, report.baths) if text]
    return "\n".join([*lines, "", "\n\n".join(texts), ""])


def console_table(rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> Table:
    """Return rows as a table for a console, with the first `columns`."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        *texts, verdict, seen = cells(row)
        if row.verdict is Verdict.FAIL:
            verdict = "[bold red]FAIL[/]"
        table.add_row(*(*texts, verdict, seen)[: len(columns)])
    return table
