"""The demonstration: its files, its numbers, and that it notices a broken molecule."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from trajcast_ase.analysis.bonds import bonded_pairs
from trajcast_ase.analysis.temperature import temperature
from trajcast_ase.conservation import Conservation
from trajcast_ase.data import paracetamol
from trajcast_ase.demo import read_rollout, run_demo
from trajcast_ase.testing import Ballistic, HarmonicCrystal

PICOSECONDS = 2.1
N_FRAMES = 301
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
def demo(tmp_path_factory):
    """Return the result and the printed text of two runs into one folder."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    texts, results = [], []
    for _ in range(2):
        console = Console(file=io.StringIO(), width=100)
        results.append(
            run_demo(
                folder,
                picoseconds=PICOSECONDS,
                seed=5,
                model=springs(),
                console=console,
            )
        )
        texts.append(console.file.getvalue())
    return results, texts


def test_writes_trajectory_log_and_figure(demo):
    files = demo[0][-1].files
    assert read_rollout(files.trajectory, 7.0).positions.shape == (N_FRAMES, 20, 3)
    # One header, one row per frame; the earlier run's log was replaced.
    assert len(files.log.read_text(encoding="utf-8").splitlines()) == N_FRAMES + 1
    assert files.figure.read_bytes().startswith(b"\x89PNG")


def test_same_seed_same_numbers(demo):
    first, second = (result.numbers for result in demo[0])
    assert first.temperature == second.temperature
    assert first.element_temperatures == second.element_temperatures
    assert np.array_equal(first.spectrum.total, second.spectrum.total)


@pytest.mark.statistical
def test_samples_the_temperature_of_its_degrees_of_freedom(demo):
    # Null hypothesis: mean 300 K. About 1.9 ps / (2 x 70 fs) = 13 independent values of
    # spread 58 K, so a standard error near 16 K; 4 of them, false alarms below 1e-4
    # (the seed is fixed, so the outcome is too).
    result = demo[0][0]
    assert abs(result.numbers.temperature.mean - 300.0) < 64.0
    frames = read_rollout(result.files.trajectory, 7.0)
    kelvin = temperature(frames.velocities, paracetamol().get_masses(), 54)
    assert result.numbers.temperature.mean == pytest.approx(
        kelvin[30:].mean(), rel=0.01
    )


def test_the_start_has_no_net_momenta(demo):
    frames = read_rollout(demo[0][0].files.trajectory, 7.0)
    masses = paracetamol().get_masses()[:, None]
    momenta = masses * frames.velocities[0]
    arms = frames.positions[0] - frames.positions[0].mean(0)
    scale = np.abs(momenta).sum()
    assert np.abs(momenta.sum(0)).max() < 1e-12 * scale
    assert np.abs(np.cross(arms, momenta).sum(0)).max() < 1e-11 * scale


def test_whole_molecule_is_reported_as_whole(demo):
    (result, _), (text, _) = demo
    assert result.intact
    assert "none broke" in text
    assert "300 strides of 7 fs" in text
    # These springs have no model file; the bundled model's is tested in test_cli.
    assert "thermostat CSVR 70 fs (the paper's; the model recommends none)" in text
    assert f"{result.ns_per_day:.2f} ns/day" in text
    assert str(result.numbers.temperature) in text
    assert "T[K] in the log" in text


def test_broken_molecule_is_reported_as_broken(tmp_path):
    console = Console(file=io.StringIO(), width=100)
    result = run_demo(
        tmp_path, picoseconds=PICOSECONDS, model=Ballistic(7.0), console=console
    )
    assert not result.intact
    assert result.numbers.longest_bonds["C-H"] > 3.0
    assert "at least one broke; discard this run" in console.file.getvalue()


@pytest.mark.parametrize("picoseconds", [1.0, float("nan")])
def test_a_run_too_short_for_a_spectrum_is_refused(tmp_path, picoseconds):
    with pytest.raises(ValueError, match="at least 2 ps"):
        run_demo(tmp_path / "demo", picoseconds=picoseconds, model=Ballistic(7.0))
    assert not (tmp_path / "demo").exists()
