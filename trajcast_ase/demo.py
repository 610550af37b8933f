"""The demonstration: paracetamol at 300 K in strides of 7 fs, without forces.

Runs the bundled model, writes trajectory and log, and holds the run against reference
MD with forces as ``trajcast validate`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.rollout import Ending, roll_out
from trajcast_ase.models.model_file import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.progress import RolloutProgress
from trajcast_ase.streams import Streams
from trajcast_ase.stride import ForecastModel
from trajcast_ase.thermostats.recommended import (
    described_setting,
    setting_of,
    thermostats_of,
)
from trajcast_ase.units import ns_per_day
from trajcast_ase.validation.inputs import bundled_reference, observe_both, read_run
from trajcast_ase.validation.output import COLUMNS, console_table, write_report
from trajcast_ase.validation.report import Report, Row, compare
from trajcast_ase.validation.sheet import BAND

MODEL = "paracetamol-7fs"
REFERENCE = "paracetamol-short"
"""Bundled observables in pieces short enough for a run of half a minute."""
TEMPERATURE_K = 300.0
EQUILIBRATION = 0.1
"""Share of the run, from its start, that the report leaves out."""
SHORTEST_PS = 14.0
"""Four pieces of 3 ps are left after equilibration."""
REPORT_INTERVAL = 10
"""Strides between two updates of the progress bar."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demonstration measured and wrote.

    Attributes
    ----------
    report : Report
        The run beside reference MD.
    ns_per_day : float
    trajectory, log : Path
    """

    report: Report
    ns_per_day: float
    trajectory: Path
    log: Path

    @property
    def intact(self) -> bool:
        """Whether every bond held; only rows of bonds do not rest on pieces."""
        return all(row.passes for row in self.report.rows if row.memory is None)


class InterruptedRunError(RuntimeError):
    """A signal has ended the run.

    Parameters
    ----------
    text : str
    exit_status : int
        For a shell.
    """

    def __init__(self, text: str, exit_status: int) -> None:
        super().__init__(text)
        self.exit_status = exit_status


def run_demo(
    out_dir: str | Path,
    *,
    picoseconds: float = 40.0,
    seed: int = 1,
    model: ForecastModel | None = None,
    console: Console | None = None,
) -> DemoResult:
    """Run paracetamol at 300 K; write ``demo.traj``, ``demo.log`` and the report.

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
        The run is too short for a report.
    InterruptedRunError
        A signal has ended the run.
    """
    if not picoseconds >= SHORTEST_PS:
        raise ValueError(
            f"{picoseconds:g} ps are too short for a report; run at least "
            f"{SHORTEST_PS:g} ps"
        )
    console = console or Console(highlight=False)
    model = model or load_model(MODEL)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    trajectory, log = folder / "demo.traj", folder / "demo.log"
    n_strides = round(picoseconds * 1e3 / model.horizon_fs)
    console.print(
        f"paracetamol, {len(paracetamol())} atoms, {TEMPERATURE_K:g} K: "
        f"{n_strides} strides of {model.horizon_fs:g} fs, no forces"
    )
    console.print(described_setting(model))
    ending = _run(model, n_strides, trajectory, log, seed=seed, console=console)
    if ending.reason:
        raise InterruptedRunError(
            f"ended by {ending.reason} after {ending.n_strides} of {n_strides} "
            f"strides; {trajectory} and {log} hold them, there is no report",
            ending.exit_status,
        )
    run = read_run(
        trajectory, temperature_K=TEMPERATURE_K, skip_ps=EQUILIBRATION * picoseconds
    )
    result = DemoResult(
        report=compare(*observe_both(run, bundled_reference(REFERENCE))),
        ns_per_day=ns_per_day(ending.seconds / n_strides, model.horizon_fs),
        trajectory=trajectory,
        log=log,
    )
    write_report(result.report, folder)
    _print_summary(result, folder, console)
    return result


def _run(
    model: ForecastModel,
    n_strides: int,
    trajectory: Path,
    log: Path,
    *,
    seed: int,
    console: Console,
) -> Ending:
    """Write trajectory and log; return how the run ended."""
    rng = np.random.default_rng(seed)
    atoms = paracetamol()
    draw_momenta(atoms, TEMPERATURE_K, rng, model.conservation)
    log.unlink(missing_ok=True)  # ASE appends to logs
    thermostat = thermostats_of(setting_of(model), TEMPERATURE_K, Streams([rng]))
    with (
        TrajCast(
            atoms, model, thermostat=thermostat, trajectory=trajectory, logfile=log
        ) as dynamics,
        RolloutProgress(n_strides, model.horizon_fs, console=console) as progress,
    ):

        def report() -> None:
            progress.update(dynamics.nsteps, dynamics.get_temperature())

        dynamics.attach(report, interval=REPORT_INTERVAL)
        ending = roll_out(dynamics, n_strides)
        if dynamics.nsteps % REPORT_INTERVAL:
            report()
    return ending


def _print_summary(result: DemoResult, folder: Path, console: Console) -> None:
    report = result.report
    shown = [row for row in report.rows if _is_shown(row)]
    console.print(console_table(shown, COLUMNS[:-1]))
    verdict = "none broke" if result.intact else "at least one broke; discard this run"
    for line in (
        f"speed: {result.ns_per_day:.2f} ns/day",
        f"bonds: {verdict}",
        f"report: {report.verdict}; {report.size}",
        f"wrote {result.trajectory}, {result.log}, {folder}/report.{{json,md,png,pdf}}",
    ):
        console.print(line, markup=False, soft_wrap=True)


def _is_shown(row: Row) -> bool:
    """Return whether a row says much at a glance, or does not pass."""
    name = row.observable
    thermal = name.startswith("temperature") and BAND not in name
    return (
        thermal or name == "overlap of spectrum" or row.memory is None or not row.passes
    )
