"""The bundled start structure."""

from __future__ import annotations

import numpy as np

from trajcast_ase.data import paracetamol


def test_start_structure_is_an_isolated_molecule_at_rest_in_the_origin():
    atoms = paracetamol()
    assert atoms.get_chemical_formula() == "C8H9NO2"
    assert not atoms.pbc.any()
    assert not atoms.has("momenta")
    assert np.abs(atoms.get_center_of_mass()).max() < 1e-6
