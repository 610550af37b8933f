"""What ``benchmarks/reference_md/observables.py`` distills from a run."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import units
from ase.io import read

FOLDER = Path(__file__).parents[1] / "benchmarks" / "reference_md"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

from observables import main  # noqa: E402
from water import BOX, lattice, topology  # noqa: E402

from trajcast_ase.validation.storage import load_observables  # noqa: E402

N_FRAMES, STRIDE = 2400, 25.0


@pytest.fixture
def trajectory(tmp_path) -> Path:
    """Return molecules on random walks, with thermal velocities."""
    rng = np.random.default_rng(4)
    liquid, path = topology(64), tmp_path / "nvt-1.h5"
    masses = liquid.atom_masses[:, None]
    sigma = np.sqrt(units.kB * 300.0 / masses) * units.fs
    walks = np.cumsum(rng.normal(0.0, 0.002, (N_FRAMES, 64, 3)), axis=0)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "trajcast-md", "format_version": 1})
        file.attrs.update({"ensemble": "nvt", "complete": True})
        file.attrs.update({"system": "gas", "source": "test", "stride_fs": STRIDE})
        file.attrs["temperature_K"] = 300.0
        file["numbers"], file["masses"] = liquid.numbers, liquid.atom_masses
        file["cell"], file["pbc"] = BOX * np.eye(3), np.ones(3, dtype=bool)
        shaken = lattice(4, rng) + rng.normal(0.0, 0.01, (N_FRAMES, 192, 3))
        file["positions"] = shaken + np.repeat(walks, 3, axis=1)
        file["velocities"] = sigma * rng.normal(size=(N_FRAMES, 192, 3))
        file["time"] = STRIDE * np.arange(N_FRAMES)
        file["potential_energy"] = rng.normal(-28.0, 0.6, N_FRAMES)
    return path


def test_observables_of_a_periodic_run(trajectory, tmp_path):
    main([trajectory], piece=6.0, out=tmp_path, start=True)
    observables = load_observables(tmp_path / "gas-observables.json")
    assert observables.n_pieces == 10
    assert observables.source == "test"
    assert {"g(r) of O-O", "g(r) of H-O", "g(r) of H-H"} <= set(observables.curves)
    # Nobody zeroed the momentum of these velocities, which has no temperature.
    kelvin = observables.scalars["temperature"].pieces
    assert observables.n_dof == 573
    error = kelvin.std(ddof=1) / np.sqrt(len(kelvin))
    assert abs(kelvin.mean() - 300) < 5 * error
    atoms = read(tmp_path / "gas.xyz")
    assert atoms.pbc.all()
    assert len(atoms) == 192
    scaled = atoms.get_scaled_positions(wrap=False)
    assert scaled.min() > -1e-6
    assert scaled.max() < 1 + 1e-6


def test_a_later_part_of_a_run_under_a_name_of_its_own(trajectory, tmp_path):
    main([trajectory], piece=6.0, out=tmp_path, skip=36.0, name="gas-short")
    observables = load_observables(tmp_path / "gas-short-observables.json")
    assert observables.n_pieces == 4
    assert not (tmp_path / "gas-observables.json").exists()
