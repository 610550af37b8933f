"""The demonstration: paracetamol at 300 K in strides of 7 fs, without forces.

Runs the bundled model, writes trajectory, log and figure, and compares temperature,
spectrum and bond lengths with the bundled numbers of a reference run with forces.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io.trajectory import Trajectory
from rich.console import Console
from rich.table import Table

from trajcast_ase.analysis.compare import Comparison, Rollout, compare
from trajcast_ase.analysis.plots import rollout_figure, save_figure
from trajcast_ase.analysis.temperature import temperature
from trajcast_ase.data import Reference, paracetamol, paracetamol_reference
from trajcast_ase.driver import TrajCast
from trajcast_ase.model_file import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.progress import RolloutProgress
from trajcast_ase.recommended import described_setting, setting_of, thermostats_of
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.streams import Streams
from trajcast_ase.stride import ForecastModel
from trajcast_ase.units import ns_per_day

MODEL = "paracetamol-7fs"
SHORTEST_PS = 2.0
"""The spectrum needs one window of 1.4 ps after equilibration."""
REPORT_INTERVAL = 10
"""Strides between two updates of the progress bar."""


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """What the demonstration writes."""

    trajectory: Path
    log: Path
    figure: Path


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demonstration measured and wrote.

    Attributes
    ----------
    numbers : Comparison
    ns_per_day : float
    files : DemoFiles
    """

    numbers: Comparison
    ns_per_day: float
    files: DemoFiles

    @property
    def intact(self) -> bool:
        """Whether every bond stayed within its limit."""
        return self.numbers.intact


def run_demo(
    out_dir: str | Path,
    *,
    picoseconds: float = 40.0,
    seed: int = 1,
    model: ForecastModel | None = None,
    console: Console | None = None,
) -> DemoResult:
    """Run paracetamol at 300 K and write ``demo.traj``, ``demo.log``, ``demo.png``.

    Parameters
    ----------
    out_dir : path
        Created if needed; files of an earlier demonstration are replaced.
    picoseconds : float, ps
        Length of the run.
    seed : int
        Of the initial velocities and of the thermostat.
    model : ForecastModel, optional
        Default: the bundled `paracetamol-7fs`.
    console : rich.console.Console, optional
        Default: standard output.

    Raises
    ------
    ValueError
        The run is too short for a spectrum.
    """
    if not picoseconds >= SHORTEST_PS:
        raise ValueError(
            f"{picoseconds:g} ps are too short for a spectrum; run at least "
            f"{SHORTEST_PS:g} ps"
        )
    console = console or Console(highlight=False)
    model = model or load_model(MODEL)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    files = DemoFiles(*(folder / f"demo.{suffix}" for suffix in ("traj", "log", "png")))
    reference = paracetamol_reference()
    n_strides = round(picoseconds * 1e3 / model.horizon_fs)
    console.print(
        f"paracetamol, {len(paracetamol())} atoms, {reference.temperature_K:g} K: "
        f"{n_strides} strides of {model.horizon_fs:g} fs, no forces"
    )
    console.print(described_setting(model))
    seconds = _run(
        model, n_strides, files, reference=reference, seed=seed, console=console
    )
    rollout = read_rollout(files.trajectory, model.horizon_fs)
    result = DemoResult(
        numbers=compare(rollout, paracetamol(), reference),
        ns_per_day=ns_per_day(seconds / n_strides, model.horizon_fs),
        files=files,
    )
    _draw(rollout, result, reference)
    _print_summary(result, reference, console)
    return result


def read_rollout(path: Path, stride_fs: float) -> Rollout:
    """Return the frames of an ASE trajectory in Å and Å/fs."""
    with Trajectory(path) as frames:
        pairs = [(atoms.positions, velocities_from_atoms(atoms)) for atoms in frames]
    positions, velocities = zip(*pairs, strict=True)
    return Rollout(np.stack(positions), np.stack(velocities), stride_fs)


