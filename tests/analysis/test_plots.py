"""Figures, without any display or global state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from trajcast_ase.analysis import plots
from trajcast_ase.analysis.distribution import distribution
from trajcast_ase.analysis.free_energy import free_energy_surface
from trajcast_ase.analysis.kinetic import KineticShare, kinetic_shares
from trajcast_ase.analysis.msd import diffusion, msd
from trajcast_ase.analysis.parity import parity
from trajcast_ase.analysis.plots import (
    draw_distribution,
    draw_free_energy,
    draw_kinetic,
    draw_msd,
    draw_parity,
    draw_rdf,
    draw_spectrum,
    save_figure,
    single_figure,
)
from trajcast_ase.analysis.rdf import rdf
from trajcast_ase.analysis.vdos import vdos
from trajcast_ase.data import paracetamol
from trajcast_ase.units import FS, KB


def canonical_shares() -> dict[str, KineticShare]:
    """Return the shares of a few frames of canonical velocities."""
    atoms = paracetamol()
    rng = np.random.default_rng(7)
    spread = np.sqrt(KB * 300.0 / atoms.get_masses())[:, None] * FS
    velocities = spread * rng.normal(size=(20, 20, 3))
    positions = np.stack([atoms.positions] * 20)
    return kinetic_shares(positions, velocities, atoms.get_masses(), atoms.numbers)


def is_png(figure: Figure, path: Path) -> bool:
    save_figure(figure, path)
    return path.read_bytes().startswith(b"\x89PNG")


def test_radial_distribution_beside_its_reference(tmp_path):
    rng = np.random.default_rng(1)
    cell, pbc = 9.0 * np.eye(3), np.array([True, True, True])
    positions = 9.0 * rng.uniform(size=(20, 12, 3))
    run = rdf(positions, np.array([1, 8] * 6), cell=cell, pbc=pbc, n_bins=30)
    figure, axes = single_figure()
    draw_rdf(axes, run, "H-O", reference=run)
    assert axes.get_ylabel() == "g(r), H-O"
    assert np.array_equal(axes.lines[1].get_ydata(), run.g["H-O"])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["reference", "run"]
    assert is_png(figure, tmp_path / "rdf.png")


def test_distribution_states_its_mean_and_unit(tmp_path):
    values = np.random.default_rng(2).normal(150.0, 5.0, size=(40, 6))
    result = distribution(values, name="Si-O-Si", unit="°")
    figure, axes = single_figure()
    draw_distribution(axes, result)
    assert axes.get_xlabel() == "Si-O-Si (°)"
    assert f"{result.mean.mean:.5g} °" in axes.get_legend().get_texts()[0].get_text()
    assert is_png(figure, tmp_path / "angles.png")


def test_mean_square_displacement_states_the_fit(tmp_path):
    steps = np.random.default_rng(3).normal(scale=0.1, size=(200, 8, 3))
    result = msd(np.cumsum(steps, axis=0), 10.0, np.array([1, 8] * 4))
    fit = diffusion(result, "O", (20.0, 100.0))
    figure, axes = single_figure()
    draw_msd(axes, result, {"O": fit})
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0] == "H"
    assert labels[1].startswith(f"O, D = ({fit.coefficient.mean:.3g} ±")
    assert np.array_equal(axes.lines[1].get_ydata(), result.by_element["O"])
    assert is_png(figure, tmp_path / "msd.png")


def test_spectrum_by_element_ends_at_the_nyquist_limit(tmp_path):
    velocities = np.random.default_rng(9).normal(size=(500, 20, 3))
    atoms = paracetamol()
    spectrum = vdos(velocities, 7.0, atoms.get_masses(), atoms.numbers)
    figure, axes = single_figure()
    draw_spectrum(axes, spectrum, reference=spectrum)
    assert axes.get_xlim()[1] == pytest.approx(16678.2 / 7.0, rel=1e-4)
    assert [line.get_label() for line in axes.lines] == [
        "reference, all",
        *spectrum.by_element,
        "all",
    ]
    assert is_png(figure, tmp_path / "vdos.png")


def test_kinetic_temperatures_stand_beside_the_thermostat(tmp_path):
    shares = canonical_shares()
    figure, axes = single_figure()
    draw_kinetic(axes, shares, 300.0)
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == list(shares)
    drawn = axes.containers[0].lines[0].get_ydata()
    assert drawn == pytest.approx([s.temperature.mean for s in shares.values()])
    assert is_png(figure, tmp_path / "kinetic.png")


def test_free_energy_is_drawn_with_the_first_angle_across(tmp_path):
    rng = np.random.default_rng(4)
    surface = free_energy_surface(
        rng.normal(60.0, 10.0, 500), rng.normal(-90.0, 10.0, 500), 300.0
    )
    figure, axes = single_figure()
    draw_free_energy(axes, surface, ("hydroxyl", "ring"))
    assert axes.get_xlabel() == "hydroxyl (°)"
    drawn = axes.collections[0].get_array()
    row, column = np.unravel_index(np.ma.argmin(drawn), drawn.shape)
    assert abs(surface.angle_deg[column] - 60.0) < 15.0
    assert abs(surface.angle_deg[row] + 90.0) < 15.0
    assert is_png(figure, tmp_path / "surface.png")


def test_parity_thins_the_points_but_not_the_errors(tmp_path):
    rng = np.random.default_rng(5)
    true = rng.normal(size=(4000, 2, 3))  # 12 000 components of each element
    result = parity(
        true,
        true + 0.01 * rng.normal(size=true.shape),
        np.array([1, 8]),
        name="displacement",
        unit="Å",
    )
    figure, axes = single_figure(4.0, 4.0)
    draw_parity(axes, result)
    assert len(axes.collections[0].get_offsets()) == 4000
    label = axes.get_legend().get_texts()[0].get_text()
    assert (
        label == f"H: {result.mae['H']:.2g} Å, {100 * result.relative_mae['H']:.2g} %"
    )
    assert is_png(figure, tmp_path / "parity.png")


def test_the_module_that_holds_global_state_is_never_named():
    files = sorted(Path(plots.__file__).parent.glob("*.py"))
    assert len(files) > 5
    assert [f.name for f in files if "pyplot" in f.read_text(encoding="utf-8")] == []
