"""Which backend computes a network, and the seam between the two."""

import copy
import logging
import pickle  # noqa: TID251  what users may do
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import (
    TOLERANCES,
    needs_compiler,
    random_state,
    relative_error,
    small_model,
)

from trajcast_ase import load_model, save_model
from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import backends
from trajcast_ase.network.backend import Backend, BackendError
from trajcast_ase.network.backends import BACKENDS
from trajcast_ase.network.cpu import build
from trajcast_ase.network.cpu.build import CompilerError
from trajcast_ase.network.inference.layers import ready_layers
from trajcast_ase.network.inference.matrices import LayerMatrices
from trajcast_ase.network.inference.shape import LayerShape


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """Hide the compiler, and what it has compiled before."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def new_model(**changes):
    return small_model("thermal", torch.float32, n_layers=1, **changes)


@pytest.mark.usefixtures("no_compiler")
def test_automatic_choice_without_compiler_says_so_once(caplog):
    with caplog.at_level(logging.WARNING):
        model = new_model().set_backend("auto")
    assert model.backend.name == "reference"
    (record,) = caplog.records
    assert "computing with the backend 'reference'" in record.message
    assert "install g++ or clang++" in record.message


@pytest.mark.usefixtures("no_compiler")
def test_explicit_choice_without_compiler_is_an_error():
    model = new_model().set_backend("reference")
    with pytest.raises(CompilerError, match="install g\\+\\+ or clang\\+\\+"):
        model.set_backend("cpp")
    assert model.backend.name == "reference"


@needs_compiler
def test_automatic_choice_with_compiler():
    model = new_model().set_backend("auto")
    assert model.backend.name == "cpp"
    assert model.set_backend("reference").backend.name == "reference"


def test_choices_that_cannot_work_are_refused():
    with pytest.raises(
        ValueError, match=r"unknown backend 'cuda'.*'cpp', 'triton', 'reference'"
    ):
        new_model().set_backend("cuda")
    elsewhere = new_model().to("meta")
    with pytest.raises(ValueError, match="the model is on meta"):
        elsewhere.set_backend("cpp")
    assert elsewhere.set_backend("auto").backend.name == "reference"


@needs_compiler
def test_network_that_moved_off_the_cpu_has_the_reference():
    model = new_model().set_backend("cpp")
    assert model.backend.name == "cpp"
    assert model.to("meta").backend.name == "reference"


@dataclass(frozen=True)
class Counting(Backend):
    """Torch's products and layers of ones; notes its calls."""

    name: ClassVar[str] = "counting"
    calls: list[str] = field(default_factory=list, compare=False)
    works: bool = True

    def check(self):
        if not self.works:
            raise BackendError("the abacus is broken")

    def computes_on(self, device):
        return device.type == "cpu"

    def layers(self, network, outputs):
        return ready_layers(network, outputs, partial(Passing, self.calls))

    def convolve(self, product, *arguments):
        self.calls.append("convolve")
        return super().convolve(product, *arguments)


@dataclass
class Passing:
    """A layer that returns ones."""

    calls: list[str]
    shape: LayerShape
    matrices: LayerMatrices

    def __call__(self, x, *_):
        self.calls.append("layer")
        return x.new_ones(x.shape[0], self.shape.dim_out, self.shape.n_channels)


def test_a_backend_of_ones_own_runs_and_trains(monkeypatch):
    state, own = random_state(np.random.default_rng(3)), Counting()
    monkeypatch.setattr(backends, "BACKENDS", {"counting": own, **BACKENDS})
    model = new_model().set_backend("counting").requires_grad_()
    assert model.backend is own
    expected, _ = copy.deepcopy(model).set_backend("reference").raw_forecast(state)
    moved, _ = model.raw_forecast(state)
    assert torch.equal(moved, expected)
    moved.sum().backward()
    assert own.calls == ["convolve"]
    with torch.no_grad():
        constant, _ = model.raw_forecast(state)
    assert own.calls == ["convolve", "layer"]
    assert torch.equal(constant, constant[:1].expand_as(constant))
    assert new_model().set_backend("auto").backend is own
    assert model.to("meta").backend.name == "reference"


def test_a_backend_need_not_be_known_by_name():
    own = Counting()
    assert new_model().set_backend(own).backend is own
    with pytest.raises(BackendError, match="abacus"):
        new_model().set_backend(Counting(works=False))


def test_automatic_choice_passes_over_what_fails(monkeypatch, caplog):
    known = {"counting": Counting(works=False), "reference": BACKENDS["reference"]}
    monkeypatch.setattr(backends, "BACKENDS", known)
    assert new_model().set_backend("auto").backend.name == "reference"
    (record,) = caplog.records
    assert "the abacus is broken" in record.message


