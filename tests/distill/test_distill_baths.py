"""Which baths are tried for a model, and which of them it recommends."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from distill_system import STIFFNESS
from rich.console import Console

from trajcast_ase import load_model
from trajcast_ase.data import paracetamol, quartz, water
from trajcast_ase.distill import distill, fitting, speed
from trajcast_ase.distill.bath import Judged, Tried, passed_alike, weakest
from trajcast_ase.distill.baths import Bath, baths_to_try, is_of_molecules, stored_bath
from trajcast_ase.distill.effort import FixedEffort
from trajcast_ase.distill.request import Fixed

BOND, SPACING, REPULSION = 1.1, 3.2, 0.02


class Diatoms(Calculator):
    """Molecules of atoms 0 and 1, 2 and 3, ... that repel each other softly."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  ASE's way

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        vectors = self.atoms.positions[:, None] - self.atoms.positions[None]
        edge = self.atoms.cell.lengths()
        vectors -= edge * np.round(vectors / edge)
        lengths = np.sqrt((vectors**2).sum(-1)) + 10 * np.eye(len(self.atoms))
        molecule = np.arange(len(self.atoms)) // 2
        bonded = molecule[:, None] == molecule[None]
        stretch = np.where(bonded, lengths - BOND, np.minimum(lengths - SPACING, 0.0))
        stretch[lengths > 9] = 0.0
        stiffness = np.where(bonded, STIFFNESS, REPULSION)
        self.results["energy"] = float(0.25 * (stiffness * stretch**2).sum())
        pull = -(stiffness * stretch / lengths)[..., None] * vectors
        self.results["forces"] = pull.sum(axis=1)


def diatoms():
    """Return eight molecules of nitrogen in a cube."""
    places = np.array(list(np.ndindex(2, 2, 2))) * SPACING
    ends = np.array([[0.0, 0.0, 0.0], [BOND, 0.0, 0.0]])
    positions = (places[:, None] + ends[None]).reshape(-1, 3)
    return Atoms("N16", positions, cell=[2 * SPACING + BOND] * 3, pbc=True)


def rows(*misses, allowed=1.0):
    """Return rows of a short report that miss by these, and one without pieces."""
    judged = [
        Judged(f"row {k}", m, allowed, m <= allowed) for k, m in enumerate(misses)
    ]
    return (*judged, Judged("longest bond", 0.0, 0.0, passes=True))


def test_the_weakest_bath_with_the_most_rows_is_taken():
    tried = [
        Tried(Bath(5000.0), rows(0.5, 1.5)),
        Tried(Bath(2000.0), rows(0.5, 0.5)),
        Tried(Bath(500.0), rows(0.5, 0.5)),
    ]

    assert passed_alike(tried) == [2, 3, 3]
    assert weakest(tried)[0] == Bath(2000.0)
    assert weakest([Tried(Bath(5000.0), ()), Tried(Bath(500.0), ())])[0] == Bath(500.0)


def test_a_bath_does_not_win_by_wider_limits():
    tried = [
        Tried(Bath(5000.0), rows(1.5, 0.5, allowed=2.0)),
        Tried(Bath(2000.0), rows(1.1, 0.9, allowed=1.0)),
        Tried(Bath(500.0), rows(0.8, 0.9, allowed=1.0)),
    ]

    assert passed_alike(tried) == [2, 2, 3]
    bath, why = weakest(tried)
    assert bath == Bath(500.0)
    assert "5000 fs 2 of 3, Langevin 2000 fs 2 of 3, Langevin 500 fs 3 of 3" in why


def test_no_friction_is_weaker_than_any():
    good, bad = rows(0.5, 0.5), rows(0.5, 1.5)

    assert weakest([Tried(Bath(None), good), Tried(Bath(5e3), good)])[0] == Bath(None)
    assert weakest([Tried(Bath(None), bad), Tried(Bath(5e3), good)])[0] == Bath(5e3)
    assert weakest([Tried(Bath(None), ()), Tried(Bath(5e3), ())])[0] == Bath(5e3)


@pytest.mark.parametrize(
    ("n_baths", "with_molecules", "without"),
    [
        (5, (None, 5000, 2000, 1000, 500), (5000, 2000, 1000, 500)),
        (4, (None, 5000, 1000, 500), (5000, 2000, 1000, 500)),
        (3, (None, 2000, 500), (5000, 1000, 500)),
        (2, (None, 1000), (2000, 500)),
        (1, (), ()),
        (0, (), ()),
    ],
)
def test_baths_are_as_many_as_there_is_time_for(n_baths, with_molecules, without):
    def times(of_molecules):
        found = baths_to_try(n_baths, of_molecules=of_molecules)
        return tuple(bath.langevin_fs for bath in found)

    assert times(True) == with_molecules
    assert times(False) == without


def test_molecules_have_a_bath_of_their_own():
    argon = bulk("Ar", cubic=True) * 2
    assert is_of_molecules(water())
    assert not any(map(is_of_molecules, (argon, quartz(), paracetamol())))
    assert str(Bath(None).setting(5.0)) == "MolecularCSVR 50 fs"
    assert str(Bath(2000.0).setting(7.0)) == "Langevin 2000 fs, CSVR 70 fs"


@pytest.mark.parametrize("bath", [Bath(None), Bath(5000.0)])
def test_a_bath_is_stored_by_its_time(bath):
    assert stored_bath(json.loads(json.dumps(bath.langevin_fs))) == bath


@pytest.mark.slow
def test_a_liquid_of_molecules_tries_the_bath_without_friction(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "MEASURED_S", 0.05)
    monkeypatch.setattr(fitting, "PROBED_S", 0.0)
    outcome = distill(
        structure=diatoms(),
        calculator=Diatoms,
        temperature_K=100.0,
        out=tmp_path / "nitrogen",
        fixed=Fixed(5.0, 30.0, 3.5, 8, 2),
        effort=FixedEffort(
            n_md_steps=8_000, n_screening_steps=15, n_training_steps=300, n_strides=220
        ),
        console=Console(quiet=True),
    )

    state = json.loads((tmp_path / "nitrogen" / "distill.json").read_text())
    bath = state["stages"]["bath"]
    assert bath["result"]["tried_fs"] == [None, 5000.0, 2000.0, 1000.0, 500.0]
    assert "5 baths" in bath["line"] or "no short run has held" in bath["line"]
    found = stored_bath(bath["result"]["langevin_fs"])
    horizon = load_model(outcome.model).config.horizon_fs
    recommended = load_model(outcome.model).header.thermostat
    assert str(recommended) == str(found.setting(horizon))
