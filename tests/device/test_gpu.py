"""What only a CUDA device can show: the graph, its exactness, and its memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import units
from ase.constraints import FixAtoms, FixCom
from device_helpers import kicks
from driver_helpers import snapshot, water
from helpers import small_model

from trajcast_ase.constraints import constraints_of
from trajcast_ase.device.capture import Calls, Graph
from trajcast_ase.device.engine import Engine
from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.state import state_from_atoms
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin

pytestmark = pytest.mark.gpu
TAUT = 50.5 * units.fs


def baths():
    rng = np.random.default_rng(5)
    return [Langevin(300, 0.1 / TAUT, rng), CSVR(300, TAUT, rng)]


def run(strides, device="cuda"):
    """Return a molecule after strides on a device."""
    atoms = water()
    TrajCast(
        atoms,
        small_model("thermal", torch.float64),
        thermostat=baths(),
        guards=(),
        device=device,
        engine="device",
    ).run(strides)
    return atoms


@pytest.mark.parametrize("changes", [{}, {"surroundings_cutoff": 5.0}, {"lmax": 3}])
def test_a_graph_is_the_calls_that_it_was_captured_from(changes):
    network = small_model("thermal", torch.float64, **changes).to("cuda")
    engine = Engine(network, baths(), network.horizon_fs * units.fs)
    engine.start(state_from_atoms(water(), "cuda"))
    assert isinstance(engine._runner, Graph)
    calls = Calls(engine._stride, engine._start)
    engine._runner.run(5)
    calls.run(5)
    for graph, call in zip(
        engine._runner.motion.tensors(), calls.motion.tensors(), strict=True
    ):
        torch.testing.assert_close(graph, call, rtol=1e-10, atol=1e-12)


def test_a_graph_honours_constraints_and_noise():
    network = small_model("thermal", torch.float64).to("cuda")
    atoms = water()
    atoms.set_constraint([FixAtoms([1]), FixCom()])
    engine = Engine(network, baths(), network.horizon_fs * units.fs, kicks())
    state, held = state_from_atoms(atoms, "cuda"), constraints_of(atoms, "cuda")
    engine.start(state, constraints=held)
    calls = Calls(engine._stride, engine._start)
    engine.advance(5, [0])
    calls.run(5)
    for graph, call in zip(
        engine._runner.motion.tensors(), calls.motion.tensors(), strict=True
    ):
        torch.testing.assert_close(graph, call, rtol=1e-10, atol=1e-12)
    assert torch.equal(engine.now().positions[1], state.positions[1])


def test_reruns_are_bit_equal_and_near_those_of_the_cpu():
    one, other, host = run(20), run(20), run(20, "cpu")
    assert snapshot(one) == snapshot(other)
    np.testing.assert_allclose(one.positions, host.positions, rtol=0, atol=1e-8)


def test_a_system_without_room_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    with pytest.raises(MemoryError, match="atoms fit"):
        run(1)
