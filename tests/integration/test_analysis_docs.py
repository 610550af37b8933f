"""The code of the how-to about analysis runs, on trajectories of made-up motion."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.spacegroup import crystal

import trajcast_ase
from trajcast_ase.data import paracetamol
from trajcast_ase.testing import Ballistic

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"
if not PAGE.exists():
    pytest.skip("needs the source tree", allow_module_level=True)


def write_frames(
    path: Path, atoms: Atoms, n_frames: int, stride_fs: float, period: float = 6.0
) -> None:
    """Write a trajectory of atoms that swing about their sites (`period` frames)."""
    rng = np.random.default_rng(len(atoms))
    phases = rng.uniform(0.0, 2 * np.pi, size=(1, len(atoms), 3))
    phases = phases + 2 * np.pi / period * np.arange(n_frames)[:, None, None]
    swings = 0.02 * rng.normal(size=(1, len(atoms), 3))
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "trajcast-md"
        file["positions"] = atoms.positions + swings * np.sin(phases)
        file["velocities"] = 2 * np.pi / (period * stride_fs) * swings * np.cos(phases)
        file["time"] = stride_fs * np.arange(n_frames)
        file["numbers"], file["masses"] = atoms.numbers, atoms.get_masses()
        file["cell"], file["pbc"] = atoms.cell.array, atoms.pbc


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    water = molecule("H2O")
    water.set_cell(4.5 * np.eye(3))
    water.pbc = True
    quartz = crystal(
        ["Si", "O"],
        [(0.4697, 0.0, 2 / 3), (0.4135, 0.2669, 0.7858)],
        spacegroup=154,
        cellpar=[4.94, 4.94, 5.45, 90, 90, 120],
    ).repeat(2)
    write_frames(tmp_path / "water.h5", water.repeat(2), 1500, 100.0)
    write_frames(tmp_path / "paracetamol.h5", paracetamol(), 500, 7.0)
    write_frames(tmp_path / "quartz.h5", quartz, 50, 30.0)
    monkeypatch.chdir(tmp_path)
    # Free flight in place of the bundled model: its errors are known.
    monkeypatch.setattr(trajcast_ase, "load_model", lambda _: Ballistic(7.0))
    text = PAGE.read_text(encoding="utf-8")
    code = "\n".join(
        re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    )
    found: dict[str, object] = {}
    exec(compile(code, PAGE.name, "exec"), found)  # noqa: S102  the page's own code
    assert (tmp_path / "rdf.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "kinetic.pdf").read_bytes().startswith(b"%PDF")
    assert found["bonded"].mean == pytest.approx(2.0)
    assert found["angles"]["Si-O-Si"].mean.mean == pytest.approx(143.7, abs=1.0)
    assert "resolve up to" in capsys.readouterr().out
