"""A stride as one function: it reads and copies nothing, and is that of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import units
from ase.constraints import FixAtoms, FixCom
from device_helpers import kicks
from driver_helpers import water
from fakes import NoTransfers, OneOrder, without_numbers
from helpers import (
    join,
    make_state,
    needs_compiler,
    random_state,
    relative_error,
    small_model,
)
from scipy.stats import chi2, kstest

from trajcast_ase.conservation import Conservation, RigidBodies, com_velocity
from trajcast_ase.constraints import constraints_of
from trajcast_ase.device.engine import Engine, check_one_device
from trajcast_ase.device.forecast import Rooms
from trajcast_ase.device.layout import CHUNK, LaidOutState
from trajcast_ase.device.memory import estimated_bytes, require
from trajcast_ase.device.neighbors import Room
from trajcast_ase.device.plans import plan_search
from trajcast_ase.kinetics import kinetic_energies
from trajcast_ase.network.triton import programs
from trajcast_ase.network.triton.backend import Triton
from trajcast_ase.state import state_from_atoms
from trajcast_ase.streams import Streams
from trajcast_ase.stride import conserved_forecast
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.adaptive import AdaptiveLangevin
from trajcast_ase.thermostats.csvr import CSVR
from trajcast_ase.thermostats.langevin import Langevin

TAUT = 50.5 * units.fs
NETWORKS = {
    "thermal": {},
    "direction": {"encoding": "direction"},
    "surroundings": {"surroundings_cutoff": 5.0},
    "lmax 3": {"lmax": 3},
    "fixed": {"fixed_angular_momentum": (0.0, 0.1, 0.0)},
}
EXTRAS = {
    "noise": {"noise": True},
    "fixed atoms": {"constraint": [FixAtoms([1])]},
    "resting and noise": {"constraint": [FixCom()], "noise": True},
}


def started(network, atoms, thermostats=(), noise=None):
    """Return an engine that has taken over a state."""
    engine = Engine(network, thermostats, network.horizon_fs * units.fs, noise)
    constraints = constraints_of(atoms, network.device)
    engine.start(state_from_atoms(atoms, network.device), constraints=constraints)
    return engine


@pytest.mark.parametrize("name", [*NETWORKS, *EXTRAS])
def test_a_stride_reads_and_copies_nothing(name):
    network = small_model(**{"encoding": "thermal"} | NETWORKS.get(name, {}))
    extras, atoms = EXTRAS.get(name, {}), water()
    atoms.set_constraint(extras.get("constraint"))
    rng = np.random.default_rng(0)
    thermostats = [
        CSVR(300, TAUT, rng),
        Langevin(300, 1 / TAUT, rng),
        AdaptiveLangevin(300, 1 / TAUT, TAUT, rng),
    ]
    noise = kicks() if "noise" in extras else None
    engine = started(network.set_backend("reference"), atoms, thermostats, noise)
    stride, motion = without_numbers((engine._stride, engine._start))
    with torch.no_grad():
        stride(motion)  # as before a capture
    with torch.no_grad(), NoTransfers(), OneOrder():
        after = stride(motion)
    shapes = [(one.shape, one.dtype, one.device) for one in motion.tensors()]
    assert [(x.shape, x.dtype, x.device) for x in after.tensors()] == shapes
    with pytest.raises(RuntimeError, match="meta"):
        bool(after.now[0, 0, 0] > 0)


@pytest.mark.parametrize("name", ["thermal", "surroundings"])
def test_a_stride_with_triton_reads_and_copies_nothing(name, monkeypatch):
    """Whatever is not a kernel; those have tests of their own."""
    launched = []

    class Kernel:
        def __getitem__(self, grid):
            return lambda *arguments, **_: launched.append(arguments)

    monkeypatch.setattr(programs, "_program", lambda *_: Kernel())
    monkeypatch.setattr(Triton, "computes_on", lambda *_: True)
    changes = {"lmax": 1, "n_layers": 2} | NETWORKS[name]
    network = small_model("thermal", torch.float32, **changes).set_backend(Triton())
    engine = started(network, water(), [CSVR(300, TAUT, np.random.default_rng(0))])
    assert not engine._static.lists_surroundings
    stride, motion = without_numbers((engine._stride, engine._start))
    launched.clear()
    with torch.no_grad(), NoTransfers(), OneOrder():
        after = stride(motion)
    assert after.now.device.type == "meta"
    # Five of each layer, places of lengths and speeds, and the surroundings.
    assert len(launched) == 2 * 5 + 2 + (name == "surroundings")
    tensors = [a for one in launched for a in one if isinstance(a, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("pbc", [False, True])
def test_sums_on_a_card_have_one_order(pbc):
    """Also in strides that the host makes: here, where tensors have no numbers."""
    rng = np.random.default_rng(0)
    cell = 9.0 * np.eye(3)
    states = [random_state(rng, n, cell=cell if pbc else None, pbc=pbc) for n in (4, 3)]
    for state in (join(states), states[0]):
        bare = without_numbers(state)
        values = bare.positions
        groups = bare.atomic_numbers
        with OneOrder():
            assert bare.sums(values).shape == (state.n_systems, 3)
            assert bare.group_sums(values, groups, 10).shape == (
                10 * state.n_systems,
                3,
            )
    with OneOrder(), pytest.raises(AssertionError, match="has no order"):
        torch.zeros(2).index_add(0, torch.zeros(3).long(), torch.ones(3))


def test_the_probe_sees_a_copy_from_the_host():
    with NoTransfers(), pytest.raises(AssertionError, match="cpu"):
        torch.ones(3).to("meta")


@needs_compiler
@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_surroundings_are_those_of_the_host_in_float32(backend):
    """By the backend's sums, by a list of pairs with tables, and with perceptrons."""
    network = small_model("thermal", torch.float32, surroundings_cutoff=5.0)
    network.set_backend("cpp")
    rng = np.random.default_rng(3)
    state = random_state(rng, 9, cell=4.1 * np.eye(3), pbc=True)
    with torch.no_grad():
        expected, _ = conserved_forecast(network, state)
    network.set_backend(backend)
    engine = Engine(network, (), 1.0)
    engine.start(state)
    static = engine._static
    assert static.lists_surroundings == (backend == "reference")
    models = [static]
    if backend == "cpp":
        listed = Rooms(Room(4000, 0), 2000)
        plan = plan_search(state, network.config.reach)
        models.append(replace(static, plan=plan, rooms=listed, lists_surroundings=True))
    for model in models:
        with torch.no_grad():
            placed, needed = model.at(LaidOutState.of(state))
            found, _ = conserved_forecast(placed, state)
        assert model.rooms.suffices(tuple(needed.tolist()))
        assert relative_error(found, expected) < 1e-4  # of the tables, and float32


