"""Pairs on the device: those of the host, to the last bit, and searched only once."""

import logging

import numpy as np
import pytest
import torch
from fakes import NoTransfers, without_numbers
from helpers import ELEMENTS, needs_compiler, small_model
from spring_runs import spring_run, write_hdf5

from trajcast_ase.neighbors import find_edges
from trajcast_ase.training import resident
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.loop import train
from trajcast_ase.training.loss import ForecastLoss
from trajcast_ase.training.pairs import make_pairs, thin
from trajcast_ase.training.resident import MIB, ResidentPairs, fits, n_bytes, placed
from trajcast_ase.trajectory import Frames

MASSES = np.array([1.0, 12.0, 16.0])
ROOM = 2**20
STATE = ("positions", "velocities", "masses", "atomic_numbers", "cell", "pbc")


def run_of(rng, n_atoms, pbc) -> Frames:
    """Return atoms in free flight, in a skewed cell, wrapped."""
    cell = np.array([[4.1, 0, 0], [0.7, 3.9, 0], [-0.4, 0.6, 4.3]])
    velocities = 0.01 * rng.normal(size=(12, n_atoms, 3))
    flown = 3.5 * np.cumsum(velocities, axis=0)
    positions = rng.uniform(0, 4, size=(n_atoms, 3)) + flown
    if all(pbc):
        positions = (positions @ np.linalg.inv(cell) % 1.0) @ cell
    kinds = rng.integers(len(ELEMENTS), size=n_atoms)
    return Frames(
        positions=positions,
        velocities=velocities,
        atomic_numbers=np.array(ELEMENTS)[kinds],
        masses=MASSES[kinds],
        cell=cell if any(pbc) else np.zeros((3, 3)),
        pbc=np.array(pbc),
        stride_fs=3.5,
        source="memory",
    )


@pytest.fixture(scope="module")
def dataset():
    """Return pairs of a crystal, a molecule and a slab, each of another size."""
    rng = np.random.default_rng(1)
    runs = [
        make_pairs(run_of(rng, n, pbc), 7.0, checks_motion=False)
        for n, pbc in ((7, [True] * 3), (3, [False] * 3), (5, [True, True, False]))
    ]
    return PairDataset(thin(runs, 17))


def choices(dataset, rows=6):
    """Yield the pairs of some batches, each pair both ways in the end."""
    rng = np.random.default_rng(2)
    for _ in range(8):
        yield rng.integers(len(dataset), size=rows), rng.random(rows) < 0.5
    every = np.arange(len(dataset))
    yield every, every % 2 == 0
    yield every, every % 2 == 1


def test_batches_are_those_of_the_host(dataset):
    pairs = ResidentPairs(dataset, small_model(), ROOM)
    for indices, reverse in choices(dataset):
        found = pairs.batch(indices, reverse)
        expected = dataset.batch(indices, reverse=reverse)
        for name in (*STATE, "system_index"):
            ours, theirs = getattr(found.state, name), getattr(expected.state, name)
            assert torch.equal(ours, theirs), name
            assert ours.dtype == theirs.dtype
        assert torch.equal(found.displacements, expected.displacements)
        assert torch.equal(found.velocities, expected.velocities)
        assert found.state.has_isolated() == expected.state.has_isolated()


@pytest.mark.parametrize("room", [0, 5000, ROOM])
def test_neighbors_are_those_of_the_batch_and_searched_once(dataset, room, monkeypatch):
    model, searched = small_model(), []

    def counted(state, *arguments):
        searched.append(state.n_atoms)
        return find_edges(state, *arguments)

    monkeypatch.setattr(resident, "find_edges", counted)
    pairs = ResidentPairs(dataset, model, room)
    for _ in range(2):
        for indices, reverse in choices(dataset):
            found = pairs.batch(indices, reverse).state
            wanted = find_edges(found, model.config.reach)
            for name in ("receivers", "senders", "vectors"):
                ours, theirs = getattr(found.edges, name), getattr(wanted, name)
                assert torch.equal(ours, theirs), name
                assert ours.dtype == theirs.dtype
    frames = sum(len(np.union1d(p.starts, p.starts + p.lag)) for p in dataset.parts)
    if room == ROOM:
        assert len(searched) == pairs.n_kept == frames
    else:
        assert len(searched) > frames > pairs.n_kept
        assert (pairs.n_kept > 0) == (room > 0)


