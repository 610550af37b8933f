"""What a driver needs at run time, and what only files and commands do."""

import subprocess
import sys
import tomllib
from pathlib import Path

HEAVY = (
    "pydantic",
    "typer",
    "rich",
    "h5py",
    "yaml",
    "e3nn",
    "matplotlib",
    "MDAnalysis",
    "triton",
)


def loaded_by(code, names):
    """Return which modules a program has imported at its end."""
    report = f"import sys; print([n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_a_run_needs_neither_files_nor_commands():
    code = """
import numpy as np
from trajcast_ase import CSVR, TrajCast, load_model
from trajcast_ase.data import paracetamol
from trajcast_ase.momenta import draw_momenta
atoms, model = paracetamol(), load_model("paracetamol-7fs")
draw_momenta(atoms, 300.0, np.random.default_rng(1), model.conservation)
TrajCast(atoms, model, thermostat=CSVR(300, 7.1)).run(1)
"""
    assert loaded_by(code, HEAVY) == "[]"


def test_the_help_needs_no_numbers():
    # typer itself looks for pydantic
    heavy = ("torch", "numpy", "ase", "scipy", *HEAVY[3:])
    code = """
from trajcast_ase.cli import app
try:
    app(["run", "--help"])
except SystemExit:
    pass
"""
    assert loaded_by(code, heavy) == "[]"
    assert loaded_by("import trajcast_ase", (*heavy, "typer", "rich")) == "[]"


def test_no_library_is_asked_for_that_other_packages_pin():
    # mace-torch wants e3nn 0.4.4 exactly; the Wigner symbols are stored here.
    path = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(path.read_text("utf-8"))["project"]
    needed = [one for one in project["dependencies"] if one.startswith("e3nn")]
    assert needed == []
