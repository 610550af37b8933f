"""The bundled start structure and reference observables."""

from __future__ import annotations

import numpy as np
import pytest

from trajcast_ase.data import paracetamol, paracetamol_reference


def test_start_structure_is_an_isolated_molecule_at_rest_in_the_origin():
    atoms = paracetamol()
    assert atoms.get_chemical_formula() == "C8H9NO2"
    assert not atoms.pbc.any()
    assert not atoms.has("momenta")
    assert np.abs(atoms.get_center_of_mass()).max() < 1e-6


def test_reference_run_is_canonical_at_its_temperature():
    reference = paracetamol_reference()
    assert reference.n_dof == 54
    deviation = reference.temperature.mean - reference.temperature_K
    assert abs(deviation) < 4 * reference.temperature.error
    counts = {"H": 9, "C": 8, "N": 1, "O": 2}
    weighted = sum(
        counts[name] * estimate.mean
        for name, estimate in reference.element_temperatures.items()
    )
    assert weighted / 20 == pytest.approx(reference.temperature.mean, rel=1e-4)


def test_reference_spectrum_is_normalized_at_the_stride_of_the_model():
    spectrum = paracetamol_reference().spectrum
    assert spectrum.stride_fs == 7.0
    # Rounded to five digits.
    assert spectrum.total.sum() * spectrum.spacing_cm == pytest.approx(1.0, rel=1e-4)
    assert spectrum.frequency_cm[-1] == pytest.approx(16678.2 / 7.0, rel=1e-4)


def test_scatter_shrinks_with_the_root_of_the_length():
    scatter = paracetamol_reference().scatter
    assert len(scatter.total_sd) == len(paracetamol_reference().spectrum.total)
    longer = scatter.for_length(4 * scatter.piece_ps)
    assert longer == pytest.approx(scatter.total_sd / 2, rel=1e-12)
