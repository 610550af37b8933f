"""What ``benchmarks/reference_md/observables.py`` distills from a run."""

import json
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
        file.attrs.update({"system": "gas", "source": "test", "stride_fs": STRIDE})
        file.attrs["temperature_K"] = 300.0
        file["numbers"], file["masses"] = liquid.numbers, liquid.atom_masses
        file["cell"], file["pbc"] = BOX * np.eye(3), np.ones(3, dtype=bool)
        shaken = lattice(4, rng) + rng.normal(0.0, 0.01, (N_FRAMES, 192, 3))
        file["positions"] = shaken + np.repeat(walks, 3, axis=1)
        file["velocities"] = sigma * rng.normal(size=(N_FRAMES, 192, 3))
        file["potential_energy"] = rng.normal(-28.0, 0.6, N_FRAMES)
    return path


def test_observables_of_a_periodic_run(trajectory, tmp_path):
    main(trajectory, tmp_path, diffusing="O")
    values = json.loads((tmp_path / "gas-reference.json").read_text("utf-8"))
    # Nobody zeroed the momentum of these velocities: 576 degrees of freedom.
    temperature = values["temperature"]
    assert values["n_dof"] == 573
    assert abs(temperature["mean"] - 300 * 576 / 573) < 5 * temperature["error"]
    assert values["bonds_A"]["H-O"]["mean"]["mean"] == pytest.approx(1.012, abs=1e-3)
    assert values["angles_deg"]["H-O-H"]["mean"]["mean"] == pytest.approx(
        113.24, abs=0.1
    )
    assert set(values["rdf"]["g"]) == {"H-H", "H-O", "O-O"}
    # 0.002² Å² in a stride along each axis is 2 D t.
    found = values["diffusion"]["coefficient_1e-9_m2_s"]
    assert abs(found["mean"] - 0.002**2 / (2 * STRIDE) * 1e4) < 5 * found["error"]
    atoms = read(tmp_path / "gas.xyz")
    assert atoms.pbc.all()
    assert len(atoms) == 192
    scaled = atoms.get_scaled_positions(wrap=False)
    assert scaled.min() > -1e-6
    assert scaled.max() < 1 + 1e-6