@pytest.mark.parametrize("name", [*NETWORKS, "cutoff"])
@pytest.mark.parametrize("pbc", [False, True])
def test_forecasts_are_those_of_the_host(name, pbc, device):
    changes = NETWORKS.get(name, {"cutoff": 6.0})
    network = small_model(**{"encoding": "thermal"} | changes).to(device)
    rng = np.random.default_rng(3)
    cell = 4.1 * np.eye(3)
    states = [
        random_state(rng, size, cell=cell if pbc else None, pbc=pbc)
        for size in (3, 9, 1)
    ]
    state = join(states).to(device)
    engine = Engine(network, (), 1.0)
    engine.start(state)
    engine.advance(1, [0, 0, 0])
    with torch.no_grad():
        displacements, velocities = conserved_forecast(network, state)
    after, forecast = engine.now(), engine.forecast()
    for found, expected in (
        (after.positions - state.positions, displacements),
        (after.velocities, velocities),
        (forecast.velocities, velocities),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_sums_do_not_depend_on_the_batch(device):
    rng = np.random.default_rng(0)
    sizes = [1, 5, CHUNK, 3 * CHUNK + 7, CHUNK * CHUNK + 9]
    states = [make_state(rng.normal(size=(size, 3))) for size in sizes]
    batch = LaidOutState.of(join(states).to(device))
    total = batch.sums(batch.positions)
    for k, state in enumerate(states):
        alone = LaidOutState.of(state.to(device))
        assert torch.equal(alone.sums(alone.positions)[0], total[k])
        exact = state.positions.sum(0).to(device)
        torch.testing.assert_close(total[k], exact, rtol=1e-12, atol=1e-10)
    counted = batch.sums(torch.ones_like(batch.system_index))
    assert counted.tolist() == sizes


def test_sums_of_groups(device):
    rng = np.random.default_rng(1)
    state = join([random_state(rng, 9), random_state(rng, 4)]).to(device)
    values = state.positions
    mine = LaidOutState.of(state).group_sums(values, state.atomic_numbers, 10)
    theirs = state.group_sums(values, state.atomic_numbers, 10)
    torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)
    assert mine.shape == (20, 3)


def kinetic_energies_of_many(make, device, n_systems=64, n_atoms=12):
    """Return 2 K / kT of systems in free flight, every tenth stride, and n_dof."""
    rng = np.random.default_rng(4)
    state = join(
        [random_state(rng, n_atoms, cell=9 * np.eye(3), pbc=True)] * n_systems
    ).to(device)
    streams = Streams([np.random.default_rng(k) for k in range(n_systems)])
    horizon = 7 * units.fs
    engine = Engine(Ballistic(7.0), [make(streams)], horizon)
    found = []
    for k in range(13):
        engine.start(state)
        engine.advance(10, [10 * k] * n_systems)
        engine.hand_over()
        state = engine.now()
        resting = state.velocities - com_velocity(state)[state.system_index]
        kinetic = kinetic_energies(state.moved(state.positions, resting))
        found.append(2 * kinetic.cpu().numpy() / (units.kB * 300.0))
    return np.array(found[3:]), 3 * n_atoms - 3