def _run(
    model: ForecastModel,
    n_strides: int,
    files: DemoFiles,
    *,
    reference: Reference,
    seed: int,
    console: Console,
) -> float:
    """Write trajectory and log; return the wall time of the run, s."""
    rng = np.random.default_rng(seed)
    atoms = paracetamol()
    draw_momenta(atoms, reference.temperature_K, rng, model.conservation)
    files.log.unlink(missing_ok=True)  # ASE appends to logs
    thermostat = thermostats_of(
        setting_of(model), reference.temperature_K, Streams([rng])
    )
    with (
        TrajCast(
            atoms,
            model,
            thermostat=thermostat,
            trajectory=files.trajectory,
            logfile=files.log,
        ) as dynamics,
        RolloutProgress(n_strides, model.horizon_fs, console=console) as progress,
    ):

        def report() -> None:
            progress.update(dynamics.nsteps, dynamics.get_temperature())

        dynamics.attach(report, interval=REPORT_INTERVAL)
        start = time.perf_counter()
        dynamics.run(n_strides)
        seconds = time.perf_counter() - start
        if n_strides % REPORT_INTERVAL:
            report()
    return seconds


def _draw(rollout: Rollout, result: DemoResult, reference: Reference) -> None:
    masses = paracetamol().get_masses()
    figure = rollout_figure(
        rollout.time_ps,
        temperature(rollout.velocities, masses, reference.n_dof),
        result.numbers.spectrum,
        reference.spectrum,
        reference.scatter.for_length(rollout.settled_ps),
        temperature_K=reference.temperature_K,
        n_dof=reference.n_dof,
        title=f"Paracetamol, {rollout.time_ps[-1]:.0f} ps in strides of "
        f"{rollout.stride_fs:g} fs, without forces",
    )
    save_figure(figure, result.files.figure)


def _print_summary(result: DemoResult, reference: Reference, console: Console) -> None:
    numbers, files = result.numbers, result.files
    scatter = reference.scatter
    verdict = "none broke" if result.intact else "at least one broke; discard this run"
    console.print(_temperature_table(numbers, reference))
    console.print(_bond_table(numbers, reference))
    own = (
        f"its own {scatter.piece_ps:g} ps pieces reach {scatter.overlap_mean:.2f} "
        f"± {scatter.overlap_sd:.2f}"
    )
    note = (
        f"it counts {3 * len(paracetamol())} degrees of freedom, "
        f"{reference.n_dof} of which carry a temperature"
    )
    for line in (
        f"spectrum: overlap {numbers.spectrum_overlap:.2f} with reference MD; {own}",
        f"speed: {result.ns_per_day:.2f} ns/day",
        f"bonds: {verdict}",
        f"wrote {files.trajectory}, {files.log}, {files.figure}",
        f"(T[K] in the log is ASE's: {note})",
    ):
        console.print(line, markup=False, soft_wrap=True)


def _temperature_table(numbers: Comparison, reference: Reference) -> Table:
    table = Table(
        "temperature (K)", "this run", "reference MD", box=None, pad_edge=False
    )
    table.add_row(
        f"all, {reference.n_dof} degrees of freedom",
        str(numbers.temperature),
        str(reference.temperature),
    )
    for name, expected in reference.element_temperatures.items():
        table.add_row(name, str(numbers.element_temperatures[name]), str(expected))
    return table


def _bond_table(numbers: Comparison, reference: Reference) -> Table:
    columns = ("longest bond (Å)", "this run", "reference MD", "limit")
    table = Table(*columns, box=None, pad_edge=False)
    for kind, length in numbers.longest_bonds.items():
        limit = numbers.bond_limits[kind]
        mark = "" if length <= limit else "  broken"
        expected = reference.longest_bonds[kind]
        table.add_row(kind, f"{length:.2f}{mark}", f"{expected:.2f}", f"{limit:.2f}")
    return table
