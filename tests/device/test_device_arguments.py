"""Devices that are not there, and memory that does not suffice."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from driver_helpers import HORIZON, water
from helpers import small_model

from trajcast_ase.device import engine, memory
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.models.model_file import checked_device
from trajcast_ase.state import state_from_atoms
from trajcast_ase.testing import Ballistic


@pytest.mark.parametrize(
    ("name", "text"),
    [("cuda", "PyTorch finds no CUDA device"), ("quantum", "unknown device 'quantum'")],
)
def test_a_device_that_is_not_there(name, text, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=text):
        TrajCast(water(), Ballistic(HORIZON), device=name, engine="device")


@pytest.mark.parametrize("name", ["mps", "xpu", "meta"])
def test_other_devices_are_refused(name):
    with pytest.raises(ValueError, match=f"unknown device '{name}'; use 'cpu' or"):
        checked_device(name)


def test_an_old_driver_is_named_without_a_warning(monkeypatch):
    def old(*_):
        raise RuntimeError("The NVIDIA driver on your system is too old (11040).\nMore")

    def unavailable():
        warnings.warn("CUDA initialization: the driver is too old", stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    monkeypatch.setattr(torch.cuda, "init", old)
    with pytest.raises(
        ValueError, match=r"device here \(.* is too old .*\); use 'cpu'"
    ):
        checked_device("cuda")


def test_a_number_beyond_the_last_card_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    with pytest.raises(ValueError, match=r"finds 2 CUDA .* the last is 'cuda:1'"):
        checked_device("cuda:2")
    assert checked_device("cuda:0") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert checked_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert checked_device("cuda") == torch.device("cuda", 1)


def test_a_state_elsewhere_than_its_model_is_named():
    model, state = small_model("thermal"), state_from_atoms(water(), "meta")
    with pytest.raises(ValueError, match=r"state is on meta, its model on cpu; move"):
        model.raw_forecast(state)


@pytest.mark.parametrize("engine", ["host", "device"])
def test_a_run_refuses_a_model_on_two_devices(engine):
    model = small_model("thermal")
    model.readout.to("meta")
    with pytest.raises(ValueError, match=r"several devices .*readout.* on meta"):
        TrajCast(water(), model, engine=engine)


class Hungry(Ballistic):
    """A model that finds no memory for more than one system."""

    def raw_forecast(self, state):
        if state.n_atoms > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return super().raw_forecast(state)


def test_a_forecast_without_memory_is_explained():
    atoms, other = water(), water(1)
    other.positions += 5.0
    atoms += other
    with pytest.raises(MemoryError, match=r"has too little .* a forecast of 6 atoms"):
        TrajCast(atoms, Hungry(HORIZON), guards=()).run(1)


def test_what_torch_keeps_counts_as_free(monkeypatch):
    told = []

    class Stride:
        class frame:  # noqa: N801
            device, n_atoms = torch.device("cuda", 0), 10

    monkeypatch.setattr(memory, "estimated_bytes", lambda _: 1000)
    monkeypatch.setattr(memory, "require", lambda *given: told.append(given))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 1500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 400)
    memory.check_memory(Stride())
    assert told == [(1000, 1200, 10, torch.device("cuda", 0))]


def test_a_new_graph_gets_the_memory_of_the_one_before(monkeypatch):
    """A run that finds none can be gone on with where there is some again."""
    made, runner = [], engine.runner

    def checked(*given):
        made.append(hasattr(dyn._engine, "_runner"))
        if len(made) == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return runner(*given)

    monkeypatch.setattr(engine, "runner", checked)
    atoms = water()
    dyn = TrajCast(atoms, Ballistic(HORIZON), guards=(), engine="device")
    dyn.run(2)
    atoms.set_masses(2 * atoms.get_masses())
    with pytest.raises(MemoryError, match="too little memory for a stride of 3 atoms"):
        dyn.run(2)
    dyn.run(2)
    assert made == [False] * 3
    assert dyn.nsteps == 4
    assert np.isfinite(atoms.positions).all()
