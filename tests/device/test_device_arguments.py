"""Devices that are not there."""

from __future__ import annotations

import pytest
import torch
from driver_helpers import HORIZON, water

from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.testing import Ballistic


@pytest.mark.parametrize(
    ("name", "text"),
    [("cuda", "PyTorch finds no CUDA device"), ("quantum", "unknown device 'quantum'")],
)
def test_a_device_that_is_not_there(name, text, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=text):
        TrajCast(water(), Ballistic(HORIZON), device=name, engine="device")
