"""Hold a reference run against the bundled observables of an independent one.

    python benchmarks/reference_md/run.py quartz nvt --seeds 2 --length 120
    python benchmarks/md_reports.py quartz runs/quartz/nvt-2.h5

Writes ``docs/reports/quartz.md`` and its figure. Exits with 1 where a row fails.
"""

from pathlib import Path
from typing import Annotated

import typer
from study_reports import save_sheet

from trajcast_ase.validation.inputs import bundled_reference, observe_both, read_run
from trajcast_ase.validation.output import markdown
from trajcast_ase.validation.report import compare


def main(
    system: Annotated[str, typer.Argument(help="paracetamol, quartz or water.")],
    trajectory: Annotated[Path, typer.Argument(help="An NVT run of another seed.")],
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path(
        "docs/reports"
    ),
) -> None:
    """Write a page with the report of MD against MD."""
    report = compare(*observe_both(read_run(trajectory), bundled_reference(system)))
    save_sheet(report, out / f"{system}.png")
    text = f"""# {system}: MD against MD

NVT at 300 K, two seeds of `benchmarks/reference_md/run.py {system} nvt`:

```bash
trajcast validate {trajectory.name} --reference {system}
```

{markdown(report)}
![Report]({system}.png)
"""
    (out / f"{system}.md").write_text(text, encoding="utf-8")
    print(markdown(report))
    if not report.passes:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