@pytest.mark.statistical
@pytest.mark.parametrize(
    "make",
    [
        lambda rng: CSVR(300, 10.5 * units.fs, rng),
        lambda rng: Langevin(300, 1 / (10.5 * units.fs), rng),
        lambda rng: AdaptiveLangevin(300, 1 / (10.5 * units.fs), 900 * units.fs, rng),
    ],
    ids=["csvr", "langevin", "adaptive"],
)
def test_kinetic_energies_are_canonical(make, device):
    """2 K / kT is chi-squared with n_dof, in 64 systems at ten times.

    A right thermostat fails for one seed in 1e4. Wrong degrees of freedom (3 N, and two
    less than right) do fail.
    """
    values, n_dof = kinetic_energies_of_many(make, device)
    assert values.shape == (10, 64)
    flat = values.ravel()
    assert kstest(flat, chi2(n_dof).cdf).pvalue > 1e-4
    assert abs(flat.mean() - n_dof) < 4 * np.sqrt(2 * n_dof / flat.size)
    for wrong in (n_dof + 3, n_dof - 2):
        assert kstest(flat, chi2(wrong).cdf).pvalue < 1e-4


def test_memory_is_refused_in_one_sentence():
    with pytest.raises(MemoryError, match=r"about 250 atoms fit; use a smaller system"):
        require(2**32, 2**30, 1000, torch.device("cuda:0"))
    require(2**30, 2**32, 1000, torch.device("cuda:0"))


def test_the_estimate_grows_with_atoms_and_cutoff():
    def estimate(n_atoms, cutoff):
        network = small_model("thermal", cutoff=cutoff)
        atoms = water().repeat(1)
        for _ in range(n_atoms - 1):
            more = water()
            more.positions += 3.1 * len(atoms)
            atoms += more
        return estimated_bytes(started(network, atoms)._stride)

    assert 0 < estimate(1, 3.0) < estimate(8, 3.0)
    assert estimate(8, 3.0) < 2**30


def test_a_model_on_two_devices_is_refused():
    network = small_model("thermal")
    network.readout.to("meta")
    with pytest.raises(ValueError, match=r"several devices \(.*meta.*move all"):
        check_one_device(network)


def test_rooms_grow_only_where_it_is_needed():
    engine = started(small_model("thermal"), water())
    rooms = engine._static.rooms
    pairs, box, edges = rooms.numbers()
    assert rooms.suffices((pairs, box, edges))
    assert not rooms.suffices((pairs + 1, 0, 0))
    grown = rooms.grown((pairs + 100, 0, 0))
    assert grown.pairs == Room((pairs + 100) * 3 // 2, box)
    assert grown.edges == edges


def test_single_atoms_have_no_axes_to_turn_about():
    rng = np.random.default_rng(0)
    places = rng.uniform(-50, 50, (200, 1, 3))
    masses = rng.uniform(1, 200, 200)
    state = join(
        [make_state(p, masses=[m]) for p, m in zip(places, masses, strict=True)]
    )
    counted = RigidBodies.of(state, Conservation()).n_conserved
    assert counted.tolist() == [3] * 200


def test_a_stride_is_laid_out_anew_where_it_holds_old_numbers():
    bath = Langevin(300, 1 / TAUT, np.random.default_rng(0))
    network = small_model("thermal")
    engine = started(network, water(), [bath])
    state = engine._shown

    def changed():
        before = engine._stride
        engine.start(state)
        return engine._stride is not before

    assert not changed()
    bath.set_temperature(200)
    assert not changed()  # the host writes it for each block
    bath.friction *= 2
    assert changed()
    network.to(torch.float32)
    assert changed()
    state = replace(state, masses=2 * state.masses)
    assert changed()
    state = state.moved(state.positions + 1, state.velocities)
    assert not changed()


class Wild(Ballistic):
    """Free flight into nowhere beyond 2.5 Å; it notes its starts."""

    starts: ClassVar[list[torch.Tensor]] = []

    def raw_forecast(self, state):
        self.starts.append(state.positions.clone())
        displacements, velocities = super().raw_forecast(state)
        gone = state.positions[:, :1] > 2.5
        return torch.where(gone, torch.nan, displacements), velocities


def test_no_forecast_starts_from_what_is_not_finite(monkeypatch):
    monkeypatch.setattr(Wild, "starts", [])
    state = join(
        [
            make_state([[0.5, 0, 0], [9.0 * k, 5, 5]], [[0.1, 0, 0], [-0.1, 0, 0]])
            for k in (0, 1)
        ]
    )
    engine = Engine(Wild(7.0), (), 1.0)
    engine.start(state)
    made = engine.advance(20, [0, 0])
    assert made.failed == (1,)
    assert made.strides == 1
    engine.start(state, [True, False])
    made = engine.advance(20, [0, 0])
    assert (made.strides, made.failed) == (4, (0,))
    assert len(Wild.starts) > 40
    assert all(bool(torch.isfinite(start).all()) for start in Wild.starts)
