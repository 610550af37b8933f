"""The demonstration: its files, its numbers, and that it notices a broken molecule."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from rich.console import Console

from trajcast_ase.analysis.bonds import bonded_pairs
from trajcast_ase.analysis.temperature import temperature
from trajcast_ase.conservation import Conservation
from trajcast_ase.data import paracetamol
from trajcast_ase.demo import InterruptedRunError, _print_summary, _run, run_demo
from trajcast_ase.testing import Ballistic, HarmonicCrystal
from trajcast_ase.trajectory import read_frames
from trajcast_ase.validation.inputs import observe_both, read_run
from trajcast_ase.validation.report import compare

PICOSECONDS = 14.0
N_FRAMES = 2001
SPRING = 20.0  # eV/Å²; stretches of 0.05 Å at 300 K


def springs() -> HarmonicCrystal:
    """Return paracetamol with a harmonic spring in the place of each bond."""
    atoms = paracetamol()
    laplacian = np.zeros((len(atoms), len(atoms)))
    for i, j in bonded_pairs(atoms):
        laplacian[[i, j], [i, j]] += 1.0
        laplacian[[i, j], [j, i]] -= 1.0
    hessian = SPRING * np.kron(laplacian, np.eye(3))
    model = HarmonicCrystal.from_hessian(atoms, hessian, horizon_fs=7.0)
    return replace(model, conservation=Conservation())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder that does not exist yet."""
    return tmp_path_factory.mktemp("demo") / "new"


@pytest.fixture(scope="module")
def demo(folder):
    """Return the result and the printed text of a run; the log was there before."""
    folder.mkdir()
    (folder / "demo.log").write_text("of an earlier run\n", encoding="utf-8")
    console = Console(file=io.StringIO(), width=100)
    result = run_demo(
        folder, picoseconds=PICOSECONDS, seed=5, model=springs(), console=console
    )
    return result, console.file.getvalue()


def test_writes_trajectory_log_and_report(demo, folder):
    result = demo[0]
    assert read_frames(result.trajectory).positions.shape == (N_FRAMES, 20, 3)
    # One header, one row per frame; the earlier run's log was replaced.
    assert len(result.log.read_text(encoding="utf-8").splitlines()) == N_FRAMES + 1
    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert written["verdict"] == result.report.verdict
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("seed", "same"), [(5, True), (6, False)])
def test_the_seed_decides_the_run(demo, tmp_path, seed, same):
    console = Console(file=io.StringIO())
    paths = tmp_path / "demo.traj", tmp_path / "demo.log"
    _run(springs(), 20, *paths, seed=seed, console=console)
    first, again = read_frames(demo[0].trajectory), read_frames(paths[0])
    assert np.array_equal(first.positions[:21], again.positions) is same


def test_the_reference_is_the_bundled_one_and_the_start_is_left_out(demo):
    report = demo[0].report
    assert report.reference.source.startswith("LAMMPS")
    assert report.run.conditions.temperature_K == 300.0
    # 14 ps less a tenth make four pieces of 3 ps.
    assert report.run.run_pieces == (4,)


@pytest.mark.statistical
def test_samples_the_temperature_of_its_degrees_of_freedom(demo):
    # Null hypothesis: mean 300 K. About 12 ps / (2 x 70 fs) = 86 independent values of
    # spread 58 K, so a standard error near 6 K; 4 of them, false alarms below 1e-4
    # (the seed is fixed, so the outcome is too).
    result = demo[0]
    frames = read_frames(result.trajectory)
    kelvin = temperature(frames.velocities, paracetamol().get_masses(), 54)
    assert abs(kelvin[200:].mean() - 300.0) < 25.0
    rows = {row.observable: row for row in result.report.rows}
    n_frames = round(result.report.run.length_ps * 1e3 / 7.0)
    mean = kelvin[-n_frames:].mean()
    assert rows["temperature"].value == pytest.approx(mean, rel=1e-6)


def test_the_start_has_no_net_momenta(demo):
    frames = read_frames(demo[0].trajectory)
    masses = paracetamol().get_masses()[:, None]
    momenta = masses * frames.velocities[0]
    arms = frames.positions[0] - frames.positions[0].mean(0)
    scale = np.abs(momenta).sum()
    assert np.abs(momenta.sum(0)).max() < 1e-12 * scale
    assert np.abs(np.cross(arms, momenta).sum(0)).max() < 1e-11 * scale


def test_whole_molecule_is_reported_as_whole(demo):
    result, text = demo
    assert result.intact
    assert "none broke" in text
    assert "2000 strides of 7 fs" in text
    # These springs have no model file; the bundled model's is tested in test_cli.
    assert "thermostat CSVR 70 fs (the paper's; the model recommends none)" in text
    assert f"{result.ns_per_day:.2f} ns/day" in text
    assert result.report.verdict in text
    # Springs instead of a force field: most angles and bands are not the reference's.
    assert not result.report.passes
    assert "FAIL" in text


def test_broken_molecule_is_reported_as_broken(demo, folder):
    result, _ = demo
    run = read_run(result.trajectory)
    amide = run.frames.positions[-1, 14] - run.frames.positions[-1, 3]
    run.frames.positions[-1, 14] += amide  # twice as long, in the last frame only
    report = compare(*observe_both(run, result.report.reference))
    console = Console(file=io.StringIO(), width=100)
    torn = replace(result, report=report)
    _print_summary(torn, folder, console)
    assert not torn.intact
    text = console.file.getvalue()
    assert "at least one broke; discard this run" in text
    assert re.search(r"longest bond H-N \(Å\) .* FAIL", text)


@pytest.mark.parametrize("picoseconds", [13.0, float("nan")])
def test_a_run_too_short_for_a_report_is_refused(tmp_path, picoseconds):
    with pytest.raises(ValueError, match="at least 14 ps"):
        run_demo(tmp_path / "demo", picoseconds=picoseconds, model=Ballistic(7.0))
    assert not (tmp_path / "demo").exists()


@dataclass(frozen=True)
class Terminated:
    """Forecasts of another model, the tenth of which a SIGTERM meets."""

    model: HarmonicCrystal
    calls: list[int] = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def raw_forecast(self, state):
        self.calls.append(state.n_atoms)
        if len(self.calls) == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.model.raw_forecast(state)


def test_a_signal_ends_it_with_readable_files(tmp_path):
    with pytest.raises(InterruptedRunError, match="signal 15 after") as stopped:
        run_demo(
            tmp_path,
            picoseconds=PICOSECONDS,
            model=Terminated(springs()),
            console=Console(file=io.StringIO()),
        )
    assert stopped.value.exit_status == 128 + signal.SIGTERM
    n_frames = len(read_frames(tmp_path / "demo.traj").positions)
    assert 10 < n_frames < PICOSECONDS * 1e3 / 7
    assert len(np.loadtxt(tmp_path / "demo.log", skiprows=1)) == n_frames
    assert not (tmp_path / "report.json").exists()