def gradients(model, batch):
    model.zero_grad(set_to_none=True)
    loss = ForecastLoss(model)(batch)
    torch.autograd.backward(loss)
    return loss.detach(), [one.grad.clone() for one in model.parameters()]


@pytest.mark.parametrize("changes", [{}, {"surroundings_cutoff": 5.0}])
def test_losses_and_gradients_are_those_of_the_host(dataset, changes):
    model = small_model(**changes).requires_grad_()
    pairs = ResidentPairs(dataset, model, ROOM)
    for indices, reverse in choices(dataset):
        loss, found = gradients(model, pairs.batch(indices, reverse))
        wanted, expected = gradients(model, dataset.batch(indices, reverse=reverse))
        assert torch.equal(loss, wanted)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


@needs_compiler
def test_surroundings_that_a_backend_sums_are_not_listed(dataset):
    model = small_model(dtype=torch.float32, surroundings_cutoff=5.0)
    model.requires_grad_().set_backend("cpp")
    pairs = ResidentPairs(dataset, model, ROOM)
    every = np.arange(len(dataset))
    batch = pairs.batch(every, every < 0)
    lengths = batch.state.edges.vectors.norm(dim=1)
    assert float(lengths.max()) < model.config.cutoff
    loss, _ = gradients(model, batch)
    wanted, _ = gradients(model, dataset.batch(every))
    assert torch.equal(loss, wanted)


def test_a_loss_and_its_gradients_read_nothing_on_the_host(dataset):
    model = small_model().requires_grad_()
    pairs = ResidentPairs(dataset, model, ROOM)
    every = np.arange(len(dataset))
    batch = without_numbers(pairs.batch(every, every < 0))
    bare = without_numbers(model)
    with NoTransfers():
        loss = ForecastLoss(bare)(batch)
        torch.autograd.backward(loss)
    with pytest.raises(RuntimeError, match="meta"):
        float(loss.detach())


def test_pairs_go_where_there_is_room(caplog):
    free = 100 * MIB
    with caplog.at_level(logging.WARNING):
        assert fits(30 * MIB, free, "auto")
        assert not caplog.records
        assert not fits(31 * MIB, free, "auto")
    (line,) = caplog.messages
    assert "take 31 MiB, and 100 MiB of the device are free: they stay on" in line
    assert fits(31 * MIB, free, "device")
    with pytest.raises(MemoryError, match=r"choose run\.data_on"):
        fits(101 * MIB, free, "device")


def test_pairs_of_the_host_go_to_the_device_where_they_are_told_to(dataset):
    model = small_model()
    assert placed(dataset, model, "auto") is None
    assert placed(dataset, model, "host") is None
    pairs = placed(dataset, model, "device")
    held = [pairs._positions, pairs._velocities, pairs._moved]
    assert sum(one.nbytes for one in held) == n_bytes(dataset)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("springs")
    for seed in range(2):
        write_hdf5(folder / f"run-{seed}.h5", *spring_run(20, seed))
    return folder


def configured(folder, out, where, consecutive=1) -> TrainingConfig:
    content = {
        "data": {"train": ["run-*.h5"], "horizon_fs": 4.0, "validation_pairs": 5},
        "network": {"cutoff": 3.0, "n_channels": 4, "n_layers": 1}
        | {"edge_mlp": [8], "velocity_mlp": [8]},
        "optimizer": {"steps": 12, "batch_size": 2, "refresh_every": 3}
        | {"consecutive_pairs": consecutive},
        "run": {"directory": str(out), "dtype": "float64", "threads": 1}
        | {"data_on": where, "backend": "reference"},
    }
    return TrainingConfig.from_dict(content, folder=folder)


def assert_same(one, other):
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("consecutive", [1, 2])
def test_a_training_takes_the_same_steps_wherever_its_pairs_are(
    folder, tmp_path, consecutive
):
    host, device = (
        train(configured(folder, tmp_path / where, where, consecutive)).model
        for where in ("host", "device")
    )
    assert_same(host, device)


def test_a_training_goes_on_with_its_pairs_elsewhere(folder, tmp_path):
    whole = train(configured(folder, tmp_path / "whole", "host"))
    train(configured(folder, tmp_path / "parts", "device"), until=0.5)
    parts = train(configured(folder, tmp_path / "parts", "host"))
    assert_same(whole.model, parts.model)
