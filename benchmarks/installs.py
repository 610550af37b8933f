"""Builds the package, checks it, and installs it from its files alone.

    python benchmarks/installs.py build
    python benchmarks/installs.py mace

``build`` makes wheel and sdist, runs ``twine check`` on them, and installs each into an
environment of its own, away from the source. ``mace`` installs the package beside the
newest mace-torch, which pins e3nn, and makes strides with a MACE calculator of random
weights attached. Both fetch from PyPI, gigabytes with its CUDA build of torch: set
PIP_EXTRA_INDEX_URL to the CPU builds where they will do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
STRIDES = """
import numpy as np
from trajcast_ase import TrajCast, load_model
from trajcast_ase.data import paracetamol
from trajcast_ase.momenta import draw_momenta

rng, model = np.random.default_rng(1), load_model("paracetamol-7fs")
atoms = paracetamol()
draw_momenta(atoms, 300.0, rng, model.conservation)
{calculator}
thermostat = model.recommended_thermostat(300.0, rng)
with TrajCast(atoms, model, thermostat=thermostat, logfile="-", loginterval=5) as run:
    run.run(10)
"""
MACE = """
import e3nn, mace, torch
from e3nn import o3
from mace import modules
from mace.calculators import MACECalculator

block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
network = modules.ScaleShiftMACE(
    r_max=4.0,
    num_bessel=4,
    num_polynomial_cutoff=5,
    max_ell=2,
    interaction_cls=block,
    interaction_cls_first=block,
    num_interactions=2,
    num_elements=4,
    hidden_irreps=o3.Irreps("8x0e+8x1o"),
    MLP_irreps=o3.Irreps("8x0e"),
    atomic_energies=np.zeros(4),
    avg_num_neighbors=8.0,
    atomic_numbers=[1, 6, 7, 8],
    correlation=2,
    gate=torch.nn.functional.silu,
    atomic_inter_scale=1.0,
    atomic_inter_shift=0.0,
)
atoms.calc = MACECalculator(
    models=[network.double()], device="cpu", default_dtype="float64"
)
print("mace-torch", mace.__version__, "e3nn", e3nn.__version__)
print("torch", torch.__version__)
print("largest force", abs(atoms.get_forces()).max(), "eV/Å")
"""


def main() -> None:
    """Run one of the two checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=["build", "mace"])
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        (build if check == "build" else beside_mace)(Path(folder))


def build(folder: Path) -> None:
    """Build wheel and sdist, check and install them."""
    tools = environment(folder / "tools", "build", "twine")
    call(tools, "-m", "build", str(ROOT), "--outdir", str(folder / "dist"))
    files = sorted((folder / "dist").iterdir())
    call(tools, "-m", "twine", "check", "--strict", *map(str, files))
    for file in files:
        fresh = environment(folder / file.suffix.strip("."), str(file))
        call(fresh, "-c", STRIDES.format(calculator=""), cwd=folder)
        call(fresh, "-m", "trajcast_ase", "--help", cwd=folder)
        print(f"{file.name} installs and runs")


def beside_mace(folder: Path) -> None:
    """Install the package beside mace-torch, and use both."""
    python = environment(folder / "mace", "mace-torch", str(ROOT))
    call(python, "-c", STRIDES.format(calculator=MACE), cwd=folder)
    call(python, "-m", "pip", "check")


def environment(folder: Path, *packages: str) -> Path:
    """Return the interpreter of a new environment with `packages`."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    call(python, "-m", "pip", "install", "--quiet", *packages)
    return python


def call(python: Path, *arguments: str, cwd: Path = ROOT) -> None:
    """Run an interpreter; raise where it fails."""
    subprocess.run([python, *arguments], cwd=cwd, check=True)  # noqa: S603  our own


if __name__ == "__main__":
    main()