DEFAULT_DEVICE = """
import numpy as np, torch
from helpers import random_state, small_model
from trajcast_ase.stride import conserved_forecast
state = random_state(np.random.default_rng(3))
for dtype in (torch.float32, torch.float64):
    for changes in ({}, {"surroundings_cutoff": 6.0}):
        for grads in (False, True):
            model = small_model("thermal", dtype, **changes).set_backend("cpp")
            with torch.set_grad_enabled(grads):
                expected = conserved_forecast(model, state)
                model.set_backend("cpp")
                with torch.device("meta"):
                    found = conserved_forecast(model, state)
            assert all(map(torch.equal, found, expected))
print("as before")
"""


@needs_compiler
def test_default_device_of_torch_changes_nothing():
    """In a process of its own: a kernel that writes to no memory ends it."""
    outcome = subprocess.run(
        [sys.executable, "-c", DEFAULT_DEVICE],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert outcome.stdout == "as before\n", outcome.stderr


@needs_compiler
@pytest.mark.parametrize("way_out", ["no_grad", "set_backend"])
@torch.no_grad()
def test_weights_that_are_written_to(way_out):
    state = random_state(np.random.default_rng(3))
    model = new_model().set_backend("cpp")
    first, _ = model.raw_forecast(state)
    weight = model.layers[0].edge_mlp.weights[-1]
    if way_out == "no_grad":
        weight.mul_(2.0)
    else:  # nothing tells of it
        weight.data.mul_(2.0)
        model.set_backend("cpp")
    found, _ = model.raw_forecast(state)
    expected, _ = model.set_backend("reference").raw_forecast(state)
    assert relative_error(first, expected) > 1e-3
    assert relative_error(found, expected) < TOLERANCES[torch.float32]["twin"]


@needs_compiler
@torch.no_grad()
def test_copies_and_pickles_go_without_tables():
    state = random_state(np.random.default_rng(3))
    model = new_model().set_backend("cpp")
    expected, _ = model.raw_forecast(state)
    assert model._engine._layers is not None
    weights = sum(p.nbytes for p in model.parameters())
    tables = sum(
        part.edge.values.nbytes
        for part in (layer.tables for layer in model._engine._layers.layers)
    )
    data = pickle.dumps(model)
    assert len(data) < 2 * weights + 50_000 < tables
    for twin in (copy.deepcopy(model), pickle.loads(data)):  # noqa: S301
        assert twin._engine._layers is None
        assert twin.backend.name == "cpp"
        assert torch.equal(twin.raw_forecast(state)[0], expected)


@needs_compiler
@pytest.mark.parametrize("how", ["load", "copy", "move", "build"])
def test_inference_mode_changes_nothing(how, tmp_path):
    state = random_state(np.random.default_rng(3))
    model = new_model().set_backend("cpp")
    path = tmp_path / "model.trajcast"
    save_model(model, path)
    with torch.inference_mode():
        if how == "load":
            model = load_model(path)
        elif how == "copy":
            model = copy.deepcopy(model)
        elif how == "move":
            model = model.double().float()
        else:
            model = new_model().set_backend("cpp")
        first, _ = model.raw_forecast(state)
        again, _ = model.raw_forecast(state)
        assert torch.equal(first, again)
        # Tables follow the weights in this mode, too.
        model.layers[0].edge_mlp.weights[-1].mul_(2.0)
        changed, _ = model.raw_forecast(state)
        expected, _ = model.set_backend("reference").raw_forecast(state)
    assert relative_error(changed, first) > 1e-2
    assert relative_error(changed, expected) < 1e-5


@needs_compiler
def test_a_model_loaded_in_inference_mode_can_be_trained(tmp_path):
    state = random_state(np.random.default_rng(3))
    path = tmp_path / "model.trajcast"
    save_model(new_model(), path)
    with torch.inference_mode():
        model = load_model(path)
        model.raw_forecast(state)
    model.requires_grad_()
    model.raw_forecast(state)[0].sum().backward()
    assert model.readout.weight.grad is not None


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_forecaster_gives_the_same_forecast_and_gradient(dtype):
    model = small_model("thermal", dtype).requires_grad_()
    state = random_state(np.random.default_rng(3))
    edges = find_edges(state, model.config.cutoff)
    results = []
    for backend in ("reference", "cpp"):
        model.set_backend(backend)
        targets = model(state.atomic_numbers, state.velocities, edges)
        parameters = list(model.parameters())
        gradient = torch.autograd.grad((targets**2).sum(), parameters)
        with torch.no_grad():
            again = model(state.atomic_numbers, state.velocities, edges)
        results.append([targets, again, torch.cat([g.flatten() for g in gradient])])
    for expected, ours in zip(*results, strict=True):
        assert relative_error(ours, expected) < TOLERANCES[dtype]["twin"]
