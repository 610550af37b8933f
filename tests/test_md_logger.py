"""The log table without a calculator."""

import io

import pytest
from ase.md.logger import MDLogger
from driver_helpers import HORIZON, FreeFlight, water

from trajcast_ase.driver import TrajCast
from trajcast_ase.md_logger import ForceFreeLogger
from trajcast_ase.testing import Ballistic


@pytest.mark.parametrize("peratom", [False, True])
@pytest.mark.parametrize("with_time", [False, True])
def test_columns_are_those_of_ase(peratom, with_time):
    atoms, twin = water(), water()
    twin.calc = FreeFlight()
    rows = []
    for kind, system in ((ForceFreeLogger, atoms), (MDLogger, twin)):
        dyn = TrajCast(system, Ballistic(HORIZON))
        stream = io.StringIO()
        kind(dyn if with_time else None, system, stream, peratom=peratom)()
        rows.append(stream.getvalue().splitlines())
    ours, theirs = ([r[0].split(), r[1].split()] for r in rows)
    assert ours[0] == theirs[0]
    assert ours[1][with_time : with_time + 2] == ["nan", "nan"]
    del ours[1][with_time : with_time + 2], theirs[1][with_time : with_time + 2]
    assert ours[1] == theirs[1]


def test_stress_columns_are_nan():
    stream = io.StringIO()
    ForceFreeLogger(None, water(), stream, stress=True)()
    header, row = stream.getvalue().splitlines()
    assert "stress [GPa]" in header
    assert row.split()[4:] == ["nan"] * 6


def test_calculator_gives_energies():
    atoms = water()
    atoms.calc = FreeFlight()
    stream = io.StringIO()
    ForceFreeLogger(None, atoms, stream)()
    assert float(stream.getvalue().splitlines()[1].split()[1]) == 0.0
