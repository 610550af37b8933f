"""What weights of a cheaper engine are worth where forces are dear, and the bath's run.

    python benchmarks/own_systems/run.py paracetamol --out runs/own
    python benchmarks/studies/after_cheaper.py --runs runs/own/paracetamol/reference

Trains the network of `paracetamol-7fs` on 5, 20 and 80 ps of MD with GFN2-xTB and on
all there is, from nothing and from its weights, which learnt from OPLS-AA, with equal
steps and batches, and compares errors on a run that nothing learnt from; last with the
canonical run in which a thermostat acts so seldom that there are pairs between. Takes
about three minutes for each of the trainings on one core; what is finished is not
repeated. Writes ``docs/studies/after_cheaper.md``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from few_data import cut
from study_pages import (
    describe_machine,
    machine,
    read_json,
    table,
    write_json,
    write_page,
)
from study_systems import STUDIES

from trajcast_ase import load_model
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.evaluate import ForecastErrors, evaluate
from trajcast_ase.training.loop import train
from trajcast_ase.training.pairs import make_pairs, thin
from trajcast_ase.trajectory import read_frames

MODEL = "paracetamol-7fs"
PICOSECONDS = (5.0, 20.0, 80.0)
N_RUNS = 24
"""That so many ps are shared out over."""
BATH = "canonical-1.h5"
STEPS, BATCH = 2000, 10
LOW, HIGH = 0.05, 0.1
"""Rates of the learning, from weights and from nothing, as `trajcast distill` has."""
VALIDATION_PAIRS = 400
TITLE = """# After a cheaper engine

Errors of one stride on MD of paracetamol with GFN2-xTB, of a network trained on a
little of it: from nothing, and from the weights of `paracetamol-7fs`, which learnt from
3.2 ns with OPLS-AA. Equal networks, steps and batches; 24 runs each, at last all that
`trajcast distill` made, and with the canonical run of its bath, too, in which pairs
across an action of the thermostat are left out. Written by
`benchmarks/studies/after_cheaper.py`."""


@dataclass(frozen=True, slots=True)
class Case:
    """A training.

    Attributes
    ----------
    picoseconds : float or None, ps
        Of MD at constant energy, in all; None: all there is.
    started : bool
        From the weights of the cheaper engine, not from nothing.
    rate : float
        Of the learning.
    bath : bool
        Whether the canonical run of the bath is learnt from, too.
    """

    picoseconds: float | None
    started: bool
    rate: float
    bath: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        amount = f"{self.picoseconds:g}ps" if self.picoseconds else "all"
        start = "opls" if self.started else "nothing"
        return f"{amount}{'-bath' if self.bath else ''}-{start}-{self.rate:g}"


def cases() -> list[Case]:
    """Return all trainings."""
    found: list[Case] = []
    for picoseconds in PICOSECONDS:
        found += [Case(picoseconds, False, HIGH), Case(picoseconds, True, LOW)]
    return [*found, Case(None, True, LOW), Case(None, True, LOW, bath=True)]


def runs_of(folder: Path) -> tuple[Path, list[Path]]:
    """Return a held-out run, and those to learn from."""
    found = sorted(folder.glob("nve-*.h5"))
    if len(found) <= N_RUNS or not (folder / BATH).exists():
        raise typer.BadParameter(
            f"{folder} holds {len(found)} runs nve-*.h5, {N_RUNS + 1} are needed, and "
            f"{BATH}; make them with benchmarks/own_systems/run.py paracetamol"
        )
    return found[-1], found[:-1]


def training_files(one: Case, runs: list[Path], folder: Path) -> list[Path]:
    """Return the files that a training learns from."""
    if one.picoseconds is None:
        return [*runs, runs[0].parent / BATH] if one.bath else runs
    frames = read_frames(runs[0])
    n_frames = round(one.picoseconds * 1e3 / N_RUNS / frames.stride_fs) + 1
    if n_frames > frames.n_frames:
        raise typer.BadParameter(
            f"{runs[0]} holds {frames.n_frames} frames, {n_frames} are needed; give "
            "benchmarks/own_systems/run.py a larger budget"
        )
    return [
        cut(run, folder / one.name / run.name, n_frames, 1) for run in runs[:N_RUNS]
    ]


def configuration(
    one: Case, files: list[Path], held_out: Path, folder: Path
) -> TrainingConfig:
    """Return the configuration of a training."""
    header = load_model(MODEL).header
    assert header is not None  # noqa: S101  of a bundled model
    network = {key: header.config[key] for key in ("cutoff", "n_channels", "n_layers")}
    network |= {key: header.config[key] for key in ("edge_mlp", "velocity_mlp")}
    return TrainingConfig.from_dict(
        {
            "data": {
                "train": [str(path.resolve()) for path in files],
                "validation": [str(held_out.resolve())],
                "validation_pairs": VALIDATION_PAIRS,
                "horizon_fs": header.horizon_fs,
            },
            "network": network,
            "optimizer": {
                "steps": STEPS,
                "batch_size": BATCH,
                "learning_rate": one.rate,
                "ema_decay": 0.998,
            },
            "run": {
                "name": one.name,
                "directory": str((folder / one.name / "training").resolve()),
                "threads": 1,
                "validate_every": STEPS,
                "checkpoint_minutes": 1.0,
            }
            | ({"init": MODEL} if one.started else {}),
        },
        folder=folder,
    )


def trained(
    one: Case, runs: list[Path], held_out: Path, folder: Path
) -> dict[str, Any]:
    """Return the errors of a training, from its file where it is finished."""
    path = folder / one.name / "errors.json"
    if path.exists():
        return read_json(path)
    files = training_files(one, runs, folder)
    pairs = [
        make_pairs(read_frames(file), load_model(MODEL).horizon_fs) for file in files
    ]
    found = train(configuration(one, files, held_out, folder))
    content = asdict(one) | percents(found.errors)
    content |= {"pairs": sum(map(len, pairs)), "machine": machine()}
    write_json(path, content)
    return content


def percents(errors: ForecastErrors) -> dict[str, float]:
    """Return the errors of a model, per cent."""
    return {
        "displacement_percent": 100 * errors.displacement.relative_mae,
        "velocity_percent": 100 * errors.velocity.relative_mae,
    }


def untrained(held_out: Path) -> dict[str, float]:
    """Return the errors of the cheaper engine's model as it is."""
    model = load_model(MODEL)
    pairs = make_pairs(read_frames(held_out), model.horizon_fs)
    return percents(evaluate(model, PairDataset(thin([pairs], VALIDATION_PAIRS))))


