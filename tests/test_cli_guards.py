"""``trajcast run --guards``."""

import ase.io
import pytest
from ase.build import molecule
from helpers import small_model
from test_cli import call, error_of

from trajcast_ase.data import paracetamol
from trajcast_ase.models.model_file import save_model

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::trajcast_ase.dynamics.domain.OutsideTrainingWarning"
    ),
    pytest.mark.filterwarnings("ignore::trajcast_ase.guards.answer.GuardWarning"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with a molecule that paracetamol's model does not know."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("gas.xyz", molecule("N2O"))


def settings(*more):
    return (
        *("run", "gas.xyz", "--model", "paracetamol-7fs", "--temperature", 300),
        *("--seed", 3, "--steps", 5, "--interval", 1, "--out", "md", *more),
    )


def test_a_stop_names_its_evidence():
    message = " ".join(error_of(*settings()).split())
    assert "is refused" in message
    assert "md.evidence.extxyz" in message
    frames = ase.io.read("md.evidence.extxyz", index=":")
    assert frames[-1].info["verdict"] == "refused"
    assert "exists; choose another --out" in error_of(*settings())


def test_objections_are_counted_where_they_only_warn():
    stdout, _ = call(*settings("--guards", "warn"))
    assert "warning: guards object to forecasts of 5 strides: " in stdout
    assert "KeptBonds" in stdout or "LargestKick" in stdout


def test_guards_can_be_left_out():
    stdout, _ = call(*settings("--guards", "off"))
    assert "guards" not in stdout


def test_going_back_finds_a_stretched_bond():
    atoms = paracetamol()
    hydrogen = int(atoms.symbols.search("H")[0])
    others = [k for k in range(len(atoms)) if k != hydrogen]
    nearest = others[int(atoms.get_distances(hydrogen, others).argmin())]
    atoms.set_distance(nearest, hydrogen, 1.35, fix=0)
    ase.io.write("gas.xyz", atoms)
    stdout, _ = call(*settings("--guards", "warn", "--reversal-every", 1))
    assert "ReversalGuard" in stdout
    again = ("--guards", "off", "--reversal-every", 1, "--overwrite")
    message = error_of(*settings(*again))
    assert "leave one of them out" in message


def test_going_back_needs_limits_of_the_model(tmp_path):
    save_model(small_model(), tmp_path / "bare.trajcast")
    message = error_of(
        *("run", "gas.xyz", "--model", "bare.trajcast", "--temperature", 300),
        *("--steps", 2, "--reversal-every", 2),
    )
    assert "trajcast evaluate" in message
    assert not list(tmp_path.glob("*.traj"))
