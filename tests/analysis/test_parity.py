"""Parity data against known errors."""

from __future__ import annotations

import numpy as np
import pytest

from trajcast_ase.analysis.parity import parity


def test_errors_by_element():
    true = np.array([[[1.0, -1.0, 2.0], [2.0, 2.0, -2.0]]])
    forecast = true + np.array([[[0.1, -0.1, 0.1], [0.0, 0.3, 0.0]]])
    result = parity(true, forecast, np.array([1, 8]), name="velocity", unit="Å/fs")
    assert result.mae == pytest.approx({"H": 0.1, "O": 0.1})
    assert result.relative_mae == pytest.approx({"H": 0.3 / 4, "O": 0.05})
    expected = np.array([[1.0, 1.1], [-1.0, -1.1], [2.0, 2.1]])
    assert result.by_element["H"] == pytest.approx(expected)
    assert result.limit == pytest.approx(2.3)


@pytest.mark.parametrize(
    ("true", "forecast", "message"),
    [
        (np.ones((2, 1, 3)), np.ones((3, 1, 3)), "differ in shape"),
        (np.zeros((2, 1, 3)), np.ones((2, 1, 3)), "of H is zero"),
        (np.ones((2, 1, 3)), np.full((2, 1, 3), np.inf), "not finite"),
    ],
)
def test_bad_input_is_refused_with_the_reason(true, forecast, message):
    with pytest.raises(ValueError, match=message):
        parity(true, forecast, np.array([1]), name="velocity", unit="Å/fs")
