"""Long runs under many thermostats, several seeds each, beside reference MD.

    python benchmarks/studies/long_runs.py water
    python benchmarks/studies/long_runs.py quartz --settings recommended
    python benchmarks/studies/long_runs.py paracetamol --model runs/new/mine.trajcast

For each setting (see ``study_thermostats.py``) all seeds advance as one batch, in
chunks that continue where they were interrupted. They are held together against
reference NVT runs (``DATA/SYSTEM/nvt-*.h5``) as ``trajcast validate`` does. Writes for
each setting ``report.json``, ``report.md`` and the sheet of figures to its folder, the
table of all settings to ``docs/studies/long_runs.md``, and its numbers to a JSON file
per system.

Cost of the default lengths on one idle core, for each of the 13 settings: paracetamol
(3 seeds of 700 ps) 10 minutes, quartz (3 of 1050 ps) 25, water (3 of 170 ps) 40, and a
few minutes for the report. Frames take 0.2 to 0.5 GB a setting. ``--device cuda`` takes
the model to a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms
from long_runs_page import SETTINGS, TITLE, section, stored
from study_observables import (
    Profile,
    diffusion_of,
    hydroxyl_profile,
    largest_difference,
    pooled_msd,
)
from study_pages import (
    machine,
    read_json,
    write_json,
    write_page,
)
from study_reports import (
    bond_check,
    report_of,
    runs_of,
    save_sheet,
    summary,
)
from study_runs import (
    Plan,
    extend,
    identity,
    n_chunks_in,
    one_thread,
    read_seeds,
    speed,
)
from study_systems import (
    DATA,
    STUDIES,
    SUBJECTS,
    TEMPERATURE_K,
    WITH_OWN,
    Subject,
    subject_of,
)
from study_thermostats import Choice, parse_choice

from trajcast_ase import load_model
from trajcast_ase.analysis.blocks import Estimate
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network import Forecaster
from trajcast_ase.streams import Purpose, random_stream
from trajcast_ase.trajectory import Frames, read_frames
from trajcast_ase.validation.inputs import default_piece_fs, observe_runs
from trajcast_ase.validation.observables import Observables
from trajcast_ase.validation.output import write_report

RUNS = Path("runs/long")
SHEET = "sheet.png"
"""The figures of a report, small enough for a page."""
PICOSECONDS = {"paracetamol": 700.0, "quartz": 1050.0, "water": 170.0, "ethanol": 700.0}
"""Of each seed."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Runs of reference MD and what is taken from them once.

    Attributes
    ----------
    names : tuple of str
        Of the files.
    frames : list of Frames
    observables : Observables
    diffusion : Estimate or None, 1e-9 m²/s
    profile : Profile or None
        Of the hydroxyl torsion.
    """

    names: tuple[str, ...]
    frames: list[Frames]
    observables: Observables
    diffusion: Estimate | None
    profile: Profile | None


def read_reference(subject: Subject, data: Path, length_ps: float) -> Reference:
    """Return all NVT runs of a system.

    Parameters
    ----------
    subject : Subject
    data : path
    length_ps : float, ps
        Of each run of the model that will be compared: it decides the pieces.

    Raises
    ------
    typer.BadParameter
        There are none.
    """
    paths = sorted((data / subject.name).glob("nvt-*.h5"))
    if not paths:
        raise typer.BadParameter(
            f"{data / subject.name} holds no nvt-*.h5; make some with python "
            + (
                f"benchmarks/reference_md/run.py {subject.name} nvt --seeds 11-13 "
                if subject.name in SUBJECTS
                else f"benchmarks/own_systems/reference.py {subject.name} --seed 11 "
            )
            + f"--out {data / subject.name}"
        )
    frames = [read_frames(path) for path in paths]
    longest = default_piece_fs(runs_of(frames))
    stride = frames[0].stride_fs
    # As `observe_both` would choose for runs of both lengths.
    ours = max(int(length_ps * 1e3 / 20 / stride) * stride, 1400.0)
    return Reference(
        tuple(path.name for path in paths),
        frames,
        observe_runs(runs_of(frames), min(longest, ours)),
        mobility(frames, subject),
        hydroxyl_profile(frames) if subject.name == "paracetamol" else None,
    )


def mobility(frames: Sequence[Frames], subject: Subject) -> Estimate | None:
    """Return the diffusion coefficient, for systems that diffuse."""
    if not subject.diffusing:
        return None
    return diffusion_of(pooled_msd(frames), subject.diffusing).coefficient


def starts_of(
    subject: Subject, model: Forecaster, seeds: int, seed: int
) -> list[Atoms]:
    """Return the bundled structure with other momenta for each seed."""
    starts = []
    for number in range(seeds):
        atoms = subject.structure()
        rng = random_stream(seed, number, Purpose.VELOCITIES)
        draw_momenta(atoms, TEMPERATURE_K, rng, model.conservation)
        starts.append(atoms)
    return starts


def special(
    runs: Sequence[Frames], subject: Subject, reference: Reference
) -> dict[str, Any]:
    """Return diffusion or free energy beside MD, as plain values."""
    found: dict[str, Any] = {}
    if reference.diffusion is not None:
        ours = mobility(runs, subject)
        found["diffusion"] = [ours.mean, ours.error] if ours else None
        found["diffusion_md"] = [reference.diffusion.mean, reference.diffusion.error]
    if reference.profile is not None:
        ours_profile = hydroxyl_profile(runs)
        worst, angle = largest_difference(ours_profile, reference.profile)
        found["free_energy_kT"] = worst if np.isfinite(worst) else None
        found["free_energy_at_deg"] = angle
        found["barrier_kT"] = [ours_profile.barrier, reference.profile.barrier]
    return found


def study(  # noqa: PLR0917  one row of the table
    choice: Choice,
    subject: Subject,
    model: Forecaster,
    reference: Reference,
    plan: Plan,
    starts: Sequence[Atoms],
    folder: Path,
    skip: float,
) -> dict[str, Any]:
    """Run one setting and return what its report says.

    The report is made anew only where frames or reference have changed.
    """
    ended = extend(folder, starts, plan, bond_check(reference.observables))
    key = {
        "chunks": n_chunks_in(folder),
        "skip": skip,
        "reference": list(reference.names),
        **identity(model),
    }
    path = folder / "summary.json"
    if path.exists() and read_json(path)["key"] == key:
        return read_json(path)
    runs = read_seeds(folder, skip * plan.picoseconds)
    report = report_of(runs, reference.observables)
    write_report(report, folder)
    save_sheet(report, folder / SHEET)
    content = summary(report) | special(runs, subject, reference)
    content |= {
        "key": key,
        "model": model.name,
        "setting": choice.name,
        "words": choice.words,
        "ended": ended,
        "skipped_ps": skip * plan.picoseconds,
        "ns_per_day": speed(folder),
        "machine": machine(str(model.device)),
    }
    write_json(path, content)
    return content


def main(  # noqa: PLR0917  options of the command line
    system: Annotated[str, typer.Argument(help="paracetamol, quartz, water, ethanol.")],
    settings: Annotated[
        str, typer.Option(help="Joined by commas; see study_thermostats.py.")
    ] = ",".join(SETTINGS),
    picoseconds: Annotated[
        float | None, typer.Option(min=8.0, help="Of each seed. Default: see above.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 1,
    skip: Annotated[float, typer.Option(help="Share that is equilibration.")] = 0.05,
    chunk: Annotated[
        float, typer.Option(min=0.1, help="Length of a chunk, ps.")
    ] = 10.0,
    model: Annotated[
        str | None, typer.Option(help="Bundled name or file. Default: the system's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    data: Annotated[Path, typer.Option(help="Folder of SYSTEM/nvt-*.h5.")] = DATA,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = RUNS,
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = STUDIES,
) -> None:
    """Run settings of the thermostat and hold them against reference MD."""
    one_thread()
    subject = subject_of(system, WITH_OWN)
    network = load_model(model or subject.model, device=device)
    choices = [
        parse_choice(name, network, subject.taut_fs) for name in settings.split(",")
    ]
    length = picoseconds or PICOSECONDS[subject.name]
    reference = read_reference(subject, data, (1 - skip) * length)
    starts, rows = starts_of(subject, network, seeds, seed), []
    for choice in choices:
        makers = choice.thermostats(TEMPERATURE_K)
        plan = Plan(
            model=network,
            thermostats=lambda _, makers=makers: makers,
            picoseconds=length,
            seed=seed,
            settings=identity(network)
            | {
                "setting": choice.words,
                "seeds": seeds,
                "seed": seed,
                "chunk_ps": chunk,
            },
            noise=choice.noise,
            chunk_ps=chunk,
        )
        folder = out / subject.name / choice.folder
        row = study(choice, subject, network, reference, plan, starts, folder, skip)
        rows.append({key: value for key, value in row.items() if key != "markdown"})
        print(choice.name, row["verdict"], flush=True)
        path = docs / f"long_runs-{subject.name}.json"
        write_json(path, {"rows": stored(path, rows)})
    files = {name: docs / f"long_runs-{name}.json" for name in WITH_OWN}
    found = {n: read_json(file)["rows"] for n, file in files.items() if file.exists()}
    pages = [section(name, one) for name, one in found.items()]
    write_page(docs / "long_runs.md", [TITLE, *pages])
    print(docs / "long_runs.md")


if __name__ == "__main__":
    typer.run(main)
