"""The log table: ASE's columns, the temperature of the dynamics."""

import io

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.md.logger import MDLogger
from driver_helpers import HORIZON, FreeFlight, water

from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.dynamics.md_logger import ForceFreeLogger
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.testing import Ballistic


def logged(kind, atoms, **options):
    """Return header and row of a log."""
    dyn, stream = TrajCast(atoms, Ballistic(HORIZON)), io.StringIO()
    kind(dyn, atoms, stream, **options)()
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("peratom", [False, True])
@pytest.mark.parametrize("stress", [False, True])
def test_columns_are_those_of_ase_but_for_the_temperature(peratom, stress):
    atoms = water()
    atoms.set_cell(np.eye(3) * 9.0)
    atoms.pbc = True
    atoms.calc = LennardJones()
    options = {"peratom": peratom, "stress": stress}
    ours, theirs = (
        logged(kind, atoms, **options) for kind in (ForceFreeLogger, MDLogger)
    )
    assert ours[0] == theirs[0]
    kelvin = ours[0].split().index("T[K]")
    rows = [line[1].split() for line in (ours, theirs)]
    expected = TrajCast(atoms, Ballistic(HORIZON)).get_temperature()
    assert rows[0].pop(kelvin) == f"{expected:.1f}" != rows[1].pop(kelvin)
    assert rows[0] == rows[1]


def test_a_molecule_at_300_kelvin_reads_300(tmp_path):
    atoms = paracetamol()
    model = Ballistic(HORIZON)
    draw_momenta(atoms, 300.0, np.random.default_rng(1), model.conservation)
    atoms.set_momenta(atoms.get_momenta() * np.sqrt(270 / atoms.get_temperature()))
    assert atoms.get_temperature() == pytest.approx(270.0)
    with TrajCast(atoms, model, logfile=tmp_path / "md.log") as dynamics:
        dynamics.run(0)
    _, row = (tmp_path / "md.log").read_text(encoding="utf-8").splitlines()
    assert row.split()[-1] == "300.0"


def test_without_a_calculator_energies_and_stresses_are_nan():
    header, row = logged(ForceFreeLogger, water(), stress=True)
    assert "stress [GPa]" in header
    assert row.split()[1:3] == ["nan"] * 2
    assert row.split()[5:] == ["nan"] * 6


def test_calculator_gives_energies():
    atoms = water()
    atoms.calc = FreeFlight()
    assert float(logged(ForceFreeLogger, atoms)[1].split()[2]) == 0.0
