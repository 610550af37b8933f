"""A LAMMPS dump becomes a trajectory as the how-to on validation says."""

import numpy as np
from ase.io import read, write

from trajcast_ase.trajectory import read_frames

STRIDE_FS = 5.0


def dump_text(positions: np.ndarray, velocities: np.ndarray, box: float) -> str:
    """Return a dump in real units: types 1 (H) and 2 (O), Å and Å/fs."""
    lines = []
    for step, (x, v) in enumerate(zip(positions, velocities, strict=True)):
        lines += [
            "ITEM: TIMESTEP",
            f"{10 * step}",
            "ITEM: NUMBER OF ATOMS",
            f"{len(x)}",
        ]
        lines += ["ITEM: BOX BOUNDS pp pp pp"] + 3 * [f"0.0 {box}"]
        lines += ["ITEM: ATOMS id type xu yu zu vx vy vz"]
        lines += [
            " ".join([f"{k + 1}", f"{2 if k == 0 else 1}", *(f"{c:.15g}" for c in row)])
            for k, row in enumerate(np.concatenate([x, v], axis=1))
        ]
    return "\n".join(lines) + "\n"


def test_dump_in_real_units(tmp_path):
    rng = np.random.default_rng(0)
    positions = rng.uniform(1.0, 9.0, (4, 3, 3))
    velocities = rng.normal(0.0, 0.01, (4, 3, 3))
    dump = tmp_path / "dump.lammpstrj"
    dump.write_text(dump_text(positions, velocities, 10.0))
    frames = read(
        dump,
        index=":",
        format="lammps-dump-text",
        units="real",
        specorder=["H", "O"],
    )
    write(tmp_path / "mine.traj", frames)
    found = read_frames(tmp_path / "mine.traj", STRIDE_FS)
    assert found.atomic_numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(found.positions, positions, rtol=1e-12)
    np.testing.assert_allclose(found.velocities, velocities, rtol=1e-9)
    np.testing.assert_allclose(found.cell, 10.0 * np.eye(3))
    assert found.pbc.all()
