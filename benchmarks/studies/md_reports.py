"""Hold reference runs against the bundled observables of independent ones.

    python benchmarks/reference_md/run.py paracetamol nvt --seeds 21-23 --length 1000
    python benchmarks/studies/md_reports.py paracetamol runs/paracetamol/nvt-2[1-3].h5

    python benchmarks/reference_md/run.py paracetamol nvt --seeds 31-33 --length 1000 \
        --temperature 310 --out runs/hot
    python benchmarks/studies/md_reports.py paracetamol runs/hot/nvt-3[1-3].h5 --hot

The first writes ``docs/reports/paracetamol.md`` and its figure, and exits with 1 where
a row does not pass; the second prints the report of runs at another temperature, and
exits with 1 where none fails.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from study_reports import save_sheet

from trajcast_ase.validation.inputs import bundled_reference, observe_both, read_run
from trajcast_ase.validation.output import markdown
from trajcast_ase.validation.report import Report, compare


def main(
    system: Annotated[str, typer.Argument(help="paracetamol, quartz or water.")],
    trajectories: Annotated[list[Path], typer.Argument(help="NVT runs, other seeds.")],
    hot: Annotated[
        bool,
        typer.Option("--hot", help="Runs at another temperature, which must fail."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path(
        "docs/reports"
    ),
) -> None:
    """Write a page with the report of MD against MD."""
    runs = [read_run(path) for path in trajectories]
    if hot:
        # As if the thermostat were at fault: the judge must see it, not be told.
        runs = [replace(run, temperature_K=None) for run in runs]
    report = compare(*observe_both(runs, bundled_reference(system)))
    print(markdown(report))
    if hot:
        raise typer.Exit(0 if report.n_failed else 1)
    write_page(report, system, [path.name for path in trajectories], out)
    if not report.passes:
        raise typer.Exit(1)


def write_page(report: Report, system: str, names: list[str], out: Path) -> None:
    """Write the page of a system, and its figure beside it."""
    save_sheet(report, out / f"{system}.png")
    text = f"""# {system}: MD against MD

NVT at 300 K, independent seeds of `benchmarks/reference_md/run.py {system} nvt`:

```bash
trajcast validate {" ".join(names)} --reference {system}
```

{markdown(report)}
![Report]({system}.png)
"""
    (out / f"{system}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
