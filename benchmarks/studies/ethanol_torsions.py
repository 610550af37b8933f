"""How often ethanol turns about its bonds, in MD and in runs of the shipped model.

    python benchmarks/own_systems/reference.py ethanol --seed 11 --out data/ethanol
    python benchmarks/studies/long_runs.py ethanol --settings recommended,csvr
    python benchmarks/studies/ethanol_torsions.py recommended,csvr

Rare motions are what little data teaches least, and no row of a report counts them.
Counts changes of the hydroxyl and the methyl group between their three wells, a change
being one from within 30 degrees of a well to within 30 degrees of another. Takes
seconds. Writes ``docs/studies/ethanol_torsions.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import Float
from long_runs import RUNS
from study_pages import read_json, table, write_page
from study_runs import read_seeds
from study_systems import DATA, STUDIES

from trajcast_ase.analysis.blocks import Estimate
from trajcast_ase.analysis.free_energy import dihedral
from trajcast_ase.trajectory import Frames, read_frames

HYDROXYL, METHYL = (0, 1, 2, 3), (6, 0, 1, 2)
"""Of the bundled structure: C-C-O-H and H-C-C-O."""
WELLS = 3
CORE_DEG = 30.0
TRANS = 1
"""Number of the well around 180 degrees."""
TITLE = """# Turns of ethanol

How often its hydroxyl and its methyl group change between their three wells, and for
which part of the time the hydroxyl is *trans* (opposite to the methyl group), in MD
with GFN2-xTB and in runs of `ethanol-gfn2`. Mean of the runs and its standard error. No
row of a report counts such rare motions, and they are what little data teaches least.
Written by `benchmarks/studies/ethanol_torsions.py`."""


def wells(degrees: Float[np.ndarray, " frames"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the well of each frame, and whether it is in its core."""
    width = 360.0 / WELLS
    angle = np.mod(degrees, 360.0)
    number = np.floor_divide(angle, width).astype(int)
    return number, np.abs(angle - (number + 0.5) * width) < CORE_DEG


def turns_per_100ps(frames: Frames, atoms: tuple[int, int, int, int]) -> float:
    """Return how often a torsion changes its well."""
    number, inside = wells(dihedral(frames.positions, atoms))
    n_turns = np.count_nonzero(np.diff(number[inside]))
    return 1e5 * n_turns / (frames.n_frames * frames.stride_fs)


def trans_percent(frames: Frames) -> float:
    """Return the part of the time in which the hydroxyl is trans, per cent."""
    number, _ = wells(dihedral(frames.positions, HYDROXYL))
    return 100.0 * float(np.mean(number == TRANS))


def row(name: str, runs: Sequence[Frames]) -> list[str]:
    """Return a row of the table."""
    length = sum(one.n_frames * one.stride_fs for one in runs) * 1e-3
    columns = [
        [turns_per_100ps(one, HYDROXYL) for one in runs],
        [turns_per_100ps(one, METHYL) for one in runs],
        [trans_percent(one) for one in runs],
    ]
    return [name, f"{len(runs)} in {length:.0f}", *map(shown, columns)]


def shown(values: Sequence[float]) -> str:
    """Return mean and standard error of the runs."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return str(Estimate(float(np.mean(values)), error))


def main(
    settings: Annotated[str, typer.Argument(help="Of long_runs.py, with commas.")],
    data: Annotated[Path, typer.Option(help="Folder of ethanol/nvt-*.h5.")] = DATA,
    runs: Annotated[Path, typer.Option(help="Folder of long_runs.py.")] = RUNS,
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Count turns in reference MD and in runs of the model."""
    md = [read_frames(path) for path in sorted((data / "ethanol").glob("nvt-*.h5"))]
    rows = [row("MD", md)]
    for name in settings.split(","):
        folder = runs / "ethanol" / name.replace(":", "-")
        content = read_json(folder / "summary.json")
        rows.append(row(content["words"], read_seeds(folder, content["skipped_ps"])))
    header = (
        "",
        "runs in ps",
        "hydroxyl, per 100 ps",
        "methyl, per 100 ps",
        "trans, %",
    )
    write_page(docs / "ethanol_torsions.md", [TITLE, table(header, rows)])
    print((docs / "ethanol_torsions.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