def page(first: dict[str, float], rows: list[dict[str, Any]]) -> list[str]:
    """Return the sections of the page."""
    lines = [["none", "0", "OPLS-AA", "-", *shown(first)]]
    lines += [
        [
            amount_of(row),
            str(row["pairs"]),
            "OPLS-AA" if row["started"] else "nothing",
            f"{row['rate']:g}",
            *shown(row),
        ]
        for row in rows
    ]
    header = ("with GFN2-xTB", "pairs", "from", "rate", "displacement", "velocity")
    return [TITLE, table(header, lines), f"On {describe_machine(rows[0]['machine'])}."]


def amount_of(row: dict[str, Any]) -> str:
    """Return how much MD a row has, in words."""
    if row["picoseconds"] is not None:
        return f"{row['picoseconds']:g} ps"
    return "all, and the bath's run" if row["bath"] else "all runs"


def shown(row: dict[str, Any]) -> list[str]:
    """Return the errors of a row in words."""
    return [f"{row[f'{name}_percent']:.2f} %" for name in ("displacement", "velocity")]


def main(
    runs: Annotated[Path, typer.Option(help="Folder of nve-*.h5 with GFN2-xTB.")],
    out: Annotated[Path, typer.Option(help="Folder of all trainings.")] = Path(
        "runs/after_cheaper"
    ),
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Train on little MD, with and without weights to start from."""
    held_out, some = runs_of(runs)
    rows, first = [], untrained(held_out)
    for one in cases():
        rows.append(trained(one, some, held_out, out))
        write_json(docs / "after_cheaper.json", {"untrained": first, "rows": rows})
        write_page(docs / "after_cheaper.md", page(first, rows))
        print(one.name, *shown(rows[-1]), flush=True)


if __name__ == "__main__":
    typer.run(main)
