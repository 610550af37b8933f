"""The figure, without any display or global state."""

from __future__ import annotations

import numpy as np

from trajcast_ase.analysis.plots import rollout_figure, save_figure
from trajcast_ase.data import paracetamol_reference


def test_figure_shows_the_series_its_distribution_and_both_spectra(tmp_path):
    reference = paracetamol_reference()
    rng = np.random.default_rng(6)
    kelvin = rng.gamma(27.0, 300.0 / 27.0, size=500)
    time_ps = 7e-3 * np.arange(500)
    figure = rollout_figure(
        time_ps,
        kelvin,
        reference.spectrum,
        reference.spectrum,
        reference.scatter.total_sd,
        temperature_K=300.0,
        n_dof=54,
        title="A run",
    )
    series, histogram, spectra = figure.axes
    assert np.array_equal(series.lines[0].get_ydata(), kelvin)
    expected = histogram.lines[0].get_xydata()
    assert abs(expected[np.argmax(expected[:, 0]), 1] - 300.0 * 26 / 27) < 3.0
    labels = [text.get_text() for text in spectra.get_legend().get_texts()]
    assert any("overlap 1.00" in label for label in labels)
    save_figure(figure, tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
