"""A few of the damaged files that ``benchmarks/hostile/models.py`` makes."""

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "hostile"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

from models import KINDS, Tally  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_or_work(kind, tmp_path):
    tally = KINDS[kind](tmp_path, 25, np.random.default_rng(2))
    assert tally.faults == []
    assert tally.refused > 12
    assert tally.refused + tally.worked == 25


@pytest.mark.parametrize(
    ("error", "n_faults"),
    [
        (KeyError("a"), 1),
        (ValueError("without the file"), 1),
        (ValueError("bad.toml: " + "x" * 1000), 1),
        (ValueError("bad.toml: steps"), 0),
    ],
)
def test_a_fault_is_seen(error, n_faults):
    def fail() -> bool:
        raise error

    tally = Tally()
    tally.count("none", fail, (ValueError,), Path("bad.toml"))
    assert len(tally.faults) == n_faults
