"""``fallback.py``, small: a model that is trained too little, with forces."""

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

from fallback import trained, with_forecasts  # noqa: E402


@pytest.mark.slow
def test_forces_turn_a_run_that_dies_into_one_of_the_right_temperature(tmp_path):
    model = trained(tmp_path, steps=60, horizon_fs=28.0, seed=1)
    alone = with_forecasts(model, 300, 4, 2, None)
    assert "is refused" in alone.ending
    assert alone.strides < 300
    helped = with_forecasts(model, 300, 4, 2, 0.05)
    assert helped.strides == 300
    assert 0.2 < helped.by_forces < 0.99
    # 93 degrees of freedom and 8 ps, some 20 independent values: 10 K of error.
    assert np.mean(helped.temperatures[50:]) == pytest.approx(300.0, abs=40.0)
